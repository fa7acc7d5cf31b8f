// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"math/rand/v2"
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// TestScanFrom: a scan from any place that once was the end, in files used again too
// and over power cuts, finds all that follows, and nothing damaged.
func TestScanFrom(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	fs := disk.Crashable()
	l, _, err := openTiny(fs, testDir)
	if err != nil {
		t.Fatal(err)
	}
	var ends, records []store.Pos
	for round := range 12 {
		for range 60 {
			ends = append(ends, l.Staged())
			p, err := l.StageOne(false, nil, storetest.Bytes(rng.IntN(900), 1))
			if err == nil && rng.IntN(3) == 0 {
				err = l.Sync(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, p)
		}
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if list := l.Segments(); len(list) > 4 {
			if err := l.Drop(list[0].ID); err != nil {
				t.Fatal(err)
			}
		}
		if round%3 == 2 {
			old := l
			fs = fs.Crash(rng.IntN(101), rng.Uint64())
			if l, _, err = openTiny(fs, testDir); err != nil {
				t.Fatal(err)
			}
			_ = old.Close() // on the disk that is gone
		}
		oldest := l.Segments()[0].ID
		for _, end := range ends {
			if end.Segment() < oldest {
				continue
			}
			want, got := 0, 0
			for _, p := range records {
				if p >= end {
					want++
				}
			}
			err := l.Scan(end, func(store.Pos, []byte) error { got++; return nil },
				func(p store.Pos, n int64) { t.Errorf("from %x: %d bytes at %x are damaged", uint64(end), n, uint64(p)) })
			if err != nil || got != want {
				t.Fatalf("round %d, from %x: %d records of %d, %v", round, uint64(end), got, want, err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
