// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package logtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// Log runs the suite of a store.Log. open returns an empty one with room for at
// least 96 MiB.
func Log(t *testing.T, open func(t *testing.T) store.Log) {
	for name, f := range map[string]func(*testing.T, store.Log){
		"Order": logOrder, "Limits": logLimits, "Staged": logStaged, "Concurrent": logConcurrent,
		"Drop": logDrop, "Wait": logWait, "Closed": logClosed, "From": logFrom, "Many": logMany,
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t)
			f(t, l)
			if err := l.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
				t.Error(err)
			}
		})
	}
}

// entry is a record that was found.
type entry struct {
	at   store.Pos
	data []byte
}

// scanAll returns all records of a log, and fails on damage.
func scanAll(l store.Log, from store.Pos) (list []entry, err error) {
	var bad error
	err = l.Scan(from, func(p store.Pos, b []byte) error {
		list = append(list, entry{p, bytes.Clone(b)})
		return nil
	}, func(p store.Pos, n int64) {
		bad = errors.Join(bad, fmt.Errorf("%d bytes at %x are damaged", n, uint64(p)))
	})
	return list, errors.Join(err, bad)
}

func logOrder(t *testing.T, l store.Log) {
	var want []entry
	stage := func(records ...[]byte) {
		t.Helper()
		places, err := l.Stage(false, records...)
		storetest.Must(t, err)
		for i, p := range places {
			want = append(want, entry{p, bytes.Clone(records[i])})
			clear(records[i]) // they were copied
		}
	}
	for i := range 200 {
		stage(storetest.Bytes(i*7, uint64(i)))
		stage(storetest.Bytes(3, uint64(i)), nil, storetest.Bytes(5000, uint64(i)))
		p, err := l.StageOne(i%2 == 0, storetest.Bytes(i%40, 1), storetest.Bytes(i*11, 2))
		storetest.Must(t, err)
		want = append(want, entry{p, append(storetest.Bytes(i%40, 1), storetest.Bytes(i*11, 2)...)})
	}
	if places, err := l.Stage(false); err != nil || len(places) != 0 {
		t.Errorf("nothing staged: %v, %v", places, err)
	}
	storetest.Must(t, l.Sync(t.Context()))
	got, err := scanAll(l, 0)
	storetest.Must(t, err)
	if len(got) != len(want) {
		t.Fatalf("%d records of %d", len(got), len(want))
	}
	var buf []byte
	for i, w := range want {
		if i > 0 && w.at <= want[i-1].at {
			t.Fatalf("record %d is at %x, after %x", i, uint64(w.at), uint64(want[i-1].at))
		}
		if got[i].at != w.at || !bytes.Equal(got[i].data, w.data) {
			t.Fatalf("scan: record %d of %d bytes at %x: %d bytes at %x", i, len(w.data), uint64(w.at), len(got[i].data), uint64(got[i].at))
		}
		if buf, err = l.Read(w.at, buf); err != nil || !bytes.Equal(buf, w.data) {
			t.Fatalf("read: record %d of %d bytes: %d bytes, %v", i, len(w.data), len(buf), err)
		}
	}
	stop := errors.New("stop")
	n := 0
	if err := l.Scan(0, func(store.Pos, []byte) error { n++; return stop }, nil); !errors.Is(err, stop) || n != 1 {
		t.Errorf("an error does not end the scan: %d calls, %v", n, err)
	}
}

// logMany: ReadMany gives what Read does, in whatever order and however long the
// records are said to be, of those that are only staged and of places that are none.
func logMany(t *testing.T, l store.Log) {
	rng := rand.New(rand.NewPCG(3, 4))
	var all []store.Span
	stage := func(n int) {
		t.Helper()
		at, err := l.StageOne(false, nil, storetest.Bytes(n, uint64(len(all))))
		storetest.Must(t, err)
		all = append(all, store.Span{At: at, Bytes: int64(n)})
	}
	for i := range 3000 {
		switch {
		case i == 2500:
			storetest.Must(t, l.Sync(t.Context()))
		case i%97 == 0:
			stage(100_000)
		default:
			stage(rng.IntN(3000))
		}
	}
	check := func(places []store.Span) {
		t.Helper()
		next := 0
		l.ReadMany(places, func(i int, record []byte, err error) {
			want, wanted := l.Read(places[i].At, nil)
			if i != next || !bytes.Equal(record, want) || (err == nil) != (wanted == nil) || errors.Is(err, store.ErrNotFound) != errors.Is(wanted, store.ErrNotFound) {
				t.Fatalf("record %d (%d was due) at %x: %d bytes, %v; Read gives %d, %v", i, next, uint64(places[i].At), len(record), err, len(want), wanted)
			}
			next++
		})
		if next != len(places) {
			t.Fatalf("%d of %d places were told", next, len(places))
		}
	}
	check(nil)
	check(all)
	for range 200 {
		from := rng.IntN(len(all))
		some := slices.Clone(all[from:min(from+rng.IntN(300), len(all))])
		for range rng.IntN(4) {
			if len(some) == 0 {
				break
			}
			switch p := &some[rng.IntN(len(some))]; rng.IntN(6) {
			case 0:
				p.Bytes = rng.Int64N(4000)
			case 1:
				p.At += 8
			case 2:
				p.At = store.MakePos(p.At.Segment()+1000, p.At.Offset())
			case 3:
				rng.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			case 4:
				p.At++
			case 5:
				p.Bytes = -1
			}
		}
		check(some)
	}
	if s := l.Segments(); len(s) > 1 {
		storetest.Must(t, l.Sync(t.Context()))
		storetest.Must(t, l.Drop(s[0].ID))
		check(all)
	}
}

