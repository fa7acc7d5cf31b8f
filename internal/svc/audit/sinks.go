// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"

	"github.com/rustyonions/macronode/internal/svc/audit/forward"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
)

// Sinks fits a forwarder to the service.
type Sinks struct{ *forward.Forwarder }

// Name implements Beside.
func (s Sinks) Name() string { return "sinks" }

// Serve implements Beside.
func (s Sinks) Serve(ctx context.Context, t *tree.Tree) error { return s.Forwarder.Serve(ctx, t) }
