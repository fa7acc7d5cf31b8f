// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/store/storetest"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

var errDisk = &os.PathError{Op: "x", Path: "x", Err: syscall.EIO}

func TestKV(t *testing.T) {
	storetest.KV(t, func(*testing.T) store.KV {
		return NewKV(mem.NewKV(mem.KVConfig{}), breaker.New(breaker.Config{Name: "metadata"}))
	})
}

func TestObjects(t *testing.T) {
	storetest.Objects(t, func(*testing.T) store.Objects {
		return NewObjects(mem.NewObjects(mem.ObjectsConfig{}), breaker.New(breaker.Config{Name: "objects"}))
	})
}

// faulty fails in every method, or not at all.
type faulty struct {
	store.KV
	store.Objects
	err error
}

func (f *faulty) View(ctx context.Context, g func(store.Reader) error) error {
	if f.err != nil {
		return f.err
	}
	return f.KV.View(ctx, g)
}

func (f *faulty) Update(ctx context.Context, g func(store.Tx) error) error {
	if f.err != nil {
		return f.err
	}
	return f.KV.Update(ctx, g)
}

func (f *faulty) Reclaim(ctx context.Context, g func(store.Tx) error) error {
	if f.err != nil {
		return f.err
	}
	return f.KV.Reclaim(ctx, g)
}

func (f *faulty) Check(context.Context) error { return nil }
func (f *faulty) Close() error                { return nil }

func (f *faulty) Create(ctx context.Context, n int64) (store.ObjectWriter, error) {
	if f.err != nil {
		return nil, f.err
	}
	w, err := f.Objects.Create(ctx, n)
	return &faultyWriter{w, f}, err
}

func (f *faulty) Open(ctx context.Context, loc store.Loc, addr b3.Addr, size int64) (store.Object, error) {
	if f.err != nil {
		return nil, f.err
	}
	o, err := f.Objects.Open(ctx, loc, addr, size)
	if err != nil {
		return nil, err
	}
	return &faultyObject{o, f}, nil
}

func (f *faulty) Remove(ctx context.Context, l ...store.Loc) error {
	return errors.Join(f.err, f.Objects.Remove(ctx, l...))
}

func (f *faulty) Volumes(ctx context.Context) ([]store.Volume, error) {
	v, err := f.Objects.Volumes(ctx)
	return v, errors.Join(f.err, err)
}

func (f *faulty) WalkVolume(ctx context.Context, id string, g func(store.Loc, b3.Addr, int64) bool) error {
	return errors.Join(f.err, f.Objects.WalkVolume(ctx, id, g))
}

func (f *faulty) Settle(context.Context, string) error { return f.err }

type faultyWriter struct {
	store.ObjectWriter
	f *faulty
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	if w.f.err != nil {
		return 0, w.f.err
	}
	return w.ObjectWriter.Write(p)
}

func (w *faultyWriter) Commit() (store.Loc, b3.Addr, int64, error) {
	if w.f.err != nil {
		return "", b3.Addr{}, 0, w.f.err
	}
	return w.ObjectWriter.Commit()
}

type faultyObject struct {
	store.Object
	f *faulty
}

func (o *faultyObject) ReadAt(p []byte, off int64) (int, error) {
	if o.f.err != nil {
		return 0, o.f.err
	}
	return o.Object.ReadAt(p, off)
}

