// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/svc/storage/storagetest"
)

type faulty struct {
	*storagetest.Driver
	kv        *faultKV
	objects   *faultObjects
	integrity prometheus.Counter
}

func faultyDriver(t *testing.T) *faulty {
	e := memEnv(t)
	f := &faulty{kv: &faultKV{KV: e.KV}, objects: &faultObjects{Objects: e.Objects}, integrity: prometheus.NewCounter(prometheus.CounterOpts{Name: "x"})}
	e.KV, e.Objects = f.kv, f.objects
	f.Driver = storagetest.NewDriver(t, e, func(c *storage.Config) { c.Metrics.IntegrityFail = f.integrity })
	return f
}

func value(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func set(p *atomic.Pointer[error], err error) { p.Store(&err) }

func wantKind(t *testing.T, err error, k macronode.Kind) {
	t.Helper()
	if err == nil || macronode.KindOf(err) != k {
		t.Fatalf("error %v, want %s", err, k)
	}
}

// Every step of a put fails in turn: nothing is visible, and what is left goes
// at the next start.
func TestPutFaults(t *testing.T) {
	full := fmt.Errorf("write: %w", store.ErrFull)
	for _, c := range []struct {
		name  string
		where func(*faulty) *atomic.Pointer[error]
		err   error
		kind  macronode.Kind
		left  int
	}{
		{"create, full", func(f *faulty) *atomic.Pointer[error] { return &f.objects.create }, full, macronode.DiskFull, 0},
		{"write, full", func(f *faulty) *atomic.Pointer[error] { return &f.objects.write }, full, macronode.DiskFull, 0},
		{"commit, full", func(f *faulty) *atomic.Pointer[error] { return &f.objects.commit }, full, macronode.DiskFull, 0},
		{"commit, I/O", func(f *faulty) *atomic.Pointer[error] { return &f.objects.commit }, errors.New("EIO"), macronode.Internal, 0},
		{"metadata, full", func(f *faulty) *atomic.Pointer[error] { return &f.kv.update }, full, macronode.DiskFull, 0},
		{"metadata, unknown", func(f *faulty) *atomic.Pointer[error] { return &f.kv.update }, errors.New("fsync"), macronode.Internal, 1},
		{"metadata, closed", func(f *faulty) *atomic.Pointer[error] { return &f.kv.update }, store.ErrClosed, macronode.Unavailable, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, tn := faultyDriver(t), storagetest.Tenant(1)
			body := storagetest.Bytes(100_000, 1)
			set(c.where(f), c.err)
			r := storagetest.Request{Tenant: tn, Op: "object.put", Addr: storagetest.Addr(body), Body: body, Key: "k"}
			_, err := f.Do(r)
			wantKind(t, err, c.kind)
			if b, o := f.Usage(tn); b != 0 || o != 0 || f.Stored() != c.left {
				t.Fatalf("usage %d %d, %d stored", b, o, f.Stored())
			}
			_, err = f.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: r.Addr})
			wantKind(t, err, macronode.NotFound)
			c.where(f).Store(nil)
			f.Serve()
			storagetest.Eventually(t, func() bool { return f.Stored() == 0 })
			if a, err := f.Do(r); err != nil || a.Status != 201 {
				t.Fatalf("retry: %v %+v", err, a)
			}
		})
	}
}

// Bytes of a refused put that could not be removed at once go later.
func TestDiscardLater(t *testing.T) {
	f, tn := faultyDriver(t), storagetest.Tenant(1)
	set(&f.objects.remove, errors.New("EIO"))
	_, err := f.Do(storagetest.Request{Tenant: tn, Op: "object.put", Addr: storagetest.Addr(nil), Body: []byte("x")})
	wantKind(t, err, macronode.BadDigest)
	if f.Stored() != 1 {
		t.Fatal(f.Stored())
	}
	f.objects.remove.Store(nil)
	f.Serve()
	storagetest.Eventually(t, func() bool { return f.Stored() == 0 })
}

