// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/svc/storage/storagetest"
)

// away is another service as Elsewhere: what it has, this one finds.
type away struct {
	t       *testing.T
	d       *storagetest.Driver
	mu      sync.Mutex
	firsts  []storage.Want
	changes []string
	open    int
	fail    error // of streams, after their first bytes
	ctype   string
}

func (w *away) Find(ctx context.Context, t macronode.TenantID, a b3.Addr, first storage.Want) (storage.Remote, error) {
	l, err := w.d.Service.Local(ctx, t, a)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.firsts = append(w.firsts, first)
	w.open++
	return &far{Local: l, w: w}, nil
}

func (w *away) Stored(_ macronode.TenantID, a b3.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, "+"+a.String())
}

func (w *away) Dropped(_ macronode.TenantID, a b3.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, "-"+a.String())
}

type far struct {
	*storage.Local
	w      *away
	closed bool
}

func (f *far) ContentType() string {
	if f.w.ctype != "" {
		return f.w.ctype
	}
	return f.Local.ContentType()
}

func (f *far) Open(_ context.Context, w storage.Want) (macronode.Stream, error) {
	return &farStream{f: f, want: w}, nil
}

func (f *far) Close() error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if !f.closed {
		f.w.open--
	}
	f.closed = true
	return nil
}

type farStream struct {
	f    *far
	want storage.Want
}

func (s *farStream) WriteTo(w io.Writer) (int64, error) {
	if s.f.w.fail != nil {
		n, _ := w.Write([]byte("beginning"))
		return int64(n), s.f.w.fail
	}
	if s.want.Group != storage.PlainBytes {
		return s.f.WriteSlice(w, s.want.Group, s.want.Off, s.want.N)
	}
	return s.f.WriteRange(w, s.want.Off, s.want.N)
}

func (s *farStream) Close() error { return nil }

// A read of an object that another node has is answered as one of an own object, byte
// for byte, and leaves nothing behind.
func TestElsewhere(t *testing.T) {
	w := &away{t: t, d: storagetest.NewDriver(t, memEnv(t))}
	d := storagetest.NewDriver(t, memEnv(t), func(c *storage.Config) { c.Elsewhere = w })
	tn := storagetest.Tenant(1)
	for _, n := range []int{0, 100, 100_000} {
		body := storagetest.Bytes(n, 1)
		addr := w.d.MustPut(tn, body)
		etag := `"` + addr + `"`
		for _, h := range []macronode.Header{
			nil, {"Range": {"bytes=5-9"}}, {"Range": {"bytes=-7"}}, {"Range": {"bytes=1-2,50-60"}}, {"Range": {"bytes=999999-"}},
			{"If-None-Match": {etag}}, {"If-Match": {`"x"`}}, {"Accept": {"application/vnd.bao;group=4"}},
			{"Accept": {"application/vnd.bao"}, "Range": {"bytes=3-40"}},
		} {
			for _, op := range []macronode.Op{"object.get", "object.stat"} {
				want, errWant := w.d.Do(storagetest.Request{Tenant: tn, Op: op, Addr: addr, Header: h})
				got, err := d.Do(storagetest.Request{Tenant: tn, Op: op, Addr: addr, Header: h})
				if macronode.KindOf(err) != macronode.KindOf(errWant) {
					t.Fatalf("%s %d %v: %v, want %v", op, n, h, err, errWant)
				}
				if err != nil {
					continue
				}
				multi := len(h["Range"]) == 1 && h["Range"][0] == "bytes=1-2,50-60" && op == "object.get" && n > 0 // boundaries are random
				if got.Status != want.Status || got.Length != want.Length || !multi && (got.Type != want.Type || !bytes.Equal(got.Body, want.Body)) ||
					got.Header.Get("Etag") != want.Header.Get("Etag") || got.Header.Get("Content-Range") != want.Header.Get("Content-Range") {
					t.Errorf("%s %d %v: %d %s %d bytes, want %d %s %d", op, n, h, got.Status, got.Type, len(got.Body), want.Status, want.Type, len(want.Body))
				}
			}
		}
	}
	if w.open != 0 {
		t.Errorf("%d objects were not closed", w.open)
	}
	if b, o := d.Usage(tn); b != 0 || o != 0 || d.Stored() != 0 {
		t.Errorf("%d bytes, %d objects, %d stored: something was kept", b, o, d.Stored())
	}
	if _, err := d.Do(storagetest.Request{Tenant: storagetest.Tenant(2), Op: "object.get", Addr: b3.Sum(storagetest.Bytes(100, 1)).String()}); macronode.KindOf(err) != macronode.NotFound {
		t.Errorf("another tenant: %v", err)
	}
}