func logLimits(t *testing.T, l store.Log) {
	big := storetest.Bytes(store.MaxRecordBytes, 1)
	at, err := l.StageOne(false, big[:10], big[10:])
	storetest.Must(t, err)
	places, err := l.Stage(false, big, []byte("x"))
	storetest.Must(t, err)
	storetest.Must(t, l.Sync(t.Context()))
	for _, p := range []store.Pos{at, places[0]} {
		if b, err := l.Read(p, nil); err != nil || !bytes.Equal(b, big) {
			t.Errorf("the largest record: %d bytes, %v", len(b), err)
		}
	}
	if places[0].Segment() != places[1].Segment() {
		t.Error("records that were staged together are in two segments")
	}
	staged := l.Staged()
	over := make([]byte, store.MaxRecordBytes+1)
	if _, err := l.Stage(true, []byte("before"), over); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := l.StageOne(true, over[:1], over[1:]); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("too large in two parts: %v", err)
	}
	if _, err := l.Stage(true, big, big, big, big); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("too much at once: %v", err)
	}
	if l.Staged() != staged {
		t.Error("what was refused was staged in part")
	}
	if b, err := l.Read(places[1]+1<<20, nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("beyond the end: %d bytes, %v", len(b), err)
	}
	if b, err := l.Read(0, nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no place: %d bytes, %v", len(b), err)
	}
}

// logStaged: what is staged can be read, and is not durable.
func logStaged(t *testing.T, l store.Log) {
	if l.Staged() != l.Durable() {
		t.Error("an empty log has something that is not durable")
	}
	a, err := l.StageOne(false, []byte("a"), nil)
	storetest.Must(t, err)
	end := l.Staged()
	b, err := l.StageOne(false, nil, []byte("b"))
	storetest.Must(t, err)
	for p, want := range map[store.Pos]string{a: "a", b: "b"} {
		if got, err := l.Read(p, nil); err != nil || string(got) != want {
			t.Errorf("%q is staged: %q, %v", want, got, err)
		}
	}
	if l.Durable() > a {
		t.Error("durable without a sync")
	}
	if list, err := scanAll(l, 0); err != nil || len(list) != 0 {
		t.Errorf("a scan sees %d records that are not durable, %v", len(list), err)
	}
	storetest.Must(t, l.SyncTo(t.Context(), end))
	if d := l.Durable(); d < end {
		t.Errorf("durable to %x, not %x", uint64(d), uint64(end))
	}
	storetest.Must(t, l.Sync(t.Context()))
	if list, err := scanAll(l, 0); err != nil || len(list) != 2 || l.Durable() < l.Staged() {
		t.Errorf("%d records, %v", len(list), err)
	}
}

func logConcurrent(t *testing.T, l store.Log) {
	const writers, each = 16, 60
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				record := binary.BigEndian.AppendUint32([]byte{byte(w)}, uint32(i))
				record = append(record, storetest.Bytes(i*13, uint64(w))...)
				p, err := l.StageOne(false, record[:5], record[5:])
				if err == nil {
					err = l.SyncTo(context.Background(), p+1)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if l.Durable() <= p {
					t.Error("synced and not durable")
				}
				if b, err := l.Read(p, nil); err != nil || !bytes.Equal(b, record) {
					t.Errorf("%d bytes, %v", len(b), err)
				}
			}
		})
	}
	wg.Wait()
	list, err := scanAll(l, 0)
	storetest.Must(t, err)
	var next [writers]uint32
	for _, e := range list {
		if w := e.data[0]; binary.BigEndian.Uint32(e.data[1:]) == next[w] {
			next[w]++
		}
	}
	if len(list) != writers*each || next != [writers]uint32(bytesOf(each, writers)) {
		t.Errorf("%d records, in order to %v", len(list), next)
	}
}

