// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package logtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// LogKill kills a process that appends and drops, again and again, with SIGKILL: all
// that it acknowledged is there, in order, once, and nothing in part. It must be all
// that its test does.
func LogKill(t *testing.T, open func(dir string) (store.Log, error)) {
	if dir := os.Getenv(storetest.KillDir); dir != "" {
		logVictim(t, dir, open)
		return
	}
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(4, 1))
	var acked [logWriters]uint64
	for round := range storetest.Rounds(t) {
		dropped := map[uint32]bool{}
		storetest.Killed(t, dir, 20+r.IntN(400), func(s string) {
			var w int
			var n uint64
			if _, err := fmt.Sscanf(s, "ack %d %d\n", &w, &n); err == nil {
				acked[w] = n
			} else if _, err := fmt.Sscanf(s, "dropped %d\n", &n); err == nil {
				dropped[uint32(n)] = true
			} else {
				t.Fatalf("%q: %v", s, err)
			}
		})
		l, err := open(dir)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		next, err := victims(l, dropped)
		for w, n := range next {
			if n < acked[w] {
				err = errors.Join(err, fmt.Errorf("writer %d: %d of %d acknowledged", w, n, acked[w]))
			}
			acked[w] = n
		}
		if err := errors.Join(err, l.Close()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

// victims returns the last number of each writer: each counts up by one, from where
// the segments that are left begin.
func victims(l store.Log, dropped map[uint32]bool) (last [logWriters]uint64, err error) {
	list, err := scanAll(l, 0)
	for _, e := range list {
		w, n := e.data[0], binary.BigEndian.Uint64(e.data[1:])
		if dropped[e.at.Segment()] {
			return last, fmt.Errorf("%x was dropped and is there", uint64(e.at))
		}
		if last[w] != 0 && n != last[w]+1 {
			return last, fmt.Errorf("writer %d: %d after %d", w, n, last[w])
		}
		if string(e.data[9:]) != string(victimFilling(w, n)) {
			return last, fmt.Errorf("writer %d: %d has other bytes", w, n)
		}
		last[w] = n
	}
	return last, err
}

func victimFilling(w byte, n uint64) []byte { return storetest.Bytes(int(n*31%4000), n*3+uint64(w)) }

func logVictim(t *testing.T, dir string, open func(dir string) (store.Log, error)) {
	l, err := open(dir)
	storetest.Must(t, err)
	last, err := victims(l, nil)
	storetest.Must(t, err)
	var c storetest.Child
	var wg sync.WaitGroup
	var stop atomic.Bool
	for w := range logWriters {
		wg.Go(func() {
			for n := last[w] + 1; !stop.Load(); n++ {
				head := binary.BigEndian.AppendUint64([]byte{byte(w)}, n)
				p, err := l.StageOne(false, head, victimFilling(byte(w), n))
				if err == nil {
					err = l.SyncTo(context.Background(), p+1)
				}
				if err != nil {
					stop.Store(true)
					return
				}
				c.Say("ack %d %d\n", w, n)
				// Only the oldest goes, so that what is left is without a hole.
				if list := l.Segments(); w == 0 && len(list) > 3 {
					if l.Drop(list[0].ID) != nil {
						return
					}
					c.Say("dropped %d\n", list[0].ID)
				}
			}
		})
	}
	wg.Wait()
}
