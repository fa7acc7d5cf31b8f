// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
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

func mustOpen(t testing.TB, c Config) *Objects {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// fileOf returns the path of an object.
func fileOf(t testing.TB, s *Objects, loc store.Loc) string {
	t.Helper()
	id, err := parseLoc(loc)
	if err != nil {
		t.Fatal(err)
	}
	return s.path(id)
}

func rewrite(t testing.TB, fs *disk.FS, path string, data []byte) {
	t.Helper()
	if err := fs.ReplaceFile(path, data, disk.FileMode); err != nil {
		t.Fatal(err)
	}
}

// TestFlip changes a byte at a time. A byte of a group costs that group alone; one
// of tree or footer what hangs on it; and never is a wrong byte returned.
func TestFlip(t *testing.T) {
	fs := disk.Mem()
	data := storetest.Bytes(70*b3.GroupBytes+100, 1)
	size := int64(len(data))
	s := mustOpen(t, Config{FS: fs, Dir: "/o"})
	o, err := storetest.Put(t.Context(), s, data, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	path := fileOf(t, s, o.Loc)
	good, err := fs.ReadFile(path, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	tree := size + b3.TreeBytes(size)
	places := []int64{0, 1, b3.GroupBytes - 1, b3.GroupBytes, 69*b3.GroupBytes + 5, size - 1}
	for at := size; at < int64(len(good)); at++ {
		if at >= tree-64 || at < size+64 || at%97 == 0 {
			places = append(places, at)
		}
	}
	for _, at := range places {
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		rewrite(t, fs, path, bad)
		s := mustOpen(t, Config{FS: fs, Dir: "/o"})
		r, err := s.Open(t.Context(), o.Loc, o.Addr, o.Size)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, ErrNewer) || at < tree-64 {
				t.Errorf("byte %d: open: %v", at, err)
			}
			continue
		}
		if at >= tree-64 {
			t.Errorf("byte %d of the frame changed: it opens", at)
		}
		refused := 0
		for g := int64(0); g < b3.Groups(size); g++ {
			off := g * b3.GroupBytes
			p := make([]byte, min(b3.GroupBytes, size-off))
			n, err := r.ReadAt(p, off)
			switch {
			case err != nil && n == 0 && errors.Is(err, store.ErrCorrupt):
				if refused++; at < size && g != at/b3.GroupBytes {
					t.Errorf("byte %d: group %d is refused", at, g)
				}
				if !bytes.Equal(p, make([]byte, len(p))) {
					t.Errorf("byte %d: bytes beside the error", at)
				}
			case err != nil || !bytes.Equal(p, data[off:off+int64(n)]):
				t.Errorf("byte %d: group %d: %d, %v", at, g, n, err)
			}
		}
		if refused == 0 {
			t.Errorf("byte %d changed and nobody noticed", at)
		}
		var out bytes.Buffer
		n, err := r.WriteRange(&out, 0, size)
		if !errors.Is(err, store.ErrCorrupt) || n != int64(out.Len()) || !bytes.Equal(out.Bytes(), data[:n]) {
			t.Errorf("byte %d: whole: %d, %v", at, n, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestFrame(t *testing.T) {
	fs := disk.Mem()
	s := mustOpen(t, Config{FS: fs, Dir: "/o"})
	a, err := storetest.Put(t.Context(), s, storetest.Bytes(200_000, 1), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b, err := storetest.Put(t.Context(), s, storetest.Bytes(200_000, 2), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	path := fileOf(t, s, a.Loc)
	good, _ := fs.ReadFile(path, 1<<20)
	other, _ := fs.ReadFile(fileOf(t, s, b.Loc), 1<<20)
	newer := bytes.Clone(good[:len(good)-footerBytes])
	foot := (&footer{addr: a.Addr, size: a.Size}).append(nil)
	foot[8] = 2
	sum := b3.Sum(foot[:summedBytes])
	newer = append(append(newer, foot[:summedBytes]...), sum[:16]...)
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"empty":       {nil, store.ErrCorrupt},
		"short":       {good[:len(good)-1], store.ErrCorrupt},
		"long":        {append(bytes.Clone(good), 0), store.ErrCorrupt},
		"front gone":  {good[1:], store.ErrCorrupt},
		"footer only": {good[len(good)-footerBytes:], store.ErrCorrupt},
		"another's":   {other, store.ErrCorrupt},
		"newer":       {newer, ErrNewer},
	} {
		rewrite(t, fs, path, c.data)
		s := mustOpen(t, Config{FS: fs, Dir: "/o"})
		if _, err := s.Open(t.Context(), a.Loc, a.Addr, a.Size); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if errors.Is(c.want, ErrNewer) {
			continue
		}
		seen := map[store.Loc]int64{}
		if err := store.Walk(t.Context(), s, func(loc store.Loc, _ b3.Addr, size int64) bool { seen[loc] = size; return true }); err != nil {
			t.Error(err)
		}
		if len(seen) != 2 || seen[a.Loc] != -1 || seen[b.Loc] != b.Size {
			t.Errorf("%s: walk: %v", name, seen)
		}
	}
}

func FuzzFooter(f *testing.F) {
	f.Add((&footer{size: 5, addr: b3.Sum([]byte("12345"))}).append(nil))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		foot, err := parseFooter(b)
		if err == nil && (foot.size < 0 || foot.fileBytes() < footerBytes || !bytes.Equal(foot.append(nil)[:72], b[:72])) {
			t.Fatalf("%+v", foot)
		}
	})
}

func FuzzLoc(f *testing.F) {
	f.Add("f:00112233445566778899aabbccddeeff")
	f.Add("f:../../etc")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := parseLoc(store.Loc(s)); err == nil && string(id.loc()) != s {
			t.Fatalf("%q comes back as %q", s, id.loc())
		}
	})
}

// TestSpill: the tree of a long object waits in a file of its own, which goes.
func TestSpill(t *testing.T) {
	fs := disk.Mem()
	s := mustOpen(t, Config{FS: fs, Dir: "/o"})
	s.treeBytes = 3 * b3.ParentBytes
	for _, n := range []int{9 * b3.GroupBytes, 9*b3.GroupBytes + 1, 10 * b3.GroupBytes, 100 * b3.GroupBytes, 3<<20 + 77} {
		data := storetest.Bytes(n, uint64(n))
		o, err := storetest.Put(t.Context(), s, data, 100_000)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := storetest.ReadAll(t.Context(), s, o); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %v", n, err)
		}
		w, err := s.Create(t.Context(), -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		if names, _ := fs.List("/o/tmp"); len(names) != 0 {
			t.Errorf("%d bytes: left %v", n, names)
		}
	}
}

func TestReserve(t *testing.T) {
	fs := disk.Mem()
	s := mustOpen(t, Config{FS: fs, Dir: "/o", ReserveBytes: 1 << 20})
	o, err := storetest.Put(t.Context(), s, make([]byte, 1000), 1000)
	if err != nil {
		t.Fatal(err)
	}
	fs.SetFree(1<<20 + 500_000)
	if _, err := s.Create(t.Context(), 500_001); !errors.Is(err, store.ErrFull) {
		t.Errorf("by its hint: %v", err)
	}
	w, err := s.Create(t.Context(), -1)
	if err != nil {
		t.Fatal(err)
	}
	fs.SetFree(1 << 20)
	if _, err := w.Write(make([]byte, 300_000)); !errors.Is(err, store.ErrFull) {
		t.Errorf("while it is written: %v", err)
	}
	if _, _, _, err := w.Commit(); !errors.Is(err, store.ErrFull) {
		t.Errorf("commit after that: %v", err)
	}
	w.Abort()
	moved, err := s.Create(store.WithReserve(t.Context()), 300_000)
	if err != nil {
		t.Fatalf("with the reserve: %v", err)
	}
	if _, err := moved.Write(make([]byte, 300_000)); err != nil {
		t.Errorf("with the reserve: %v", err)
	}
	moved.Abort()
	fs.SetFree(0)
	if _, err := s.Create(t.Context(), 0); !errors.Is(err, store.ErrFull) {
		t.Errorf("below the reserve: %v", err)
	}
	if _, err := storetest.ReadAll(t.Context(), s, o); err != nil {
		t.Errorf("reading: %v", err)
	}
	if err := errors.Join(s.Check(t.Context()), s.Remove(t.Context(), o.Loc)); err != nil {
		t.Errorf("removing: %v", err)
	}
}

// TestSick: Check says that directories or packs cannot be synced, and that they can
// again.
func TestSick(t *testing.T) {
	for _, size := range []int{10, pack.MaxObject + 1} {
		sick(t, size)
	}
}

func sick(t *testing.T, size int) {
	bad := false
	fs := disk.Mem().WithFaults(func(op errorfs.Op) error {
		if bad && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
			return syscall.EIO
		}
		return nil
	})
	s := mustOpen(t, Config{FS: fs, Dir: "/o"})
	o, err := storetest.Put(t.Context(), s, make([]byte, size), size)
	if err != nil {
		t.Fatal(err)
	}
	bad = true
	if err := s.Remove(t.Context(), o.Loc); !errors.Is(err, syscall.EIO) {
		t.Errorf("remove: %v", err)
	}
	if err := s.Check(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("check: %v", err)
	}
	bad = false
	if err := errors.Join(s.Remove(t.Context(), o.Loc), s.Check(t.Context())); err != nil {
		t.Error(err)
	}
}

// opens counts files that are open for reading.
type opens struct {
	vfs.FS
	n int
}

func (o *opens) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := o.FS.Open(name, opts...)
	if err == nil {
		o.n++
		f = &counted{f, o}
	}
	return f, err
}

