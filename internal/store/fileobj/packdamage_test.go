// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj/pack"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// patient is a pack that is damaged again and again.
type patient struct {
	fs   *disk.FS
	path string
	good []byte
	objs []storetest.Stored
	data [][]byte
	dead store.Loc
	room []pack.Found // of objs
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{fs: disk.Mem()}
	s := mustOpen(t, Config{FS: p.fs, Dir: "/o"})
	for i, n := range []int{700, 0, 1, 100, 1000, 1000, b3.GroupBytes, b3.GroupBytes + 1, 40_000, pack.MaxObject, 1000} {
		data := storetest.Bytes(n, uint64(i))
		p.objs, p.data = append(p.objs, mustPut(t, s, data)), append(p.data, data)
	}
	gone := mustPut(t, s, storetest.Bytes(5000, 99))
	must(t, s.Remove(t.Context(), gone.Loc))
	p.dead = gone.Loc
	last := storetest.Bytes(3000, 77)
	p.objs, p.data = append(p.objs, mustPut(t, s, last)), append(p.data, last)
	must(t, s.Close())
	p.path = "/o/" + packsDir + "/" + packFiles(t, p.fs)[0]
	var err error
	p.good, err = p.fs.ReadFile(p.path, 1<<30)
	must(t, err)
	at, _ := pack.ParsePlace(gone.Loc)
	must(t, pack.Scan(bytes.NewReader(p.good), at.ID, int64(len(p.good)), func(f pack.Found) {
		if !f.Dead {
			p.room = append(p.room, f)
		}
	}))
	if len(p.room) != len(p.objs) {
		t.Fatalf("%d records of %d", len(p.room), len(p.objs))
	}
	return p
}

// examine puts bad in the pack's place. The bytes [lo, hi) were changed: objects
// outside can be read, those within can or are refused, and then are named by a
// walk. It returns how many are refused.
func (p *patient) examine(t *testing.T, what string, bad []byte, lo, hi int64) (refused int) {
	t.Helper()
	rewrite(t, p.fs, p.path, bad)
	s := mustOpen(t, Config{FS: p.fs, Dir: "/o"})
	defer func() { must(t, s.Close()) }()
	seen := walked(t, s)
	for i, o := range p.objs {
		touched := lo < p.room[i].Off+p.room[i].Bytes && hi > p.room[i].Off
		got, err := storetest.ReadAll(t.Context(), s, o)
		switch {
		case err == nil && bytes.Equal(got, p.data[i]):
			if seen[o.Loc] != o.Size && (!touched || seen[o.Loc] != -1) {
				t.Errorf("%s: object %d is whole; the walk says %d", what, i, seen[o.Loc])
			}
		case err == nil || !bytes.HasPrefix(p.data[i], got):
			t.Fatalf("%s: object %d: wrong bytes, %v", what, i, err)
		case !touched:
			t.Errorf("%s: object %d of %d bytes was not concerned: %v", what, i, o.Size, err)
		case !errors.Is(err, store.ErrCorrupt):
			t.Errorf("%s: object %d: %v", what, i, err)
		default:
			refused++
		}
	}
	return refused
}

// TestPackFlip changes one byte at a time.
func TestPackFlip(t *testing.T) {
	p := newPatient(t)
	every := int64(1)
	if testing.Short() {
		every = 11
	}
	flip := func(at int64) int {
		bad := bytes.Clone(p.good)
		bad[at] ^= 0x20
		return p.examine(t, fmt.Sprintf("byte %d", at), bad, at, at+1)
	}
	for at := int64(0); at < pack.HeadBytes; at += every {
		if (at < 2*pack.BlockBytes || at >= pack.HintsAt-4 && at < pack.HintsAt+pack.BlockBytes+4) && flip(at) > 0 {
			t.Errorf("byte %d of the first block costs an object", at)
		}
	}
	for i, f := range p.room {
		tree := b3.TreeBytes(f.Size)
		for at := int64(0); at < f.Bytes; at += every {
			end := pack.RecordHead + f.Size + tree
			if at >= pack.RecordHead+70 && at < end-tree-3 && at%4001 != 0 || at > end-tree+66 && at < end-66 && at%41 != 0 {
				continue
			}
			refused := flip(f.Off + at)
			harmless := at >= pack.StateAt && at < pack.RecordHead || at >= end
			if harmless != (refused == 0) {
				t.Errorf("object %d, byte %d of %d: %d refused", i, at, f.Bytes, refused)
			}
		}
	}
	// A removed object does not come back as something else.
	at, _ := pack.ParsePlace(p.dead)
	for off := at.Off; off < at.Off+5200; off += 13 * every {
		flip(off)
	}
}