// Each method counts its failures and is refused while the breaker is open; an
// answer that is a refusal of the store's own is none.
func TestEveryMethod(t *testing.T) {
	ctx := t.Context()
	f := &faulty{KV: mem.NewKV(mem.KVConfig{}), Objects: mem.NewObjects(mem.ObjectsConfig{})}
	b := breaker.New(breaker.Config{Name: "disk", Failures: 1})
	kv, objects := NewKV(f, b), NewObjects(f, b)
	read := func(store.Reader) error { return nil }
	write := func(store.Tx) error { return nil }
	begin := func() (store.ObjectWriter, store.Object) {
		w, err := objects.Create(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		o, err := storetest.Put(ctx, objects, []byte("x"), 1)
		if err != nil {
			t.Fatal(err)
		}
		open, err := objects.Open(ctx, o.Loc, o.Addr, 1)
		if err != nil {
			t.Fatal(err)
		}
		return w, open
	}
	for _, c := range []struct {
		name    string
		do      func(w store.ObjectWriter, o store.Object) error
		goes_on bool // also while the breaker is open
	}{
		{"View", func(store.ObjectWriter, store.Object) error { return kv.View(ctx, read) }, false},
		{"Update", func(store.ObjectWriter, store.Object) error { return kv.Update(ctx, write) }, false},
		{"Reclaim", func(store.ObjectWriter, store.Object) error { return kv.Reclaim(ctx, write) }, false},
		{"Create", func(store.ObjectWriter, store.Object) error { _, err := objects.Create(ctx, 1); return err }, false},
		{"Open", func(store.ObjectWriter, store.Object) error {
			_, err := objects.Open(ctx, "nowhere", b3.Addr{}, 1)
			if errors.Is(err, store.ErrNotFound) {
				err = nil
			}
			return err
		}, false},
		{"Remove", func(store.ObjectWriter, store.Object) error { return objects.Remove(ctx) }, false},
		{"Volumes", func(store.ObjectWriter, store.Object) error { _, err := objects.Volumes(ctx); return err }, false},
		{"WalkVolume", func(store.ObjectWriter, store.Object) error { return objects.WalkVolume(ctx, "none", nil) }, false},
		{"Settle", func(store.ObjectWriter, store.Object) error { return objects.Settle(ctx, "none") }, false},
		{"Write", func(w store.ObjectWriter, _ store.Object) error { _, err := w.Write([]byte("x")); return err }, true},
		{"Commit", func(w store.ObjectWriter, _ store.Object) error { _, _, _, err := w.Commit(); return err }, false},
		{"ReadAt", func(_ store.ObjectWriter, o store.Object) error {
			_, err := o.ReadAt(make([]byte, 1), 0)
			if err == io.EOF {
				err = nil
			}
			return err
		}, true},
	} {
		f.err = nil
		b.Force(breaker.ForcedClosed, 0, "")
		b.Force(breaker.Auto, 0, "")
		w, o := begin()
		if err := c.do(w, o); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		w, o = begin()
		f.err = store.ErrFull
		c.do(w, o)
		if err := b.Check(); err != nil {
			t.Errorf("%s: a full store opens the breaker", c.name)
		}
		f.err = nil
		w, o = begin()
		f.err = errDisk
		if err := c.do(w, o); !errors.Is(err, errDisk) {
			t.Errorf("%s: %v", c.name, err)
		}
		if b.Check() == nil {
			t.Errorf("%s: its failures do not count", c.name)
		}
		f.err = nil
		err := c.do(w, o)
		if c.goes_on && err != nil || !c.goes_on && (!errors.Is(err, breaker.ErrOpen) || macronode.KindOf(store.Refusal(err)) != macronode.Unavailable) {
			t.Errorf("%s behind an open breaker: %v", c.name, err)
		}
		if kv.Check(ctx) == nil || objects.Check(ctx) == nil {
			t.Errorf("%s: Check says nothing of the breaker", c.name)
		}
	}
}

// A closure that panics leaves no call behind.
func TestPanic(t *testing.T) {
	b := breaker.New(breaker.Config{Name: "metadata"})
	kv := NewKV(mem.NewKV(mem.KVConfig{}), b)
	func() {
		defer func() { recover() }()
		kv.View(t.Context(), func(store.Reader) error { panic("a closure") })
	}()
	if n := b.Status().InFlight; n != 0 {
		t.Errorf("%d calls in flight", n)
	}
}

func TestProbes(t *testing.T) {
	f := &faulty{KV: mem.NewKV(mem.KVConfig{}), Objects: mem.NewObjects(mem.ObjectsConfig{})}
	for name, probe := range map[string]func(context.Context) error{"kv": ProbeKV(f), "objects": ProbeObjects(f)} {
		f.err = nil
		if err := probe(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.err = errDisk
		if err := probe(t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("%s: %v", name, err)
		}
	}
	kept := 0
	f.KV.View(t.Context(), func(r store.Reader) error { return r.Scan(nil, nil, func(_, _ []byte) bool { kept++; return true }) })
	if kept != 0 {
		t.Error("a probe leaves something")
	}
}

// records is a vault of one record.
type records struct {
	kms.Vault
	err error
}

func (r *records) Names() []string { return []string{"key/a"} }
func (r *records) Load(_ string, f func([]byte) error) error {
	if r.err != nil {
		return r.err
	}
	return f(nil)
}
func (r *records) Save(string, []byte) error             { return r.err }
func (r *records) Remove(string) error                   { return r.err }
func (r *records) Public() ([]byte, error)               { return nil, r.err }
func (r *records) SavePublic([]byte) error               { return r.err }
func (r *records) Fetch(context.Context) ([]byte, error) { return []byte("doc"), r.err }

func TestVaultAndSource(t *testing.T) {
	r := &records{}
	b := breaker.New(breaker.Config{Name: "keystore", Failures: 1})
	v := NewVault(r, b)
	source := NewSource(r, b)
	for name, do := range map[string]func() error{
		"Load":       func() error { return v.Load("key/a", func([]byte) error { return nil }) },
		"Save":       func() error { return v.Save("key/a", nil) },
		"Remove":     func() error { return v.Remove("key/a") },
		"Public":     func() error { _, err := v.Public(); return err },
		"SavePublic": func() error { return v.SavePublic(nil) },
		"Fetch":      func() error { _, err := source.Fetch(t.Context()); return err },
		"probe":      func() error { return v.Load(v.Names()[0], func([]byte) error { return nil }) },
	} {
		r.err = nil
		b.Force(breaker.ForcedClosed, 0, "")
		b.Force(breaker.Auto, 0, "")
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r.err = kms.ErrNoRecord
		do()
		if b.Check() != nil {
			t.Errorf("%s: a missing record opens the breaker", name)
		}
		r.err = errDisk
		if err := do(); !errors.Is(err, errDisk) || b.Check() == nil {
			t.Errorf("%s: %v %v", name, err, b.Check())
		}
		r.err = nil
		if err := do(); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%s behind an open breaker: %v", name, err)
		}
	}
	if err := ProbeVault(r)(t.Context()); err != nil {
		t.Error(err)
	}
	r.err = errDisk
	if err := ProbeVault(r)(t.Context()); !errors.Is(err, errDisk) {
		t.Error(err)
	}
}

func BenchmarkView(b *testing.B) {
	bare := mem.NewKV(mem.KVConfig{})
	f := func(store.Reader) error { return nil }
	for name, kv := range map[string]store.KV{"bare": bare, "guarded": NewKV(bare, breaker.New(breaker.Config{Name: "metadata"}))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := kv.View(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