func TestDamage(t *testing.T) {
	for _, c := range []struct {
		size   int
		at     int64
		header string
		head   bool // found before the head leaves
	}{
		{10, 0, "", true},
		{10, 0, "bytes=3-4", true},
		{200_000, 0, "", true},
		{200_000, 60_000, "", true},
		{200_000, 150_000, "", false},
		{200_000, 100_000, "bytes=110000-", true},
		{200_000, 100_000, "bytes=0-1,110000-110001", false},
		{200_000, 100_000, "bytes=110000-110001,0-1", true},
	} {
		f, tn := faultyDriver(t), storagetest.Tenant(1)
		body := storagetest.Bytes(c.size, 1)
		addr := f.MustPut(tn, body)
		f.objects.damageAll(t, c.at)
		r := storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr, Header: macronode.Header{}}
		if c.header != "" {
			r.Header.Set("Range", c.header)
		}
		reply, err := f.Reply(r)
		if (err != nil) != c.head {
			t.Fatalf("%+v: %v", c, err)
		}
		if err == nil {
			var n int64
			n, err = reply.Stream.WriteTo(io.Discard)
			if n >= reply.Length {
				t.Fatalf("%+v: all %d bytes went out", c, n)
			}
			if cerr := reply.Stream.Close(); cerr != nil {
				t.Fatal(cerr)
			}
		}
		wantKind(t, err, macronode.Integrity)
		if n := value(t, f.integrity); n != 1 {
			t.Fatalf("%+v: integrity_fail_total is %v", c, n)
		}
		// Putting it again heals it.
		if a, err := f.Do(storagetest.Request{Tenant: tn, Op: "object.put", Addr: addr, Body: body}); err != nil || !a.Put(t).Existed {
			t.Fatal(err, a)
		}
		if a, err := f.Do(r); err != nil || (c.header == "" && !bytes.Equal(a.Body, body)) {
			t.Fatalf("%+v: not healed: %v", c, err)
		}
	}
}

// Damage ends a slice before the group that has it, and is counted.
func TestDamageInSlice(t *testing.T) {
	for _, at := range []int64{0, 100_000} {
		f, tn := faultyDriver(t), storagetest.Tenant(1)
		body := storagetest.Bytes(200_000, 1)
		addr := f.MustPut(tn, body)
		f.objects.damageAll(t, at)
		reply, err := f.Reply(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr, Header: macronode.Header{"Accept": {"application/vnd.bao;group=4"}}})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		_, err = reply.Stream.WriteTo(&out)
		wantKind(t, err, macronode.Integrity)
		if (at == 0) != (out.Len() == 0) || int64(out.Len()) > at+10_000 {
			t.Errorf("damage at %d, %d bytes went out", at, out.Len())
		}
		if err := reply.Stream.Close(); err != nil {
			t.Fatal(err)
		}
		if n := value(t, f.integrity); n != 1 {
			t.Errorf("integrity_fail_total is %v", n)
		}
	}
}

// Bytes that are gone though referred to are damage, not a 404.
func TestLostBytes(t *testing.T) {
	for _, n := range []int{10, 100_000} {
		f, tn := faultyDriver(t), storagetest.Tenant(1)
		addr := f.MustPut(tn, storagetest.Bytes(n, 1))
		var locs []store.Loc
		if err := store.Walk(context.Background(), f.objects, func(l store.Loc, _ b3.Addr, _ int64) bool { locs = append(locs, l); return true }); err != nil {
			t.Fatal(err)
		}
		for _, l := range locs {
			if err := f.objects.Objects.Remove(context.Background(), l); err != nil {
				t.Fatal(err)
			}
		}
		_, err := f.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr})
		wantKind(t, err, macronode.Integrity)
	}
}

// A read that meets a put or delete of its object between look-up and open
// is neither damage nor a stale answer.
func TestMovedUnderRead(t *testing.T) {
	for _, n := range []int{10, 100_000} {
		for _, gone := range []bool{false, true} {
			f, tn := faultyDriver(t), storagetest.Tenant(1)
			f.Serve()
			body := storagetest.Bytes(n, 1)
			addr := f.MustPut(tn, body)
			var once sync.Once
			f.objects.mu.Lock()
			f.objects.opened = func(l store.Loc) {
				once.Do(func() {
					r := storagetest.Request{Tenant: tn, Op: "object.put", Addr: addr, Body: body}
					if gone {
						r.Op, r.Body = "object.delete", nil
					}
					if _, err := f.Do(r); err != nil {
						t.Error(err)
					}
					// What the remover does once it may.
					if err := f.objects.Objects.Remove(context.Background(), l); err != nil {
						t.Error(err)
					}
				})
			}
			f.objects.mu.Unlock()
			a, err := f.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr})
			if gone {
				wantKind(t, err, macronode.NotFound)
			} else if err != nil || !bytes.Equal(a.Body, body) {
				t.Fatal(err)
			}
			if n := value(t, f.integrity); n != 0 {
				t.Fatal("counted as damage")
			}
		}
	}
}

