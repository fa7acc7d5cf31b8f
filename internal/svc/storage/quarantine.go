// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// maxSuspects bounds the damage that replies have met and nobody has recorded yet.
// What finds no place is left to the scrub.
const maxSuspects = 64

// suspect is bytes that did not verify.
type suspect struct {
	loc   store.Loc
	where string // the part of the node that met them
	cause error
}

// suspected hands damage that a reply met to the one who records it.
func (s *Service) suspected(l store.Loc, cause error) {
	select {
	case s.suspects <- suspect{l, "object", cause}:
	default:
	}
}

func (s *Service) quarantineLoop(ctx context.Context) error {
	for {
		if err := s.countBad(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.recount:
		case x := <-s.suspects:
			s.quarantine(ctx, x)
		}
	}
}

// replaced is called after bytes were let go of: they may have been in quarantine.
func (s *Service) replaced() {
	s.wake()
	if s.bad.Load() > 0 {
		s.countLater()
	}
}

func (s *Service) countLater() {
	select {
	case s.recount <- struct{}{}:
	default:
	}
}

// countBad finds out how much is in quarantine.
func (s *Service) countBad(ctx context.Context) error {
	n := int64(0)
	err := s.kv.View(ctx, func(r store.Reader) error {
		n = 0
		return refs.EachBad(r, func(refs.Bad) bool { n++; return true })
	})
	if err != nil {
		if errors.Is(err, store.ErrCorrupt) {
			return err
		}
		return nil // the count stays as it is
	}
	s.bad.Store(n)
	s.m.quarantined.Set(float64(n))
	return nil
}

// quarantine records that the bytes at a place are damaged, once: in metadata, in
// the log and in the audit record of everybody who refers to them. Bytes that
// nobody refers to any more are not worth it.
func (s *Service) quarantine(ctx context.Context, x suspect) {
	var fresh bool
	var owners []refs.Owner
	// It is little, and a full disk is when things break.
	err := s.kv.Reclaim(ctx, func(tx store.Tx) (err error) {
		if owners, err = refs.Owners(tx, x.loc); err != nil {
			return err
		}
		fresh, err = refs.Quarantine(tx, x.loc, s.now().UnixMilli(), x.where)
		return err
	})
	if err != nil {
		s.log.Warn("damage could not be recorded", "event", "object.quarantine", "where", x.where, "error", errors.Join(err, x.cause))
		if errors.Is(err, store.ErrCorrupt) {
			s.fail(err)
		}
		return
	}
	if !fresh {
		return
	}
	if x.where != "object" { // replies count what they meet themselves
		s.m.ScrubFail.Inc()
	}
	s.countLater()
	for _, o := range owners {
		s.log.Error("stored bytes are damaged; a put of the object heals it", "event", "object.damaged", "where", x.where,
			"tenant", o.Tenant.String(), "object", o.Addr.String(), "error", x.cause)
		s.audit.Record(macronode.AuditEvent{
			Stream: "tenant/" + o.Tenant.String(), Kind: "object.damaged", Actor: "node", Subject: "object/" + o.Addr.String(),
			Reason: "integrity", Attrs: map[string]any{"where": x.where}, Must: true,
		})
	}
}

func (s *Service) healed(l store.Loc) {
	s.countLater()
	s.log.Info("bytes in quarantine verify again", "event", "object.released", "loc", string(l))
}

// noAudit is the auditor of a service that was given none.
type noAudit struct{}

func (noAudit) Record(macronode.AuditEvent)                        {}
func (noAudit) Append(context.Context, macronode.AuditEvent) error { return nil }
