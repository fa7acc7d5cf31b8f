// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package snapfile

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

func sealed() error { return nil }

func content(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func save(t *testing.T, d *Dir, b []byte) {
	t.Helper()
	if err := d.Save(func(w io.Writer) error { _, err := w.Write(b); return err }, sealed); err != nil {
		t.Fatal(err)
	}
}

func load(d *Dir) (got []byte, refused int, err error) {
	refused, err = d.Load(func(r io.Reader) (err error) {
		got, err = io.ReadAll(r)
		return err
	})
	return got, refused, err
}

func open(t *testing.T, fsys *disk.FS) *Dir {
	t.Helper()
	d, err := Open(fsys, "snap")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSaveLoad(t *testing.T) {
	fsys := disk.Mem()
	d := open(t, fsys)
	if _, _, err := load(d); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("an empty directory: %v", err)
	}
	for i, n := range []int{0, 1, blockBytes - 1, blockBytes, blockBytes + 1, 3 * blockBytes, 1 << 20} {
		want := content(uint64(i), n)
		save(t, d, want)
		d = open(t, fsys)
		got, refused, err := load(d)
		if err != nil || refused != 0 || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: read %d, refused %d, %v", n, len(got), refused, err)
		}
	}
	names, err := fsys.List("snap")
	if err != nil || len(names) != kept {
		t.Errorf("%d files are kept, want %d (%v)", len(names), kept, err)
	}
}

// TestEveryBit: a snapshot with any bit flipped, or cut anywhere, is refused, and
// the one before is taken.
func TestEveryBit(t *testing.T) {
	older, newer := content(1, 300), content(2, 500)
	fsys := disk.Mem()
	d := open(t, fsys)
	save(t, d, older)
	save(t, d, newer)
	path := "snap/" + d.name(2)
	whole, err := fsys.ReadFile(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, at int, b []byte) {
		t.Helper()
		if err := fsys.ReplaceFile(path, b, disk.FileMode); err != nil {
			t.Fatal(err)
		}
		got, refused, err := load(d)
		if err != nil || refused != 1 || !bytes.Equal(got, older) {
			t.Fatalf("%s at %d: %d refused, %d bytes, %v", what, at, refused, len(got), err)
		}
	}
	for bit := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		check("flip", bit, b)
	}
	for n := range len(whole) {
		check("cut", n, whole[:n])
	}
}

// TestSwappedBlocks: whole blocks in another order are not a snapshot.
func TestSwappedBlocks(t *testing.T) {
	fsys := disk.Mem()
	d := open(t, fsys)
	save(t, d, content(3, 2*blockBytes))
	path := "snap/" + d.name(1)
	b, err := fsys.ReadFile(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	n, size := len(magic), blockBytes+headBytes
	swapped := append(bytes.Clone(b[:n]), b[n+size:n+2*size]...)
	swapped = append(append(swapped, b[n:n+size]...), b[n+2*size:]...)
	if err := fsys.ReplaceFile(path, swapped, disk.FileMode); err != nil {
		t.Fatal(err)
	}
	if _, _, err := load(d); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("swapped blocks: %v", err)
	}
}

// TestCrash: whatever is lost at a power cut, a snapshot whose Save returned is
// there, and one that did not is not taken for whole.
func TestCrash(t *testing.T) {
	for seed := range uint64(200) {
		fsys := disk.Crashable()
		d := open(t, fsys)
		first, second := content(seed, 5000), content(seed+1, 200_000)
		save(t, d, first)
		fail := errors.New("seal")
		if seed%2 == 0 {
			save(t, d, second)
		} else if err := d.Save(func(w io.Writer) error { _, err := w.Write(second); return err },
			func() error { return fail }); !errors.Is(err, fail) {
			t.Fatalf("a failed seal: %v", err)
		}
		got, _, err := load(open(t, fsys.Crash(int(seed%101), seed)))
		want := second
		if seed%2 == 1 {
			want = first
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %d bytes, %v", seed, len(got), err)
		}
	}
}

// TestFaults: an error at each call of Save leaves the snapshot before, or the new one.
func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	first, second := content(1, 5000), content(2, 70_000)
	for at := 0; ; at++ {
		fsys := disk.Crashable()
		save(t, open(t, fsys), first)
		calls := -1
		failing := fsys.WithFaults(func(op errorfs.Op) error {
			if calls++; calls == at {
				return boom
			}
			return nil
		})
		d, err := Open(failing, "snap")
		if err == nil {
			err = d.Save(func(w io.Writer) error { _, err := w.Write(second); return err }, sealed)
		}
		if calls < at {
			if at < 8 {
				t.Fatalf("only %d calls were seen", calls)
			}
			return
		}
		got, _, loadErr := load(open(t, fsys.Crash(50, uint64(at))))
		if loadErr != nil || !bytes.Equal(got, first) && !bytes.Equal(got, second) {
			t.Fatalf("fault at call %d: %d bytes, %v", at, len(got), loadErr)
		}
		if err == nil && !bytes.Equal(got, second) {
			t.Fatalf("fault at call %d was not told, and the snapshot is lost", at)
		}
	}
}

func FuzzReader(f *testing.F) {
	fsys := disk.Mem()
	d, err := Open(fsys, "snap")
	if err != nil {
		f.Fatal(err)
	}
	if err := d.Save(func(w io.Writer) error { _, err := w.Write([]byte("state")); return err }, sealed); err != nil {
		f.Fatal(err)
	}
	b, err := fsys.ReadFile("snap/"+d.name(1), 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		out, err := io.ReadAll(r)
		if err == nil && len(out) > len(b) {
			t.Error("a snapshot holds more than its file")
		}
	})
}
