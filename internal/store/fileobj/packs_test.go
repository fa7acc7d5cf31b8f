// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj/pack"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

func mustPut(t testing.TB, s *Objects, data []byte) storetest.Stored {
	t.Helper()
	o, err := storetest.Put(t.Context(), s, data, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// packFiles returns the names of the packs on fs.
func packFiles(t testing.TB, fs *disk.FS) []string {
	t.Helper()
	names, err := fs.List("/o/" + packsDir)
	must(t, err)
	return names
}

// volumeOf returns what is known of the pack that holds loc.
func volumeOf(t testing.TB, s *Objects, loc store.Loc) (v store.Volume, ok bool) {
	t.Helper()
	p, _ := pack.ParsePlace(loc)
	list, err := s.Volumes(t.Context())
	must(t, err)
	i := slices.IndexFunc(list, func(v store.Volume) bool { return v.ID == p.ID.Volume() })
	if i < 0 {
		return v, false
	}
	return list[i], true
}

func walked(t testing.TB, s *Objects) map[store.Loc]int64 {
	t.Helper()
	m := make(map[store.Loc]int64)
	must(t, store.Walk(t.Context(), s, func(loc store.Loc, _ b3.Addr, size int64) bool { m[loc] = size; return true }))
	return m
}

// held stops the first sync of a pack until released, and can fail those after.
type held struct {
	begun, release chan struct{}
	mu             sync.Mutex
	syncs          int
	fail           error // of the second sync and later ones, while it is set
}

func holdSync() *held { return &held{begun: make(chan struct{}), release: make(chan struct{})} }

func (h *held) inject(op errorfs.Op) error {
	if op.Kind != errorfs.OpFileSyncData || !strings.Contains(op.Path, pack.ID{}.File()[24:]) {
		return nil
	}
	h.mu.Lock()
	h.syncs++
	n, err := h.syncs, h.fail
	h.mu.Unlock()
	if n == 1 {
		close(h.begun)
		<-h.release
		return nil
	}
	return err
}

// together puts one object, and while its sync is under way n more, which so are
// one batch. It returns what became of those.
func together(t *testing.T, s *Objects, h *held, n int) ([]storetest.Stored, []error) {
	t.Helper()
	var wg sync.WaitGroup
	stored, errs := make([]storetest.Stored, n), make([]error, n)
	wg.Go(func() {
		if _, err := storetest.Put(t.Context(), s, []byte("first"), 5); err != nil {
			t.Error(err)
		}
	})
	<-h.begun
	for i := range n {
		wg.Go(func() { stored[i], errs[i] = storetest.Put(t.Context(), s, storetest.Bytes(1000+i, uint64(i)), 5000) })
	}
	for waiting := 0; waiting < n; runtime.Gosched() {
		s.packer.mu.Lock()
		if s.packer.next != nil {
			waiting = len(s.packer.next.recs)
		}
		s.packer.mu.Unlock()
	}
	close(h.release)
	wg.Wait()
	return stored, errs
}

// TestBatch: what comes while a sync is under way shares the next.
func TestBatch(t *testing.T) {
	h := holdSync()
	fs := disk.Mem()
	s := mustOpen(t, Config{FS: fs.WithFaults(h.inject), Dir: "/o"})
	stored, errs := together(t, s, h, 50)
	must(t, errs...)
	if h.syncs != 2 || len(packFiles(t, fs)) != 1 {
		t.Errorf("%d syncs, packs %v", h.syncs, packFiles(t, fs))
	}
	for i, o := range stored {
		if got, err := storetest.ReadAll(t.Context(), s, o); err != nil || !bytes.Equal(got, storetest.Bytes(1000+i, uint64(i))) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestBatchFails: a sync that fails, fails all who share it; nothing of theirs is
// seen, and nothing is added to that pack any more.
func TestBatchFails(t *testing.T) {
	for _, lasting := range []bool{false, true} {
		h := holdSync()
		fs := disk.Mem()
		s := mustOpen(t, Config{FS: fs.WithFaults(func(op errorfs.Op) error {
			err := h.inject(op)
			if err != nil && !lasting {
				h.mu.Lock()
				h.fail = nil
				h.mu.Unlock()
			}
			return err
		}), Dir: "/o"})
		h.fail = syscall.EIO
		_, errs := together(t, s, h, 20)
		for i, err := range errs {
			if !errors.Is(err, syscall.EIO) {
				t.Fatalf("%d of the batch: %v", i, err)
			}
		}
		if err := s.Check(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Errorf("check: %v", err)
		}
		h.mu.Lock()
		h.fail = nil
		h.mu.Unlock()
		old := packFiles(t, fs)
		o := mustPut(t, s, []byte("after"))
		must(t, s.Check(t.Context()))
		if p, _ := pack.ParsePlace(o.Loc); len(old) != 1 || p.ID.File() == old[0] {
			t.Errorf("after a failed sync it goes to %s, there was %v", o.Loc, old)
		}
		if n := len(walked(t, s)); n != 2 && !lasting || lasting && n < 2 {
			t.Errorf("%d objects are seen", n)
		}
	}
}

// TestPackGoes: a pack goes with its last live record: removed while it is open,
// once it is sealed, and after a restart with true, old or no hints.
func TestPackGoes(t *testing.T) {
	open := func(fs *disk.FS) *Objects { return mustOpen(t, Config{FS: fs, Dir: "/o"}) }
	t.Run("while open", func(t *testing.T) {
		fs := disk.Mem()
		s := open(fs)
		o := mustPut(t, s, []byte("x"))
		must(t, s.Remove(t.Context(), o.Loc))
		if n := len(packFiles(t, fs)); n != 1 {
			t.Fatalf("%d packs while it is open", n)
		}
		must(t, s.Close())
		if n := len(packFiles(t, fs)); n != 0 {
			t.Errorf("%d packs after it was sealed", n)
		}
	})
	t.Run("sealed", func(t *testing.T) {
		fs := disk.Mem()
		s := open(fs)
		s.packer.target = pack.HeadBytes + 1
		a, b := mustPut(t, s, []byte("a")), mustPut(t, s, []byte("b"))
		must(t, s.Remove(t.Context(), a.Loc))
		if v, ok := volumeOf(t, s, a.Loc); ok {
			t.Errorf("it is there: %+v", v)
		}
		if got, err := storetest.ReadAll(t.Context(), s, b); err != nil || string(got) != "b" {
			t.Errorf("another pack: %v", err)
		}
	})
	for _, hints := range []string{"true", "old", "none", "damaged"} {
		t.Run("hints "+hints, func(t *testing.T) {
			fs := disk.Mem()
			s := open(fs)
			var all []store.Loc
			for i := range 5 {
				all = append(all, mustPut(t, s, storetest.Bytes(100, uint64(i))).Loc)
			}
			must(t, s.Close())
			path := "/o/" + packsDir + "/" + packFiles(t, fs)[0]
			old, err := fs.ReadFile(path, 1<<30)
			must(t, err)
			s = open(fs)
			must(t, s.Remove(t.Context(), all[:2]...), s.Close())
			b, err := fs.ReadFile(path, 1<<30)
			must(t, err)
			switch at := b[pack.HintsAt:]; hints {
			case "old":
				copy(at[:pack.BlockBytes], old[pack.HintsAt:])
			case "none":
				clear(at[:pack.BlockBytes])
			case "damaged":
				at[20]++
			}
			rewrite(t, fs, path, b)
			s = open(fs)
			must(t, s.Remove(t.Context(), all[2:]...))
			if hints == "true" && len(packFiles(t, fs)) != 0 {
				t.Error("the last removal leaves it")
			}
			if n := len(walked(t, s)); n != 0 || len(packFiles(t, fs)) != 0 {
				t.Errorf("%d objects, %v after the walk", n, packFiles(t, fs))
			}
		})
	}
}

// TestHintsLie: hints that say less than is there cost nothing.
func TestHintsLie(t *testing.T) {
	fs := disk.Mem()
	s := mustOpen(t, Config{FS: fs, Dir: "/o"})
	a, b := mustPut(t, s, []byte("a")), mustPut(t, s, []byte("b"))
	must(t, s.Close())
	path := "/o/" + packsDir + "/" + packFiles(t, fs)[0]
	data, err := fs.ReadFile(path, 1<<30)
	must(t, err)
	p, _ := pack.ParsePlace(a.Loc)
	copy(data[pack.HintsAt:], (&pack.Hints{Records: 1, Live: 128}).Append(nil, p.ID))
	rewrite(t, fs, path, data)
	s = mustOpen(t, Config{FS: fs, Dir: "/o"})
	must(t, s.Remove(t.Context(), a.Loc))
	if got, err := storetest.ReadAll(t.Context(), s, b); err != nil || string(got) != "b" {
		t.Errorf("%q, %v", got, err)
	}
	if v, _ := volumeOf(t, s, b.Loc); v.Live != pack.Room(1) || v.Dead != pack.Room(1) {
		t.Errorf("%+v", v)
	}
}

// TestCounts: what Volumes says is what was put and removed, before and after a
// restart and a walk.
func TestCounts(t *testing.T) {
	fs := disk.Mem()
	s := mustOpen(t, Config{FS: fs, Dir: "/o"})
	var all []storetest.Stored
	var want int64
	for i := range 40 {
		all = append(all, mustPut(t, s, storetest.Bytes(i*1000, uint64(i))))
		want += pack.Room(int64(i * 1000))
	}
	var gone int64
	var locs []store.Loc
	for _, o := range all[:7] {
		gone += pack.Room(o.Size)
		locs = append(locs, o.Loc)
	}
	must(t, s.Remove(t.Context(), append(locs, locs[0], "p:nothing", "f:nothing")...))
	check := func(when string, s *Objects) {
		t.Helper()
		v, ok := volumeOf(t, s, all[10].Loc)
		if !ok || v.Live != want-gone || v.Dead != gone || !v.Movable {
			t.Errorf("%s: %+v, want %d live, %d dead", when, v, want-gone, gone)
		}
	}
	check("before", s)
	if v, _ := volumeOf(t, s, all[10].Loc); v.Sealed {
		t.Error("sealed while it takes objects")
	}
	must(t, s.Close())
	s = mustOpen(t, Config{FS: fs, Dir: "/o"})
	check("restarted", s)
	v, _ := volumeOf(t, s, all[10].Loc)
	if !v.Sealed || v.Settled {
		t.Errorf("%+v", v)
	}
	if n := len(walked(t, s)); n != 33 {
		t.Errorf("%d objects", n)
	}
	check("walked", s)
	must(t, s.Settle(t.Context(), v.ID), s.Close())
	s = mustOpen(t, Config{FS: fs, Dir: "/o"})
	check("settled", s)
	if v, _ := volumeOf(t, s, all[10].Loc); !v.Settled {
		t.Error("not settled")
	}
}

// TestReopened: nothing is added to a pack of an earlier process; opening the store
// reads none.
func TestReopened(t *testing.T) {
	fs := disk.Mem()
	for i := range 3 {
		opened := 0
		s := mustOpen(t, Config{FS: fs.WithFaults(func(op errorfs.Op) error {
			if strings.HasSuffix(op.Path, ".pack") {
				opened++
			}
			return nil
		}), Dir: "/o"})
		if opened > 0 {
			t.Errorf("start %d touches packs: %d calls", i, opened)
		}
		mustPut(t, s, []byte("x"))
		must(t, s.Close())
		if n := len(packFiles(t, fs)); n != i+1 {
			t.Errorf("%d packs after %d starts", n, i+1)
		}
	}
}

// TestRotate: packs are sealed at their length, and hold what they should.
func TestRotate(t *testing.T) {
	fs := disk.Mem()
	s := mustOpen(t, Config{FS: fs, Dir: "/o"})
	s.packer.target = 100_000
	want := map[store.Loc]int64{}
	for i := range 200 {
		o := mustPut(t, s, storetest.Bytes(i*50, uint64(i)))
		want[o.Loc] = o.Size
	}
	files := packFiles(t, fs)
	if len(files) < 9 || len(files) > 12 {
		t.Errorf("%d packs", len(files))
	}
	for _, name := range files {
		fi, err := fs.Stat("/o/" + packsDir + "/" + name)
		must(t, err)
		if fi.Size() > 100_000+recordLimit {
			t.Errorf("%s: %d bytes", name, fi.Size())
		}
	}
	got := walked(t, s)
	for loc, size := range want {
		if got[loc] != size {
			t.Errorf("%s: %d", loc, got[loc])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d of %d", len(got), len(want))
	}
	list, err := s.Volumes(t.Context())
	must(t, err)
	open := 0
	for _, v := range list {
		if !v.Sealed {
			open++
			if err := s.Settle(t.Context(), v.ID); !errors.Is(err, store.ErrRange) {
				t.Errorf("settled while it is open: %v", err)
			}
		}
	}
	if open != 1 {
		t.Errorf("%d open", open)
	}
}

const recordLimit = pack.RecordHead + pack.MaxObject + 8*b3.ParentBytes

// TestSmallReserve: a batch leaves the reserve alone, but for those who may use it.
func TestSmallReserve(t *testing.T) {
	fs := disk.Mem()
	s := mustOpen(t, Config{FS: fs, Dir: "/o", ReserveBytes: 1 << 20})
	put := func(reserve bool) error {
		ctx := t.Context()
		if reserve {
			ctx = store.WithReserve(ctx)
		}
		fs.SetFree(10 << 20)
		w, err := s.Create(ctx, 10)
		must(t, err)
		if _, err := w.Write([]byte("0123456789")); err != nil {
			return err
		}
		fs.SetFree(1 << 20)
		_, _, _, err = w.Commit()
		return err
	}
	if err := put(false); !errors.Is(err, store.ErrFull) {
		t.Errorf("without: %v", err)
	}
	if len(packFiles(t, fs)) != 0 {
		t.Error("a pack was made")
	}
	must(t, put(true))
}

// reads counts reads of packs.
type reads struct {
	vfs.FS
	n *int
}

type readFile struct {
	vfs.File
	n *int
}

func (r reads) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := r.FS.Open(name, opts...)
	return readFile{f, r.n}, err
}

func (f readFile) ReadAt(p []byte, off int64) (int, error) {
	*f.n++
	return f.File.ReadAt(p, off)
}

// TestSmallRead: a small object costs one read and little memory.
func TestSmallRead(t *testing.T) {
	n := 0
	s := mustOpen(t, Config{FS: disk.Mem().WithBase(func(f vfs.FS) vfs.FS { return reads{f, &n} }), Dir: "/o"})
	for _, size := range []int{0, 1, 1024, b3.GroupBytes} {
		o := mustPut(t, s, storetest.Bytes(size, 1))
		p := make([]byte, size)
		read := func() {
			r, err := s.Open(t.Context(), o.Loc, o.Addr, o.Size)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := r.ReadAt(p, 0); m != size || err != nil {
				t.Fatalf("%d, %v", m, err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		read()
		n = 0
		allocs := testing.AllocsPerRun(100, read)
		if n != 101 || allocs > 2 {
			t.Errorf("%d bytes: %d reads in 101 runs, %v allocations", size, n, allocs)
		}
	}
}

// slowReader closes its object and reads another while it is given bytes.
type slowReader struct {
	during func()
	got    []byte
}

func (w *slowReader) Write(p []byte) (int, error) {
	w.during()
	w.got = append(w.got, p...)
	return len(p), nil
}

// TestBufferInUse: the memory of a closed object is nobody else's while it is read.
func TestBufferInUse(t *testing.T) {
	s := mustOpen(t, Config{FS: disk.Mem(), Dir: "/o"})
	data := bytes.Repeat([]byte("a"), 500)
	a, b := mustPut(t, s, data), mustPut(t, s, bytes.Repeat([]byte("b"), 500))
	r, err := s.Open(t.Context(), a.Loc, a.Addr, a.Size)
	must(t, err)
	w := &slowReader{during: func() {
		must(t, r.Close())
		for range 4 {
			if _, err := storetest.ReadAll(t.Context(), s, b); err != nil {
				t.Error(err)
			}
		}
	}}
	if _, err := r.WriteRange(w, 0, 500); err != nil || !bytes.Equal(w.got, data) {
		t.Errorf("%q, %v", w.got[:3], err)
	}
}

// TestShardsNew: large objects of a new process go to a directory that was not there.
func TestShardsNew(t *testing.T) {
	fs := disk.Mem()
	old := map[string]bool{}
	for i := 0; i < 1<<16; i += 2 {
		name := objectID{byte(i >> 8), byte(i)}.shard()
		old[name] = true
		must(t, fs.MkdirAll("/o/"+name, disk.DirMode))
	}
	for i := range 12 {
		s := mustOpen(t, Config{FS: fs, Dir: "/o"})
		o := mustPut(t, s, storetest.Bytes(pack.MaxObject+1, uint64(i)))
		id, err := parseLoc(o.Loc)
		must(t, err, s.Close())
		if old[id.shard()] {
			t.Fatalf("%s was there", id.shard())
		}
		old[id.shard()] = true
	}
}
