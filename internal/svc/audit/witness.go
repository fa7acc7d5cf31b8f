// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/audit/cosign"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

// Witnesses fits a cosigner to the service.
type Witnesses struct{ *cosign.Cosigner }

// Name implements Beside.
func (w Witnesses) Name() string { return "witnesses" }

// Serve implements Beside.
func (w Witnesses) Serve(ctx context.Context, t *tree.Tree) error { return w.Cosigner.Serve(ctx, t) }

// newest is the newest checkpoint, with what witnesses said of it.
func (s *Service) newest(c *tlog.Signed) []byte {
	if s.cfg.Cosigner == nil {
		return c.Note
	}
	if n := s.cfg.Cosigner.Newest(); n != nil && n.Checkpoint == c.Checkpoint {
		return n.Note
	}
	return c.Note
}

// cosigned serves the newest checkpoint that a quorum of witnesses signed.
func (s *Service) cosigned(context.Context, *macronode.Admitted) (*macronode.Reply, error) {
	if s.cfg.Cosigner == nil {
		return nil, macronode.Errorf(macronode.NotFound, "no witnesses are configured")
	}
	n := s.cfg.Cosigner.Newest()
	if n == nil {
		return nil, macronode.Errorf(macronode.NotFound, "no checkpoint has a quorum of cosignatures yet")
	}
	return &macronode.Reply{ContentType: noteType, Body: n.Note, Header: macronode.Header{"Cache-Control": {"no-store"}}}, nil
}

// witnessed is the checkpoint with a quorum that covers a record, once there is one.
func (s *Service) witnessed(ctx context.Context, seq uint64) (*tlog.Signed, error) {
	if s.cfg.Cosigner == nil {
		return nil, macronode.Errorf(macronode.NotFound, "no witnesses are configured")
	}
	n, err := s.cfg.Cosigner.Covering(ctx, seq)
	switch {
	case err != nil:
		return nil, macronode.Wrap(macronode.Unavailable, "the record has no checkpoint with a quorum of cosignatures yet", err)
	case n == nil:
		return nil, macronode.Errorf(macronode.NotFound, "no witnesses are configured")
	}
	return &tlog.Signed{Checkpoint: n.Checkpoint, Note: n.Note}, nil
}
