// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package logtest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// LogDamage flips bits in every file of a log, overwrites parts and cuts files short.
// Only the records that lie there are lost, and what is lost is said. dir is where open
// keeps the log; said tells how many bytes opening it reported.
func LogDamage(t *testing.T, open OpenLog, dir string, said func(l store.Log) int64) {
	whole := disk.Mem()
	l, err := open(whole)
	storetest.Must(t, err)
	staged := map[store.Pos][]byte{}
	var last store.Pos
	for i := 0; len(l.Segments()) < 4; i++ {
		b := storetest.Bytes(50+i*37%700, uint64(i))
		p, err := l.StageOne(false, nil, b)
		storetest.Must(t, err)
		storetest.Must(t, l.Sync(t.Context()))
		staged[p], last = b, p
	}
	active := l.Segments()[3].ID
	for range 10 {
		p, err := l.StageOne(false, nil, storetest.Bytes(300, 1))
		storetest.Must(t, err)
		staged[p], last = storetest.Bytes(300, 1), p
	}
	storetest.Must(t, l.Close())
	names, err := whole.List(dir)
	storetest.Must(t, err)
	r := rand.New(rand.NewPCG(3, 3))
	tries, lost := 0, 0
	for _, name := range names {
		b, err := whole.ReadFile(dir+"/"+name, 1<<30)
		storetest.Must(t, err)
		try := func(what string, b []byte, most int64, cut bool) {
			t.Helper()
			image := disk.Mem()
			storetest.Must(t, image.MkdirAllSync(dir))
			for _, other := range names {
				c, err := whole.ReadFile(dir+"/"+other, 1<<30)
				storetest.Must(t, err)
				if other == name {
					c = b
				}
				storetest.Must(t, image.ReplaceFile(dir+"/"+other, c, disk.FileMode))
			}
			n, err := damagedLog(t, open, image, staged, last, active, most, cut, said)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, what, err)
			}
			tries++
			lost += n
		}
		for range 150 {
			at := r.IntN(len(b))
			c := bytes.Clone(b)
			c[at] ^= 1 << r.IntN(8)
			try(fmt.Sprintf("a bit of byte %d", at), c, 1, false)
		}
		for range 30 {
			at, n := r.IntN(len(b)), 1+r.IntN(2000)
			c := bytes.Clone(b)
			for i := at; i < min(at+n, len(b)); i++ {
				c[i] = byte(r.Uint32())
			}
			try(fmt.Sprintf("%d bytes at %d", n, at), c, int64(n), false)
		}
		for range 20 {
			at := r.IntN(len(b))
			try(fmt.Sprintf("cut at %d", at), b[:at:at], int64(len(b)-at), true)
		}
	}
	if lost == 0 {
		t.Error("nothing was ever lost")
	}
	t.Logf("%d files, %d times damaged, %d records lost in all", len(names), tries, lost)
}

// damagedLog opens an image of which most bytes in a row are not what they were.
func damagedLog(t *testing.T, open OpenLog, image *disk.FS, staged map[store.Pos][]byte, last store.Pos, active uint32, most int64, cut bool, said func(l store.Log) int64) (int, error) {
	l, err := open(image)
	if err != nil {
		return 0, err
	}
	reported := said(l)
	found := map[store.Pos]bool{}
	err = l.Scan(0, func(p store.Pos, b []byte) error {
		if !bytes.Equal(staged[p], b) {
			return fmt.Errorf("%x: %d bytes that nobody staged", uint64(p), len(b))
		}
		found[p] = true
		return nil
	}, func(_ store.Pos, n int64) { reported += n })
	if err != nil {
		return 0, err
	}
	var room int64
	missing := 0
	for p, b := range staged {
		got, err := l.Read(p, nil)
		if found[p] {
			if err != nil || !bytes.Equal(got, b) {
				return 0, fmt.Errorf("%x: scanned and not read: %w", uint64(p), err)
			}
			continue
		}
		missing++
		room += int64(len(b))
		if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrNotFound) {
			return 0, fmt.Errorf("%x: lost, and read: %d bytes, %w", uint64(p), len(got), err)
		}
	}
	if missing > 1 && room > most+2*1000 || !cut && most == 1 && missing > 1 {
		return 0, fmt.Errorf("%d records of %d bytes are lost with %d bytes", missing, room, most)
	}
	if missing > 0 && reported == 0 {
		return 0, fmt.Errorf("%d records are lost and nothing is said", missing)
	}
	// It goes on: what is added is found beside what is left.
	p, err := l.StageOne(false, nil, []byte("added"))
	if err != nil {
		return 0, err
	}
	if staged[p] != nil && found[p] {
		return 0, fmt.Errorf("%x: the place of a record that is there was given again", uint64(p))
	}
	if err := l.Sync(t.Context()); err != nil {
		return 0, err
	}
	n := 0
	err = l.Scan(0, func(store.Pos, []byte) error { n++; return nil }, func(store.Pos, int64) {})
	if n != len(found)+1 {
		err = errors.Join(err, fmt.Errorf("%d records and one more are %d", len(found), n))
	}
	return missing, errors.Join(err, l.Close())
}
