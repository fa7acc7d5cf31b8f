// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/breaker/guard"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
)

// makeMailbox makes svc-mailbox, and opens what it keeps: a log that a later version
// wrote keeps the node from starting. Damage, and a full disk, do not: the service
// says what it cannot do, and the others run.
func (n *Node) makeMailbox(ctx context.Context, c *config.Config) (err error) {
	n.mailAway = guard.Mailbox(n.breakers, func(ctx context.Context) error {
		if m := n.mail.Load(); m != nil {
			return m.Broker.Check(ctx)
		}
		return nil // it is being opened
	})
	m := mailbox.NewMetrics(n.metrics, n.tenantLabel)
	n.mailbox, err = mailbox.New(mailbox.Config{Open: n.openMail, Idem: n.idem, Settings: parts.MailboxSettings(c), Metrics: m, Log: n.log})
	if err != nil {
		return datadir.Exitf(macronode.ExitConfig, "%w", err)
	}
	n.mailbox.Watch(n.metrics)
	n.onStop("mailbox", func(context.Context) error { return n.mailbox.Close() })
	err = n.mailbox.Prepare(ctx)
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrFull) {
		n.log.Error("the mailbox cannot be opened", "event", "mailbox_open", "service", mailbox.Name, "error", err)
		return nil
	}
	return err
}

// tenantLabel is how metrics name a tenant.
func (n *Node) tenantLabel(id macronode.TenantID) string {
	if n.access != nil {
		if t := n.access.Find(id.String()); t != nil {
			return t.Label
		}
	}
	return id.String()
}

// openMail opens the mailbox's directory and says what it found there.
func (n *Node) openMail(_ context.Context, settings func() mailbox.Settings, events broker.Events) (mailbox.Opened, error) {
	reserve := n.reserve.Load()
	m, err := parts.OpenMail(n.dir, reserve, settings, events, n.log)
	if err != nil {
		return mailbox.Opened{}, err
	}
	n.mail.Store(m)
	f, l := &m.Found, &m.LogFound
	log := n.log.Info
	if f.DamagedRecords > 0 || f.SnapshotsRefused > 0 || len(l.Damaged) > 0 {
		log = n.log.Error
	}
	log("the mailbox is open", "event", "mailbox_open", "service", mailbox.Name, "topics", f.Topics, "messages", f.Messages, "dead", f.Dead,
		"records_read", f.Records, "snapshot", f.Snapshot, "snapshots_refused", f.SnapshotsRefused,
		"damaged_records", f.DamagedRecords, "damaged_bytes", f.DamagedBytes, "topics_remade", f.TopicsRemade, "damaged_segments", len(l.Damaged),
		"torn_bytes", l.TornBytes, "segments", l.Segments, "log_bytes", l.Bytes, "latency_ms", float64(f.Took.Microseconds())/1000)
	return mailbox.Opened{Broker: guard.NewBroker(m.Broker, n.mailAway), Close: func() error {
		n.mail.CompareAndSwap(m, nil)
		return m.Log.Close()
	}}, nil
}

// setMailReserve applies data.reserve_bytes to the mailbox's log, now and when it is
// opened again.
func (n *Node) setMailReserve(bytes int64) {
	n.reserve.Store(bytes)
	if m := n.mail.Load(); m != nil {
		m.Log.SetReserve(bytes)
	}
}
