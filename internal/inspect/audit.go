// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/node/auditor"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/storage/fsck"
)

// lostAudit is the kind of damage to the audit log.
const lostAudit = "lost_audit"

// Audit is what was found of the audit log.
type Audit struct {
	State      string `json:"state"` // "whole", "damaged", "restored", or why it was not looked at
	First      uint64 `json:"first"` // record that is left
	Records    uint64 `json:"records"`
	Checkpoint uint64 `json:"checkpoint"` // records that the newest covers
	Restored   uint64 `json:"restored,omitempty"`
}

// checkAudit verifies the whole audit log: each record, the chain, the tiles and places
// in metadata, and the newest checkpoint. With an export it restores what is damaged.
func (r *FsckReport) checkAudit(ctx context.Context, d datadir.Dir, o FsckOptions) error {
	if !d.Exists(datadir.AuditDir) {
		return nil
	}
	r.Audit = &Audit{State: "whole"}
	skip := func(err error) error {
		r.Audit.State = fmt.Sprintf("not looked at: %v", err)
		if o.FromExport != "" {
			return fmt.Errorf("the audit log cannot be restored: %w", err)
		}
		return nil
	}
	text, err := d.FS.ReadFile(d.At(datadir.BundleName), datadir.MaxFileBytes)
	if err != nil {
		return skip(err)
	}
	judged, err := config.Check(text, d.At(datadir.BundleName), datadir.Features())
	if err != nil {
		return skip(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	keys, err := d.OpenKeystore(judged.Config.KMS.Root, kms.Options{Log: quiet}, true)
	if err != nil {
		return skip(err) // told by checkKeystore
	}
	defer keys.Close()
	kv, err := parts.OpenMeta(d, parts.Unreserved(), quiet, func(error) {})
	if err != nil {
		return skip(err) // told by checkStores
	}
	defer kv.Close()
	s := &auditor.Stopped{Dir: d, KV: kv, Keys: keys, Key: judged.Config.Audit.Key}
	damage := r.readAudit(ctx, s, o)
	if damage == nil || !errors.Is(damage, store.ErrCorrupt) {
		return damage
	}
	find := fsck.Finding{Kind: lostAudit, Subject: "audit", Detail: damage.Error()}
	r.Audit.State = "damaged"
	r.Counts[lostAudit]++
	if o.Repair && o.FromExport != "" {
		err := r.restoreAudit(ctx, s, o)
		if err == nil {
			find.Fixed = true
			r.Fixed++
			r.Findings = append(r.Findings, find)
			return nil
		}
		if !errors.Is(err, tree.ErrNotRestored) && !errors.Is(err, store.ErrCorrupt) {
			return err
		}
		find.Detail += "; " + err.Error()
	}
	r.Lost++
	r.Findings = append(r.Findings, find)
	return nil
}

// readAudit opens and verifies the log.
func (r *FsckReport) readAudit(ctx context.Context, s *auditor.Stopped, o FsckOptions) error {
	t, shut, err := s.Open(ctx)
	if err != nil {
		return err
	}
	r.Audit.First, r.Audit.Records = t.First(), t.Durable()
	if c := t.Published(); c != nil {
		r.Audit.Checkpoint = c.Size
	}
	if !o.Quick {
		err = t.Verify(ctx, func(done, of uint64) {
			if o.Progress != nil {
				o.Progress("audit", int64(done), int64(of), 0) //nolint:gosec // within the largest tree
			}
		})
	}
	return errors.Join(err, shut())
}

// restoreAudit makes the log anew and verifies it again, all of it.
func (r *FsckReport) restoreAudit(ctx context.Context, s *auditor.Stopped, o FsckOptions) error {
	got, err := s.Restore(ctx, o.FromExport)
	if err != nil {
		return err
	}
	o.Quick = false
	if err := r.readAudit(ctx, s, o); err != nil {
		return err
	}
	r.Audit.State, r.Audit.Restored = "restored", got.Exported
	return nil
}
