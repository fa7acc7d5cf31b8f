// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

// PruneKind is the kind of the record that says what was cut off, before it is.
const PruneKind = "audit.prune"

// lookLeast and lookMost are how often a Retainer looks for what is old.
const (
	lookLeast = time.Second
	lookMost  = time.Minute
)

// Archive keeps what is cut off.
type Archive interface {
	// Keep makes what write writes durable under a name, once check has read it back
	// and agreed. An older one of that name is replaced.
	Keep(name string, write func(io.Writer) error, check func(io.Reader) error) error
}

// RetainConfig is what a Retainer needs; all of it is required.
type RetainConfig struct {
	Archive Archive
	// Versions are the keys that have signed checkpoints of the log, by version.
	Versions func(origin string) ([][]tlog.Key, error)
	// Read is the index before which all who forward the log have it.
	Read func(all uint64) (least uint64, ok bool)
	// Record makes a record durable.
	Record  func(context.Context, macronode.AuditEvent) error
	Log     *slog.Logger
	Metrics *metrics.Registry
	Now     func() time.Time
}

// Retainer archives records that are older than is wanted, and cuts them off.
type Retainer struct {
	cfg      RetainConfig
	archived prometheus.Counter
	failed   prometheus.Counter

	mu      sync.Mutex
	keep    time.Duration // 0: for ever
	changed chan struct{}
}

// NewRetainer returns one that keeps everything.
func NewRetainer(cfg RetainConfig) *Retainer {
	return &Retainer{
		cfg: cfg, changed: make(chan struct{}),
		archived: cfg.Metrics.Counter("audit_archived_total", "Audit records that were archived and cut off."),
		failed:   cfg.Metrics.Counter("audit_archive_errors_total", "Times that audit records were to be archived and could not be."),
	}
}

// SetKeep makes records stay for so long from now on; 0: for ever.
func (r *Retainer) SetKeep(keep time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keep == keep {
		return
	}
	r.keep = keep
	close(r.changed)
	r.changed = make(chan struct{})
}

// Name implements Beside.
func (r *Retainer) Name() string { return "retention" }

// Serve implements Beside. It first finishes what an earlier one left.
func (r *Retainer) Serve(ctx context.Context, t *tree.Tree) error {
	if err := t.Sweep(ctx); err != nil {
		return err
	}
	failing := false
	for ctx.Err() == nil {
		r.mu.Lock()
		keep, changed := r.keep, r.changed
		r.mu.Unlock()
		if keep > 0 {
			err := r.cut(ctx, t, keep)
			if err != nil && ctx.Err() == nil {
				r.failed.Inc()
				if !failing {
					r.cfg.Log.Error("old audit records could not be archived: they stay", "event", "audit_prune", "service", Name, "error", err)
				}
			}
			failing = err != nil
		}
		look := time.NewTimer(min(max(keep/10, lookLeast), lookMost))
		select {
		case <-look.C:
		case <-changed:
		case <-ctx.Done():
		}
		look.Stop()
	}
	return nil
}

// cut archives and prunes what is old, as far as everybody has read it.
func (r *Retainer) cut(ctx context.Context, t *tree.Tree, keep time.Duration) error {
	least, ok := r.cfg.Read(t.Durable())
	if !ok {
		return nil // nobody knows yet
	}
	m, ok, err := t.Prunable(ctx, r.cfg.Now().Add(-keep).UnixMilli(), least)
	if err != nil || !ok {
		return err
	}
	keys, err := r.keys(t, m.Note)
	if err != nil {
		return err
	}
	first := t.First()
	name := fmt.Sprintf("%012d-%012d.audit", first, m.Size)
	var cut *tree.Cut
	err = r.cfg.Archive.Keep(name, func(w io.Writer) (err error) {
		cut, err = t.Archive(ctx, m, w)
		return err
	}, func(in io.Reader) error {
		v, err := tlog.VerifyExport(in, keys, nil)
		if err == nil && (v.Head.First != first || v.Signed.Size != m.Size) {
			err = errors.New("audit: the archive is of other records")
		}
		return err
	})
	if err != nil {
		return err
	}
	e := macronode.AuditEvent{Stream: "node", Kind: PruneKind, Actor: "node", Subject: "node/audit",
		Attrs: map[string]any{"first": int64(first), "size": int64(m.Size), "left_from": int64(cut.First)}} //nolint:gosec // within the largest tree
	if err := r.cfg.Record(ctx, e); err != nil {
		return err
	}
	if err := t.Prune(ctx, cut); err != nil {
		return err
	}
	r.archived.Add(float64(cut.First - first))
	r.cfg.Log.Info("old audit records were archived and cut off", "event", "audit_prune", "service", Name, "archive", name, "first", first, "left_from", cut.First)
	return nil
}

// keys are those of the version that signed the note.
func (r *Retainer) keys(t *tree.Tree, note []byte) ([]tlog.Key, error) {
	versions, err := r.cfg.Versions(tree.Origin(t.Writer()))
	if err != nil {
		return nil, err
	}
	err = errors.New("audit: no version of the key signed the checkpoint")
	for _, keys := range versions {
		if _, err = tlog.OpenLog(note, keys); err == nil {
			return keys, nil
		}
	}
	return nil, err
}
