// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rustyonions/macronode/internal/svc/audit/tree"
)

// againAfter is the wait before what ended in an error runs again.
const againAfter = time.Second

// Beside is what runs beside the writer while the log is open, and never holds it up:
// it only reads. Serve ends with ctx.
type Beside interface {
	Name() string
	Serve(ctx context.Context, t *tree.Tree) error
}

// runBeside runs all of them until ctx ends, each again where it fails or panics.
// The function that it returns waits for their end.
func (s *Service) runBeside(ctx context.Context, t *tree.Tree) (wait func()) {
	var group sync.WaitGroup
	for _, b := range s.cfg.Beside {
		group.Go(func() {
			for ctx.Err() == nil {
				if err := contained(ctx, b, t); err != nil && ctx.Err() == nil {
					s.cfg.Log.Error("a part of the audit log ended and runs again", "event", "audit_beside", "service", Name, "part", b.Name(), "error", err)
				}
				again := time.NewTimer(againAfter)
				select {
				case <-again.C:
				case <-ctx.Done():
				}
				again.Stop()
			}
		})
	}
	return group.Wait
}

// contained runs b once; a panic is an error.
func contained(ctx context.Context, b Beside, t *tree.Tree) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return b.Serve(ctx, t)
}
