// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/storage/fsck"
)

// Kinds of damage to the mailbox.
const (
	lostMessages = "lost_messages"
	badSnapshot  = "damaged_snapshot"
)

// Mailbox is what was found in the mailbox's directory.
type Mailbox struct {
	Topics   int   `json:"topics"`
	Messages int64 `json:"messages"`
	Dead     int64 `json:"dead"`
	Records  int64 `json:"records"` // in the log, all of them read and verified
	Segments int   `json:"segments"`
	LogBytes int64 `json:"log_bytes"`
	// TornBytes were staged and not durable when a crash cut the log: no loss.
	TornBytes int64 `json:"torn_bytes"`
}

// openMail opens the mailbox as a start does, with no reserve.
func openMail(d datadir.Dir) (*parts.Mail, error) {
	c := parts.Unreserved()
	settings := func() mailbox.Settings { return parts.MailboxSettings(&c) }
	return parts.OpenMail(d, 0, settings, broker.Events{}, slog.New(slog.DiscardHandler))
}

// checkMailbox reads the mailbox's log through, which verifies every record, and
// makes the state of its topics of it. A snapshot that cannot be read is no loss:
// the log holds what it held, and repair writes another.
func (r *FsckReport) checkMailbox(ctx context.Context, d datadir.Dir, o FsckOptions) error {
	if !d.Exists(datadir.MailboxDir) {
		return nil
	}
	find := func(kind, subject, detail string) {
		r.Counts[kind]++
		r.Findings = append(r.Findings, fsck.Finding{Kind: kind, Subject: subject, Detail: detail})
	}
	m, err := openMail(d)
	if errors.Is(err, store.ErrCorrupt) {
		r.Lost++
		find(lostMessages, "mailbox", err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	defer m.Log.Close()
	box := Mailbox{Topics: m.Found.Topics, Messages: m.Found.Messages, Dead: m.Found.Dead, Segments: m.LogFound.Segments, LogBytes: m.LogFound.Bytes, TornBytes: m.LogFound.TornBytes}
	if !o.Quick {
		err = m.Log.Scan(0, func(store.Pos, []byte) error { box.Records++; return ctx.Err() }, func(at store.Pos, bytes int64) {
			r.Lost++
			find(lostMessages, fmt.Sprintf("mailbox segment %d at %d", at.Segment(), at.Offset()), fmt.Sprintf("%d bytes cannot be read", bytes))
		})
		if err != nil {
			return err
		}
	}
	r.Mailbox = &box
	if m.Found.SnapshotsRefused == 0 {
		return nil
	}
	find(badSnapshot, "mailbox", fmt.Sprintf("%d of its snapshots cannot be read; nothing is lost by that", m.Found.SnapshotsRefused))
	if !o.Repair {
		r.Left++
		return nil
	}
	stop, cancel := context.WithCancel(ctx)
	cancel()
	if err := m.Broker.Serve(stop); err != nil { // it ends at once, with a snapshot
		return err
	}
	r.Fixed++
	return nil
}

// mailbox checks that the mailbox opens, and what is in it.
func (r *CheckReport) mailbox(d datadir.Dir) {
	if r.held || !d.Exists(datadir.MailboxDir) {
		return
	}
	lock, err := d.FS.LockDir(d.Path)
	if err != nil {
		return // told by directory
	}
	defer lock.Close()
	m, err := openMail(d)
	if err != nil {
		r.add("mailbox", err, "", severityError, "macronode fsck says what is damaged; restore the data directory from a backup")
		return
	}
	defer m.Log.Close()
	var damage error
	if n := len(m.LogFound.Damaged); n > 0 || m.Found.DamagedRecords > 0 {
		damage = fmt.Errorf("%d segments and %d records cannot be read", n, m.Found.DamagedRecords)
	}
	r.add("mailbox", damage, fmt.Sprintf("%d topics, %d messages, %d dead letters", m.Found.Topics, m.Found.Messages, m.Found.Dead), severityWarning,
		"macronode fsck says where; the rest is served")
}