// Damaged metadata ends the service, and readiness says so.
func TestDamagedMetadata(t *testing.T) {
	ctx := context.Background()
	for _, prefix := range []string{"object/r/", "object/u/"} {
		f, tn := faultyDriver(t), storagetest.Tenant(1)
		ended := make(chan error, 1)
		addr := f.MustPut(tn, []byte("x"))
		err := f.kv.Update(ctx, func(tx store.Tx) error {
			var keys [][]byte
			err := tx.Scan([]byte(prefix), append([]byte(prefix), 0xff), func(k, _ []byte) bool { keys = append(keys, bytes.Clone(k)); return true })
			for _, k := range keys {
				err = errors.Join(err, tx.Set(k, []byte{9}))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Service.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		go func() { ended <- f.Service.Serve(ctx) }()
		storagetest.Eventually(t, func() bool {
			_, err = f.Do(storagetest.Request{Tenant: tn, Op: "object.put", Addr: addr, Body: []byte("x")})
			_, err2 := f.Do(storagetest.Request{Tenant: tn, Op: "object.delete", Addr: addr})
			if err2 == nil || macronode.KindOf(err2) != macronode.Unavailable {
				t.Fatal(err2)
			}
			return len(ended) > 0
		})
		if err := <-ended; !errors.Is(err, store.ErrCorrupt) {
			t.Fatalf("Serve: %v", err)
		}
		if err := f.Service.Ready(ctx); !errors.Is(err, store.ErrCorrupt) {
			t.Fatalf("Ready: %v", err)
		}
	}
}

func TestReady(t *testing.T) {
	e := memEnv(t)
	d := storagetest.NewDriver(t, e)
	if err := d.Service.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	_ = e.Objects.Close()
	if err := d.Service.Ready(context.Background()); err == nil || !strings.Contains(err.Error(), "objects") {
		t.Fatal(err)
	}
}

// The budget of a capability holds for the answer, before anything is done.
func TestBudget(t *testing.T) {
	d, tn := storagetest.NewDriver(t, memEnv(t)), storagetest.Tenant(1)
	body := storagetest.Bytes(1000, 1)
	for _, length := range []int64{1000, -1} {
		_, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.post", Reader: bytes.NewReader(body), Length: length, Budget: 1050})
		wantKind(t, err, macronode.TooLarge)
	}
	if d.Stored() != 0 {
		t.Fatal("stored")
	}
	if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.post", Body: body, Budget: 1128}); err != nil {
		t.Fatal(err)
	}
	addr := storagetest.Addr(body)
	_, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr, Budget: 999})
	wantKind(t, err, macronode.TooLarge)
	if a, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr, Budget: 10, Header: macronode.Header{"Range": {"bytes=0-9"}}}); err != nil || len(a.Body) != 10 {
		t.Fatal(err)
	}
	if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.stat", Addr: addr, Budget: 1}); err != nil {
		t.Fatal(err)
	}
	_, err = d.Do(storagetest.Request{Tenant: tn, Op: "object.list", Budget: 20})
	wantKind(t, err, macronode.TooLarge)
}

