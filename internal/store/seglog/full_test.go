// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// fillUp stages and syncs until the log is full, and returns the places.
func fillUp(t *testing.T, l *Log, reserve bool) []store.Pos {
	t.Helper()
	var places []store.Pos
	for range 10_000 {
		p, err := l.StageOne(reserve, nil, storetest.Bytes(500, 1))
		if errors.Is(err, store.ErrFull) {
			if err := l.Check(t.Context()); err != nil {
				t.Errorf("a full disk is a failure: %v", err)
			}
			return places
		}
		if err == nil {
			err = l.Sync(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, p)
	}
	t.Fatal("never full")
	return nil
}

// TestFull: on a full disk nothing is lost, the reserve takes what frees space, and a
// dropped segment makes room without the disk giving any.
func TestFull(t *testing.T) {
	fs := disk.Mem()
	l, _, err := openTiny(fs, testDir)
	if err != nil {
		t.Fatal(err)
	}
	var places []store.Pos
	for len(l.Segments()) < 3 {
		p, err := l.StageOne(false, nil, storetest.Bytes(500, 1))
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, p)
	}
	ready := func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.spare != nil && !l.spare.filling
	}
	for n := 0; !ready(); n++ {
		if n > 1_000_000 {
			t.Fatal("there is no spare")
		}
		runtime.Gosched()
	}
	fs.SetFree(1)
	places = append(places, fillUp(t, l, false)...)
	reserved := fillUp(t, l, true)
	if len(reserved) < 25 { // a whole segment
		t.Errorf("the reserve took %d records", len(reserved))
	}
	if _, err := l.StageOne(false, nil, nil); !errors.Is(err, store.ErrFull) {
		t.Errorf("staged into the reserve: %v", err)
	}
	for range 2 { // the second time after a restart, on the disk that is still full
		for _, p := range append(places, reserved...) {
			if b, err := l.Read(p, nil); err != nil || !bytes.Equal(b, storetest.Bytes(500, 1)) {
				t.Fatalf("%x: %d bytes, %v", uint64(p), len(b), err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, _, err = openTiny(fs, testDir); err != nil {
			t.Fatal(err)
		}
	}
	oldest := l.Segments()[0].ID
	if err := l.Drop(oldest); err != nil {
		t.Fatal(err)
	}
	if again := fillUp(t, l, true); len(again) < 10 {
		t.Errorf("a dropped segment made room for %d records", len(again))
	}
	if _, err := l.Read(places[0], nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a record of what was dropped and used again: %v", err)
	}
	fs.SetFree(1 << 30)
	l.SetReserve(0)
	for n := 0; ; n++ {
		if _, err := l.StageOne(false, nil, []byte("x")); err == nil {
			break
		} else if n > 1_000_000 {
			t.Fatal("full for good:", err)
		}
		runtime.Gosched()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDropStaged: a segment is dropped while what was staged into it is being written.
// Its file is not given away before that is through.
func TestDropStaged(t *testing.T) {
	var writing, early atomic.Bool
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var hold atomic.Bool
	fs := disk.Mem().WithFaults(func(op errorfs.Op) error {
		switch {
		case op.Kind == errorfs.OpFileWriteAt && hold.Load():
			once.Do(func() {
				writing.Store(true)
				close(held)
				<-release
				writing.Store(false)
			})
		case (op.Kind == errorfs.OpRename || op.Kind == errorfs.OpRemove) && strings.HasSuffix(op.Path, fileName(1)) && writing.Load():
			early.Store(true)
		}
		return nil
	})
	l, _, err := openTiny(fs, testDir)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ { // the spare is made
		l.mu.Lock()
		ready := l.spare != nil && !l.spare.filling
		l.mu.Unlock()
		if ready {
			break
		}
		if n > 1_000_000 {
			t.Fatal("there is no spare")
		}
		runtime.Gosched()
	}
	hold.Store(true)
	for len(l.Segments()) < 2 {
		if _, err := l.StageOne(false, nil, storetest.Bytes(500, 1)); err != nil {
			t.Fatal(err)
		}
	}
	<-held
	dropped := make(chan error, 1)
	go func() { dropped <- l.Drop(1) }()
	for range 20_000 {
		runtime.Gosched()
	}
	close(release)
	if err := errors.Join(<-dropped, l.Close()); err != nil || early.Load() {
		t.Errorf("given away under its writer: %t, %v", early.Load(), err)
	}
}

// TestReused: a file that is used again under another number gives back nothing of
// what it held, at whatever place that lay.
func TestReused(t *testing.T) {
	fs := disk.Mem()
	l, _, err := openTiny(fs, testDir)
	if err != nil {
		t.Fatal(err)
	}
	reused := 0
	for round := range 30 {
		for n := len(l.Segments()); len(l.Segments()) == n; {
			// The same lengths each time, so that frames begin where frames began.
			if _, err := l.StageOne(false, []byte{byte(round)}, storetest.Bytes(500, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		list := l.Segments()
		if l.active().reused {
			reused++
		}
		if len(list) < 3 {
			continue
		}
		if err := l.Drop(list[0].ID); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var found Found
		if l, found, err = openTiny(fs, testDir); err != nil || len(found.Damaged) > 0 || found.TornBytes > 0 {
			t.Fatalf("round %d: %+v, %v", round, found, err)
		}
		err := l.Scan(0, func(p store.Pos, b []byte) error {
			if int(b[0]) < round-1 {
				t.Fatalf("round %d: %x is of round %d", round, uint64(p), b[0])
			}
			return nil
		}, func(p store.Pos, n int64) { t.Fatalf("round %d: %d bytes at %x are damaged", round, n, uint64(p)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	if reused == 0 {
		t.Error("no file was used again")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLastLot: damage in what was durable is damage, also in the last lot, where the
// process was killed and not the power cut; the records behind it stay.
func TestLastLot(t *testing.T) {
	fs := disk.Crashable()
	l, _, err := openTiny(fs, testDir)
	if err != nil {
		t.Fatal(err)
	}
	places, err := l.Stage(false, []byte("first record"), []byte("second record"), []byte("third record"))
	if err == nil {
		err = l.Sync(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	name := testDir + "/" + fileName(places[0].Segment())
	next := store.MakePos(places[0].Segment(), places[2].Offset()+frameRoom(12))
	marked := func() []byte {
		b, err := fs.ReadFile(name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var b []byte
	for n := 0; ; n++ { // the mark follows the answer
		if b = marked(); !bytes.Equal(b[next.Offset():][:frameHead], make([]byte, frameHead)) {
			break
		}
		if n > 1_000_000 {
			t.Fatal("there is no mark")
		}
		runtime.Gosched()
	}
	b[places[1].Offset()+frameHead] ^= 4
	image := disk.Mem()
	if err := errors.Join(image.MkdirAllSync(testDir), image.ReplaceFile(name, b, disk.FileMode), l.Close()); err != nil {
		t.Fatal(err)
	}
	l, found, err := openTiny(image, testDir)
	if err != nil || len(found.Damaged) != 1 || found.Damaged[0].At != places[1] || found.TornBytes != 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	if b, err := l.Read(places[2], nil); err != nil || string(b) != "third record" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := l.Read(places[1], nil); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("the damaged one: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMarksToTheEnd opens a log again and again, each time with one lot more, so that
// its marks come to lie wherever the end of a segment can be.
func TestMarksToTheEnd(t *testing.T) {
	fs := disk.Mem()
	want := 0
	for round := range 1500 {
		l, found, err := openTiny(fs, testDir)
		if err != nil || found.TornBytes > 0 || len(found.Damaged) > 0 {
			t.Fatalf("round %d: %+v, %v", round, found, err)
		}
		for range round % 4 {
			if _, err = l.StageOne(false, nil, storetest.Bytes(round%57, 1)); err == nil {
				err = l.Sync(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			want++
		}
		if round%100 == 99 {
			n := 0
			if err := l.Scan(0, func(store.Pos, []byte) error { n++; return nil },
				func(p store.Pos, n int64) { t.Errorf("round %d: %d bytes at %x are damaged", round, n, uint64(p)) }); err != nil || n != want {
				t.Fatalf("round %d: %d records of %d, %v", round, n, want, err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
