// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package macronode

import "context"

// Yielder is a call's place in the node, which it may give to who waits for one.
type Yielder interface{ Yield() }

type yieldKey struct{}

// WithYielder returns a context with which Yield gives y's place away.
func WithYielder(ctx context.Context, y Yielder) context.Context {
	return context.WithValue(ctx, yieldKey{}, y)
}

// Yield says that the call has done its work but for a wait that needs no
// processor, for a disk above all: another call may have its place. It does nothing
// where the call has none, or its route does not yield. The handler's own goroutine
// calls it, before the handler returns.
func Yield(ctx context.Context) {
	if y, ok := ctx.Value(yieldKey{}).(Yielder); ok {
		y.Yield()
	}
}