// What is going to be read is said at once; what a reply does not need is not asked for.
func TestFirstWant(t *testing.T) {
	w := &away{t: t, d: storagetest.NewDriver(t, memEnv(t))}
	d := storagetest.NewDriver(t, memEnv(t), func(c *storage.Config) { c.Elsewhere = w })
	tn := storagetest.Tenant(1)
	addr := w.d.MustPut(tn, storagetest.Bytes(100_000, 1))
	const all = 1<<63 - 1
	for _, c := range []struct {
		op   macronode.Op
		h    macronode.Header
		want storage.Want
	}{
		{"object.get", nil, storage.Want{N: all, Group: storage.PlainBytes}},
		{"object.get", macronode.Header{"Range": {"bytes=5-9"}}, storage.Want{Off: 5, N: 5, Group: storage.PlainBytes}},
		{"object.get", macronode.Header{"Range": {"bytes=5-"}, "Accept": {"application/vnd.bao;group=4"}}, storage.Want{Off: 5, N: all - 5, Group: b3.SliceGroups}},
		{"object.get", macronode.Header{"Range": {"bytes=5-9,20-"}}, storage.Want{}},
		{"object.get", macronode.Header{"If-None-Match": {`"x"`}}, storage.Want{}},
		{"object.stat", nil, storage.Want{}},
	} {
		w.firsts = nil
		if _, err := d.Do(storagetest.Request{Tenant: tn, Op: c.op, Addr: addr, Header: c.h}); err != nil {
			t.Fatal(err)
		}
		if len(w.firsts) != 1 || w.firsts[0] != c.want {
			t.Errorf("%s %v: %+v, want %+v", c.op, c.h, w.firsts, c.want)
		}
	}
}

// A type is the other node's word, and held to what a put may say. A stream that
// fails breaks the reply off.
func TestElsewhereIsNotBelieved(t *testing.T) {
	w := &away{t: t, d: storagetest.NewDriver(t, memEnv(t)), ctype: "text/html\r\nSet-Cookie: x=1"}
	d := storagetest.NewDriver(t, memEnv(t), func(c *storage.Config) { c.Elsewhere = w })
	tn := storagetest.Tenant(1)
	addr := w.d.MustPut(tn, storagetest.Bytes(100_000, 1))
	a, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr})
	if err != nil || a.Type != "application/octet-stream" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v %v", err, a)
	}
	w.fail = errors.New("no more")
	if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr}); !errors.Is(err, w.fail) {
		t.Errorf("a stream that failed: %v", err)
	}
}

// What is here is not looked for elsewhere, and every change is told.
func TestChangesAreTold(t *testing.T) {
	w := &away{t: t, d: storagetest.NewDriver(t, memEnv(t))}
	d := storagetest.NewDriver(t, memEnv(t), func(c *storage.Config) { c.Elsewhere = w })
	tn := storagetest.Tenant(1)
	one, two := d.MustPut(tn, []byte("one")), d.MustPut(tn, []byte("two"))
	w.d.MustPut(tn, []byte("one"))
	if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: one}); err != nil || len(w.firsts) != 0 {
		t.Errorf("%v, asked %d times", err, len(w.firsts))
	}
	if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.delete", Addr: one}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.delete", Addr: one}); macronode.KindOf(err) != macronode.NotFound {
		t.Errorf("what another node has was deleted: %v", err)
	}
	seen := map[b3.Addr]bool{}
	if err := d.Service.EachReference(t.Context(), func(_ macronode.TenantID, a b3.Addr) bool { seen[a] = true; return true }); err != nil || len(seen) != 1 {
		t.Errorf("%v, %d references", err, len(seen))
	}
	if err := d.Service.Purge(t.Context(), tn.ID); err != nil {
		t.Fatal(err)
	}
	want := []string{"+" + one, "+" + two, "-" + one, "-" + two}
	if len(w.changes) != len(want) {
		t.Fatalf("told %v", w.changes)
	}
	for i, c := range want {
		if w.changes[i] != c {
			t.Errorf("change %d: %s, want %s", i, w.changes[i], c)
		}
	}
}