type counted struct {
	vfs.File
	o *opens
}

func (c *counted) Close() error { c.o.n--; return c.File.Close() }

func TestCache(t *testing.T) {
	var o *opens
	fs := disk.Mem().WithBase(func(f vfs.FS) vfs.FS { o = &opens{FS: f}; return o })
	s := mustOpen(t, Config{FS: fs, Dir: "/o", OpenFiles: 3})
	var all []storetest.Stored
	for i := range 10 {
		obj, err := storetest.Put(t.Context(), s, storetest.Bytes(pack.MaxObject+1, uint64(i)), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, obj)
	}
	r := rand.New(rand.NewPCG(1, 2))
	inUse := map[int]store.Object{}
	for range 500 {
		i := r.IntN(len(all))
		if h := inUse[i]; h != nil {
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			delete(inUse, i)
			continue
		}
		if len(inUse) < 4 {
			h, err := s.Open(t.Context(), all[i].Loc, all[i].Addr, all[i].Size)
			if err != nil {
				t.Fatal(err)
			}
			inUse[i] = h
		}
		if o.n > 3+len(inUse) {
			t.Fatalf("%d files open, %d in use", o.n, len(inUse))
		}
	}
	for _, h := range inUse {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if o.n > 3 {
		t.Errorf("%d files open", o.n)
	}
	if err := s.Remove(t.Context(), all[0].Loc); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil || o.n != 0 {
		t.Errorf("%d files open after close, %v", o.n, err)
	}
}

// TestMemory: what a writer and a reader hold does not grow with the object.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 200 MiB")
	}
	s := mustOpen(t, Config{FS: disk.Real(), Dir: t.TempDir() + "/o"})
	w, err := s.Create(t.Context(), -1)
	if err != nil {
		t.Fatal(err)
	}
	piece := storetest.Bytes(1<<20, 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 200 {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	loc, addr, size, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), loc, addr, size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.WriteRange(io.Discard, 0, size); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 5<<20 {
		t.Errorf("%d KiB allocated for 200 MiB", got>>10)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