func bytesOf(v uint32, n int) []uint32 {
	list := make([]uint32, n)
	for i := range list {
		list[i] = v
	}
	return list
}

// segments appends records until a log has n segments, and returns their places.
func segments(t *testing.T, l store.Log, n int) []store.Pos {
	t.Helper()
	var places []store.Pos
	for i := 0; len(l.Segments()) < n; i++ {
		p, err := l.Stage(false, storetest.Bytes(100_000, uint64(i)))
		storetest.Must(t, err)
		places = append(places, p...)
	}
	storetest.Must(t, l.Sync(t.Context()))
	return places
}

func logDrop(t *testing.T, l store.Log) {
	places := segments(t, l, 3)
	list := l.Segments()
	for i, s := range list {
		if s.Active != (i == len(list)-1) || s.Bytes <= 0 || i > 0 && s.ID <= list[i-1].ID {
			t.Errorf("segment %d: %+v", i, s)
		}
	}
	if err := l.Drop(list[0].ID, list[2].ID); !errors.Is(err, store.ErrRange) || len(l.Segments()) != 3 {
		t.Errorf("dropped the active one: %v, %d are left", err, len(l.Segments()))
	}
	storetest.Must(t, l.Drop(list[1].ID))
	storetest.Must(t, l.Drop(list[1].ID, 0, 999))
	left := 0
	for i, p := range places {
		b, err := l.Read(p, nil)
		if p.Segment() == list[1].ID {
			if !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("a dropped record: %d bytes, %v", len(b), err)
			}
			continue
		}
		left++
		if err != nil || !bytes.Equal(b, storetest.Bytes(100_000, uint64(i))) {
			t.Fatalf("record %d: %d bytes, %v", i, len(b), err)
		}
	}
	if got, err := scanAll(l, 0); err != nil || len(got) != left {
		t.Errorf("%d records of %d, %v", len(got), left, err)
	}
	// Numbers are not used again, and what is dropped while it is staged is gone too.
	for range 3 {
		last := l.Segments()[len(l.Segments())-1].ID
		for l.Segments()[len(l.Segments())-1].ID == last {
			_, err := l.Stage(false, storetest.Bytes(100_000, 1))
			storetest.Must(t, err)
		}
		storetest.Must(t, l.Drop(last))
	}
	list = l.Segments()
	if last := list[len(list)-1]; last.ID < 6 {
		t.Errorf("segment %d after six", last.ID)
	}
	storetest.Must(t, l.Sync(t.Context()))
	_, err := scanAll(l, 0)
	storetest.Must(t, err)
}

// logWait: the context ends a wait, not the write.
func logWait(t *testing.T, l store.Log) {
	p, err := l.StageOne(false, nil, []byte("x"))
	storetest.Must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Sync(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	storetest.Must(t, l.SyncTo(t.Context(), p+1))
	storetest.Must(t, l.SyncTo(t.Context(), l.Staged()+1<<32)) // no more than there is
	storetest.Must(t, l.SyncTo(t.Context(), 0))
}

func logClosed(t *testing.T, l store.Log) {
	p, err := l.StageOne(false, nil, []byte("x"))
	storetest.Must(t, err)
	storetest.Must(t, l.Check(t.Context()))
	storetest.Must(t, l.Close())
	_, stage := l.Stage(true, []byte("y"))
	_, one := l.StageOne(true, nil, []byte("y"))
	_, read := l.Read(p, nil)
	for what, err := range map[string]error{"Stage": stage, "StageOne": one, "Read": read, "Check": l.Check(t.Context()), "Drop": l.Drop(7),
		"Scan": l.Scan(0, nil, nil)} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}

func logFrom(t *testing.T, l store.Log) {
	places := segments(t, l, 3)
	for i := 0; i < len(places); i += 1 + i/3 {
		got, err := scanAll(l, places[i])
		if err != nil || len(got) != len(places)-i || got[0].at != places[i] {
			t.Errorf("from record %d of %d: %d, %v", i, len(places), len(got), err)
		}
	}
	if got, err := scanAll(l, l.Staged()); err != nil || len(got) != 0 {
		t.Errorf("from the end: %d, %v", len(got), err)
	}
}