// TestPackDamage does coarser things: what disks lose, what is put back from
// somewhere else.
func TestPackDamage(t *testing.T) {
	p := newPatient(t)
	end := p.room[len(p.room)-1].Off + p.room[len(p.room)-1].Bytes
	step := int64(512)
	if testing.Short() {
		step *= 11
	}
	for off := int64(0); off < end; off += step {
		bad := bytes.Clone(p.good)
		clear(bad[off : off+512])
		p.examine(t, fmt.Sprintf("sector at %d zero", off), bad, off, off+512)
		copy(bad[off:], storetest.Bytes(512, uint64(off)))
		p.examine(t, fmt.Sprintf("sector at %d garbage", off), bad, off, off+512)
	}
	for _, f := range p.room {
		for _, cut := range []int64{f.Off, f.Off + 1, f.Off + pack.StateAt, f.Off + pack.RecordHead, f.Off + f.Bytes - 64} {
			p.examine(t, fmt.Sprintf("cut at %d", cut), p.good[:cut], cut, int64(len(p.good)))
		}
		// Bytes and tree gone, head whole; and the other way round.
		bad := bytes.Clone(p.good)
		clear(bad[f.Off+pack.RecordHead : f.Off+f.Bytes])
		if n := p.examine(t, "no bytes", bad, f.Off, f.Off+f.Bytes); n != 1 && f.Size > 0 {
			t.Errorf("%d bytes gone: %d refused", f.Size, n)
		}
		bad = bytes.Clone(p.good)
		clear(bad[f.Off : f.Off+pack.RecordHead])
		if n := p.examine(t, "no head", bad, f.Off, f.Off+f.Bytes); n != 1 {
			t.Errorf("head gone: %d refused", n)
		}
	}
	// Two of one length change places, whole, or one is there twice.
	a, b := p.room[4], p.room[5]
	if a.Bytes != b.Bytes || b.Off != a.Off+a.Bytes {
		t.Fatal("they are not neighbours of one length")
	}
	bad := bytes.Clone(p.good)
	copy(bad[a.Off:], p.good[b.Off:b.Off+b.Bytes])
	copy(bad[b.Off:], p.good[a.Off:a.Off+a.Bytes])
	if n := p.examine(t, "swapped", bad, a.Off, b.Off+b.Bytes); n != 2 {
		t.Errorf("swapped: %d refused", n)
	}
	bad = bytes.Clone(p.good)
	copy(bad[a.Off+pack.RecordHead:], p.good[b.Off+pack.RecordHead:b.Off+b.Bytes])
	if n := p.examine(t, "another's bytes", bad, a.Off, a.Off+a.Bytes); n != 1 {
		t.Errorf("another's bytes: %d refused", n)
	}
	// Where not even the hints are left nothing tells that there was more.
	rewrite(t, p.fs, p.path, nil)
	s := mustOpen(t, Config{FS: p.fs, Dir: "/o"})
	if _, err := storetest.ReadAll(t.Context(), s, p.objs[4]); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("an empty file: %v", err)
	}
	if n := len(walked(t, s)); n != 0 || len(packFiles(t, p.fs)) != 0 {
		t.Errorf("an empty file: %d objects, %v", n, packFiles(t, p.fs))
	}
}

// TestShortPack: a pack that holds less than it said is kept, whatever is removed.
func TestShortPack(t *testing.T) {
	p := newPatient(t)
	rewrite(t, p.fs, p.path, p.good[:p.room[3].Off])
	s := mustOpen(t, Config{FS: p.fs, Dir: "/o"})
	for loc := range walked(t, s) {
		must(t, s.Remove(t.Context(), loc))
	}
	if n := len(walked(t, s)); n != 0 || len(packFiles(t, p.fs)) != 1 {
		t.Errorf("%d objects, %v", n, packFiles(t, p.fs))
	}
}

// TestDamagedGo: damaged records can be removed, and the pack with the last.
func TestDamagedGo(t *testing.T) {
	p := newPatient(t)
	bad := bytes.Clone(p.good)
	for i, f := range p.room {
		switch i % 3 {
		case 0:
			bad[f.Off+10]++ // the head
		case 1:
			bad[f.Off+pack.RecordHead]++ // the bytes, or of an empty one the padding
		}
	}
	last := p.room[len(p.room)-1]
	bad = bad[:last.Off+pack.StateAt+3] // within a head
	rewrite(t, p.fs, p.path, bad)
	s := mustOpen(t, Config{FS: p.fs, Dir: "/o"})
	seen := walked(t, s)
	var locs []store.Loc
	damaged := 0
	for loc, size := range seen {
		if size < 0 {
			damaged++
		}
		locs = append(locs, loc)
	}
	if damaged < 6 {
		t.Errorf("only %d are damaged", damaged)
	}
	// Others' places are left alone.
	at, _ := pack.ParsePlace(p.objs[9].Loc)
	within := pack.Place{ID: at.ID, Off: at.Off + 128}.Loc()
	before := bytes.Clone(bad)
	must(t, s.Remove(t.Context(), within))
	if got, _ := p.fs.ReadFile(p.path, 1<<30); !bytes.Equal(got[pack.HeadBytes:], before[pack.HeadBytes:]) {
		t.Error("a place within a record was written")
	}
	must(t, s.Remove(t.Context(), locs...))
	if n := walked(t, s); len(n) != 0 {
		t.Errorf("left: %v", n)
	}
}

// TestNewerPack: what a later version wrote is not touched.
func TestNewerPack(t *testing.T) {
	p := newPatient(t)
	bad := bytes.Clone(p.good)
	bad[8] = 2
	sum := b3.Sum(bad[:48])
	copy(bad[48:64], sum[:])
	rewrite(t, p.fs, p.path, bad)
	s := mustOpen(t, Config{FS: p.fs, Dir: "/o"})
	if _, err := s.Volumes(t.Context()); !errors.Is(err, ErrNewer) {
		t.Errorf("volumes: %v", err)
	}
	if err := s.Remove(t.Context(), p.objs[0].Loc); !errors.Is(err, ErrNewer) {
		t.Errorf("remove: %v", err)
	}
	at, _ := pack.ParsePlace(p.objs[0].Loc)
	bad = bytes.Clone(p.good)
	head := bad[at.Off : at.Off+80]
	head[8] = 2
	sum = b3.Sum(head[:64])
	copy(head[64:], sum[:])
	rewrite(t, p.fs, p.path, bad)
	if _, err := s.Open(t.Context(), p.objs[0].Loc, p.objs[0].Addr, p.objs[0].Size); !errors.Is(err, ErrNewer) {
		t.Errorf("open: %v", err)
	}
}
