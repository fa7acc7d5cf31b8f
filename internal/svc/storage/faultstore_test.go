// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// faultKV fails on demand.
type faultKV struct {
	store.KV
	update, reclaim, view atomic.Pointer[error]
}

func failing(p *atomic.Pointer[error]) error {
	if e := p.Load(); e != nil {
		return *e
	}
	return nil
}

func (k *faultKV) View(ctx context.Context, f func(store.Reader) error) error {
	if err := failing(&k.view); err != nil {
		return err
	}
	return k.KV.View(ctx, f)
}

func (k *faultKV) Update(ctx context.Context, f func(store.Tx) error) error {
	if err := failing(&k.update); err != nil {
		return err
	}
	return k.KV.Update(ctx, f)
}

func (k *faultKV) Reclaim(ctx context.Context, f func(store.Tx) error) error {
	if err := failing(&k.reclaim); err != nil {
		return err
	}
	return k.KV.Reclaim(ctx, f)
}

// faultObjects fails on demand, and damages what is read from damageAt on.
type faultObjects struct {
	store.Objects
	create, write, commit, remove atomic.Pointer[error]

	mu     sync.Mutex
	damage map[store.Loc]int64
	opened func(store.Loc) // called before an object is opened

	committed func() // called after an object was committed
	walked    func() // called after a walk
}

func (o *faultObjects) WalkVolume(ctx context.Context, id string, f func(store.Loc, b3.Addr, int64) bool) error {
	err := o.Objects.WalkVolume(ctx, id, f)
	if o.walked != nil {
		o.walked()
	}
	return err
}

func (o *faultObjects) Create(ctx context.Context, hint int64) (store.ObjectWriter, error) {
	if err := failing(&o.create); err != nil {
		return nil, err
	}
	w, err := o.Objects.Create(ctx, hint)
	return &faultWriter{w, o}, err
}

func (o *faultObjects) Remove(ctx context.Context, l ...store.Loc) error {
	if err := failing(&o.remove); err != nil {
		return err
	}
	return o.Objects.Remove(ctx, l...)
}

func (o *faultObjects) Open(ctx context.Context, l store.Loc, a b3.Addr, size int64) (store.Object, error) {
	o.mu.Lock()
	at, ok := o.damage[l]
	hook := o.opened
	o.mu.Unlock()
	if hook != nil {
		hook(l)
	}
	obj, err := o.Objects.Open(ctx, l, a, size)
	if err != nil || !ok {
		return obj, err
	}
	return &damaged{obj, at}, nil
}

// damageAll damages every object that is stored now, from off on.
func (o *faultObjects) damageAll(t *testing.T, off int64) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.damage = map[store.Loc]int64{}
	err := store.Walk(context.Background(), o, func(l store.Loc, _ b3.Addr, _ int64) bool { o.damage[l] = off; return true })
	if err != nil {
		t.Fatal(err)
	}
}

type faultWriter struct {
	store.ObjectWriter
	o *faultObjects
}

func (w *faultWriter) Write(p []byte) (int, error) {
	if err := failing(&w.o.write); err != nil {
		return 0, err
	}
	return w.ObjectWriter.Write(p)
}

func (w *faultWriter) Commit() (store.Loc, b3.Addr, int64, error) {
	if err := failing(&w.o.commit); err != nil {
		return "", b3.Addr{}, 0, err
	}
	l, a, n, err := w.ObjectWriter.Commit()
	if w.o.committed != nil {
		w.o.committed()
	}
	return l, a, n, err
}

type damaged struct {
	store.Object
	at int64
}

func (d *damaged) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > d.at {
		return 0, fmt.Errorf("group: %w", store.ErrCorrupt)
	}
	return d.Object.ReadAt(p, off)
}

func (d *damaged) WriteRange(w io.Writer, off, n int64) (int64, error) {
	if off+n <= d.at {
		return d.Object.WriteRange(w, off, n)
	}
	m, err := d.Object.WriteRange(w, off, max(d.at-off, 0))
	if err == nil {
		err = fmt.Errorf("group: %w", store.ErrCorrupt)
	}
	return m, err
}
