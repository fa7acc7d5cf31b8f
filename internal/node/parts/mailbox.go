// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package parts

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/store/seglog"
	"github.com/rustyonions/macronode/internal/svc/mailbox"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/snapfile"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tenants"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// Folders of the mailbox's directory.
const (
	mailboxLog       = "log"
	mailboxSnapshots = "snapshots"
)

// MailboxSettings are what the bundle says of the mailbox.
func MailboxSettings(c *config.Config) mailbox.Settings {
	m := &c.Mailbox
	return mailbox.Settings{
		MaxMessageBytes: int64(m.MaxMessageBytes), MaxBatch: int(m.MaxBatch), MaxTopics: int(m.MaxTopics), MaxWait: m.MaxWait,
		Tenant: tenants.Load{tenants.Messages: m.TenantMaxDepth, tenants.Bytes: int64(m.TenantMaxBytes), tenants.InFlight: m.TenantMaxInFlight, tenants.Keys: m.TenantMaxKeys},
		Topic: queue.Config{Retention: m.Retention, DeadRetention: m.DLQRetention, ReplayWindow: m.ReplayWindow, Visibility: m.VisibilityTimeout,
			MaxAttempts: m.MaxAttempts, MaxDepth: m.MaxDepth, MaxBytes: int64(m.MaxBytes), MaxInFlight: m.MaxInFlight, MaxKeys: m.MaxKeys, MaxAge: m.MaxAge},
	}
}

// Mail is the mailbox of a data directory, opened. Log is the Broker's; Close
// closes both.
type Mail struct {
	Broker *broker.Broker
	Log    *seglog.Log
	// LogFound and Found are what opening the two found.
	LogFound seglog.Found
	Found    broker.Found
}

// OpenMail opens the mailbox of a directory, or begins one.
func OpenMail(d datadir.Dir, reserve int64, s func() mailbox.Settings, events broker.Events, log *slog.Logger) (m *Mail, err error) {
	m = &Mail{}
	dir := d.At(datadir.MailboxDir)
	m.Log, m.LogFound, err = seglog.Open(seglog.Config{FS: d.FS, Dir: filepath.Join(dir, mailboxLog), Reserve: reserve, Log: log})
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", FormatError(err, seglog.ErrNewer))
	}
	snapshots, err := snapfile.Open(d.FS, filepath.Join(dir, mailboxSnapshots))
	if err == nil {
		// The service holds callers to the config's limits, which change while it
		// runs; the broker to what no config can exceed.
		limits := broker.Limits{MaxTopics: s().MaxTopics, MaxMessageBytes: mailbox.MaxMessageBytes, MaxBatch: form.MaxReceipts, MaxWait: mailbox.MaxWait}
		m.Broker, m.Found, err = broker.Open(broker.Config{Log: m.Log, Snapshots: snapshots, Defaults: func() queue.Config { return s().Topic },
			Tenant: func() tenants.Load { return s().Tenant },
			Limits: limits, Events: events, Logger: log})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mailbox: %w", err), m.Log.Close())
	}
	return m, nil
}