func TestUploadRefusals(t *testing.T) {
	d, tn := storagetest.NewDriver(t, memEnv(t), func(c *storage.Config) {
		c.Limits = storage.Limits{MaxObjectBytes: 100_000, ChunkBytes: 1 << 10, DecompressRatio: 10, DecompressBytes: 1 << 20}
	}), storagetest.Tenant(1)
	_, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.post", Body: make([]byte, 100_001)})
	wantKind(t, err, macronode.TooLarge)
	_, err = d.Do(storagetest.Request{Tenant: tn, Op: "object.post", Body: []byte("x"), Header: macronode.Header{"Content-Range": {"bytes 0-0/2"}}})
	wantKind(t, err, macronode.Malformed)
	_, err = d.Do(storagetest.Request{Tenant: tn, Op: "object.post", Body: []byte("x"), Header: macronode.Header{"Content-Type": {"x"}}})
	wantKind(t, err, macronode.Malformed)
	_, err = d.Do(storagetest.Request{Tenant: tn, Op: "object.post", Body: []byte("x"), Key: "a b"})
	wantKind(t, err, macronode.Malformed)
	if d.Stored() != 0 {
		t.Fatal("stored")
	}
	// A reader that gives a byte at a time, and the largest object.
	body := storagetest.Bytes(100_000, 1)
	a, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.post", Reader: iotest.OneByteReader(bytes.NewReader(body)), Length: -1})
	if err != nil || a.Put(t).Addr != storagetest.Addr(body) {
		t.Fatal(err)
	}
	if err := d.Service.SetLimits(storage.Limits{MaxObjectBytes: 10, ChunkBytes: 1, DecompressRatio: 0}); err == nil {
		t.Fatal("bad limits were taken")
	}
	if err := d.Service.SetLimits(storage.Limits{MaxObjectBytes: 10, ChunkBytes: 1 << 16, DecompressRatio: 1, DecompressBytes: 1}); err != nil {
		t.Fatal(err)
	}
	_, err = d.Do(storagetest.Request{Tenant: tn, Op: "object.post", Body: make([]byte, 11)})
	wantKind(t, err, macronode.TooLarge)
}

// The sweep at start meets an upload between its two steps, and leaves it alone.
func TestSweepSparesUploads(t *testing.T) {
	f, tn := faultyDriver(t), storagetest.Tenant(1)
	orphan, err := f.objects.Objects.Create(context.Background(), -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := orphan.Commit(); err != nil {
		t.Fatal(err)
	}
	committed, walked := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.objects.walked = func() { once.Do(func() { close(walked) }) }
	f.objects.committed = func() {
		close(committed)
		<-walked // the sweep has seen the bytes, which nothing refers to yet
		// and now waits for this upload; a sweep that does not has removed them.
		storagetest.Eventually(t, func() bool { return f.Service.Quiescing() || f.Stored() == 0 })
	}
	done := make(chan error, 1)
	body := storagetest.Bytes(1000, 1)
	go func() {
		_, err := f.Do(storagetest.Request{Tenant: tn, Op: "object.post", Body: body})
		done <- err
	}()
	<-committed
	f.Serve()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	storagetest.Eventually(t, func() bool { return f.Stored() == 1 })
	if a, err := f.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: storagetest.Addr(body)}); err != nil || !bytes.Equal(a.Body, body) {
		t.Fatal(err)
	}
}

// Senders of zstd bodies that never end cannot take the node's memory, nor all
// the decoders from another tenant.
func TestDecodersAreBounded(t *testing.T) {
	d, one, two := storagetest.NewDriver(t, memEnv(t)), storagetest.Tenant(1), storagetest.Tenant(2)
	zstd := macronode.Header{"Content-Encoding": {"zstd"}}
	whole := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x00, 0x09, 0x00, 0x00, 'x'} // without its checksum it is cut off
	post := func(tn *macronode.Tenant) error {
		_, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.post", Body: whole, Header: zstd})
		return err
	}
	wantKind(t, post(one), macronode.Malformed)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 16 {
		begun := make(chan struct{})
		wg.Go(func() {
			_, err := d.Do(storagetest.Request{Tenant: one, Op: "object.post", Length: -1, Header: zstd, Reader: &heldReader{begun: begun, stop: stop}})
			if err == nil || macronode.KindOf(err) != macronode.ClientGone {
				t.Errorf("a body that breaks off: %v", err)
			}
		})
		<-begun
	}
	wantKind(t, post(one), macronode.Overload)
	wantKind(t, post(two), macronode.Malformed)
	close(stop)
	wg.Wait()
	wantKind(t, post(one), macronode.Malformed)
}

// heldReader says when it is read, and fails once it is told to stop.
type heldReader struct {
	once        sync.Once
	begun, stop chan struct{}
}

func (r *heldReader) Read([]byte) (int, error) {
	r.once.Do(func() { close(r.begun) })
	<-r.stop
	return 0, io.ErrUnexpectedEOF
}
