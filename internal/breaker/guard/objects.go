// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"io"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/store"
)

// Objects is bytes behind a breaker. What takes as long as a client likes (a
// transfer, a walk) is refused like the rest and reports its failures, but is not
// waited for: a slow reader is no stall of the store.
type Objects struct {
	o store.Objects
	b *breaker.Breaker
}

var _ store.Objects = (*Objects)(nil)

// NewObjects wraps o.
func NewObjects(o store.Objects, b *breaker.Breaker) *Objects { return &Objects{o, b} }

// ProbeObjects tries o by reading its directories.
func ProbeObjects(o store.Objects) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := o.Check(ctx); err != nil {
			return err
		}
		_, err := o.Volumes(ctx)
		return err
	}
}

// Create implements store.Objects.
func (g *Objects) Create(ctx context.Context, sizeHint int64) (w store.ObjectWriter, err error) {
	p, err := g.b.Enter()
	if err != nil {
		return nil, err
	}
	defer func() { p.Leave(err) }()
	if w, err = g.o.Create(ctx, sizeHint); err != nil {
		return nil, err
	}
	return &writer{w, g.b}, nil
}

// Open implements store.Objects.
func (g *Objects) Open(ctx context.Context, loc store.Loc, addr b3.Addr, size int64) (o store.Object, err error) {
	p, err := g.b.Enter()
	if err != nil {
		return nil, err
	}
	defer func() { p.Leave(err) }()
	if o, err = g.o.Open(ctx, loc, addr, size); err != nil {
		return nil, err
	}
	return &object{o, g.b}, nil
}

// Remove implements store.Objects.
func (g *Objects) Remove(ctx context.Context, locs ...store.Loc) (err error) {
	p, err := g.b.Enter()
	if err != nil {
		return err
	}
	defer func() { p.Leave(err) }()
	return g.o.Remove(ctx, locs...)
}

// Volumes implements store.Objects.
func (g *Objects) Volumes(ctx context.Context) (v []store.Volume, err error) {
	p, err := g.b.Enter()
	if err != nil {
		return nil, err
	}
	defer func() { p.Leave(err) }()
	return g.o.Volumes(ctx)
}

// WalkVolume implements store.Objects.
func (g *Objects) WalkVolume(ctx context.Context, id string, f func(store.Loc, b3.Addr, int64) bool) error {
	if err := g.b.Allow(); err != nil {
		return err
	}
	err := g.o.WalkVolume(ctx, id, f)
	g.b.Report(err)
	return err
}

// Settle implements store.Objects.
func (g *Objects) Settle(ctx context.Context, id string) (err error) {
	p, err := g.b.Enter()
	if err != nil {
		return err
	}
	defer func() { p.Leave(err) }()
	return g.o.Settle(ctx, id)
}

// Check implements store.Objects; an open breaker is a reason of its own.
func (g *Objects) Check(ctx context.Context) error {
	if err := g.b.Check(); err != nil {
		return err
	}
	return g.o.Check(ctx)
}

// Close implements store.Objects.
func (g *Objects) Close() error { return g.o.Close() }

// writer is refused at Commit, which is what counts.
type writer struct {
	store.ObjectWriter
	b *breaker.Breaker
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.ObjectWriter.Write(p)
	w.b.Report(err)
	return n, err
}

func (w *writer) Commit() (loc store.Loc, addr b3.Addr, size int64, err error) {
	p, err := w.b.Enter()
	if err != nil {
		w.Abort()
		return "", b3.Addr{}, 0, err
	}
	defer func() { p.Leave(err) }()
	return w.ObjectWriter.Commit()
}

// object was opened while the breaker let it: its reads go on and are judged. What
// WriteRange returns may be the fault of who is written to, so it is not.
type object struct {
	store.Object
	b *breaker.Breaker
}

func (o *object) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.Object.ReadAt(p, off)
	if err != io.EOF {
		o.b.Report(err)
	}
	return n, err
}
