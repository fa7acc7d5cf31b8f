// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
)

// change is one call of a writer, each of which has its own vertex.
type change struct {
	put bool
	to  int
	key string
}

func (c change) request(writer int) req {
	from, to := fmt.Sprint("id/w", writer), fmt.Sprint("id/", c.to)
	q := edgeOf("graph.delete", from, "t", to)
	if c.put {
		q = putOf(from, "t", to)
	}
	q.Key = c.key
	return q
}

// TestCrash loses power while writers put and delete: what was answered is there,
// what was not is there whole or not at all, both directions, count and first answer
// say the same, and the next start works on with it.
func TestCrash(t *testing.T) {
	const writers, calls = 3, 20
	for seed := range uint64(60) {
		fs := disk.Crashable()
		w := over(t, onDisk(t, fs))
		var mu sync.Mutex
		begun, told := make([][]change, writers), make([]int, writers)
		var after *disk.FS
		var begunThen [][]change
		var toldThen []int
		total, crashAt := 0, 5+int(seed*11)%(writers*calls-10)
		crash := func() { // holds mu
			toldThen = slices.Clone(told)
			after = fs.Crash(int(seed%3)*50, seed)
			for _, b := range begun {
				begunThen = append(begunThen, slices.Clone(b))
			}
		}
		var wg sync.WaitGroup
		for n := range writers {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(n)))
				for i := range calls {
					c := change{r.IntN(3) > 0, r.IntN(4), fmt.Sprintf("w%d-%d", n, i)}
					mu.Lock()
					begun[n] = append(begun[n], c)
					mu.Unlock()
					if _, err := w.Do(c.request(n)); err != nil && macronode.KindOf(err) != macronode.NotFound {
						t.Errorf("%+v: %v", c, err)
						return
					}
					mu.Lock()
					told[n]++
					if total++; total == crashAt {
						crash()
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		checkCrash(t, over(t, onDisk(t, after)), begunThen, toldThen)
	}
}

func checkCrash(t *testing.T, w *world, begun [][]change, told []int) {
	t.Helper()
	var edges int64
	for n, changes := range begun {
		want := map[string]bool{}
		for _, c := range changes[:told[n]] {
			if want["t id/"+fmt.Sprint(c.to)] = c.put; !c.put {
				delete(want, "t id/"+fmt.Sprint(c.to))
			}
		}
		list := func() string {
			out := w.around(fmt.Sprint("id/w", n), "out", "", 100, nil)
			for _, e := range out { // the other direction says the same
				back := w.around(strings.TrimPrefix(e, "t "), "in", "t", 100, nil)
				if !slices.Contains(back, fmt.Sprint("t id/w", n)) {
					t.Fatalf("%s is there in one direction alone", e)
				}
			}
			return strings.Join(out, ", ")
		}
		text := func() string {
			var all []string
			for e := range want {
				all = append(all, e)
			}
			slices.Sort(all)
			return strings.Join(all, ", ")
		}
		got := list()
		if got != text() && len(changes) == told[n] {
			t.Fatalf("writer %d has %q, was told %q", n, got, text())
		}
		// A retry of the call under way makes it so whether or not it was done; a
		// retry of what was answered changes nothing.
		if last := told[n]; last > 0 {
			if reply, err := w.Do(changes[last-1].request(n)); err == nil && reply.Header.Get("Idempotency-Replayed") != "true" {
				t.Fatalf("%+v was answered and is done again", changes[last-1])
			}
			if list() != got {
				t.Fatalf("a replay of %+v changed something", changes[last-1])
			}
		}
		if len(changes) > told[n] {
			c := changes[told[n]]
			edge := "t id/" + fmt.Sprint(c.to)
			was, is := want[edge], slices.Contains(strings.Split(got, ", "), edge)
			reply, err := w.Do(c.request(n))
			if err != nil && macronode.KindOf(err) != macronode.NotFound {
				t.Fatal(err)
			}
			// The change and its first answer are one.
			if replayed := err == nil && reply.Header.Get("Idempotency-Replayed") == "true"; was != c.put && replayed != (is == c.put) {
				t.Fatalf("%+v was made: %v, replayed: %v (%v)", c, is == c.put, replayed, err)
			}
			if want["t id/"+fmt.Sprint(c.to)] = c.put; !c.put {
				delete(want, "t id/"+fmt.Sprint(c.to))
			}
			if got := list(); got != text() {
				t.Fatalf("writer %d has %q after the retry, want %q", n, got, text())
			}
		}
		edges += int64(len(want))
	}
	w.counts(edges)
}
