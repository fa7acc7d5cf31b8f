// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
)

const mib = 1 << 20

// sharing is a wheel with tenants that always have something waiting, in lists
// that a model keeps.
type sharing struct {
	w       wheel
	tenants []*tenant
	served  []int64
}

func newSharing(weights ...int64) *sharing {
	s := &sharing{w: wheel{round: 1, period: 1}}
	for i, weight := range weights {
		s.tenants = append(s.tenants, &tenant{id: macronode.TenantID{byte(i), byte(i >> 8)}, weight: weight, slot: -1})
		s.served = append(s.served, 0)
		s.w.add(s.tenants[i])
	}
	return s
}

func (s *sharing) index(t *tenant) int { return int(t.id[0]) | int(t.id[1])<<8 }

// serve picks one and makes it pay.
func (s *sharing) serve(t rapid.TB, cost func(i int) int64) int {
	p := s.w.pick()
	if p == nil {
		t.Fatal("nobody's turn")
	}
	i := s.index(p)
	c := cost(i)
	s.w.charge(p, c)
	s.served[i] += c
	return i
}

// TestFairness: between any two moments, what two tenants of weights v and w were
// served, each divided by its weight, differs by no more than a quantum and their
// dearest calls, as long as both have calls waiting.
func TestFairness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Int64Range(1, 20), 2, 8).Draw(t, "weights")
		dearest := rapid.Int64Range(1, 8*mib).Draw(t, "dearest")
		s := newSharing(weights...)
		costs := rapid.Int64Range(1, dearest)
		most := make([]int64, len(weights))
		var marks [][]int64
		for n := range rapid.IntRange(50, 400).Draw(t, "calls") {
			s.serve(t, func(i int) int64 {
				c := costs.Draw(t, "cost")
				most[i] = max(most[i], c)
				return c
			})
			if n%40 == 0 {
				marks = append(marks, append([]int64(nil), s.served...))
			}
		}
		for _, from := range marks {
			for i := range weights {
				for j := range weights {
					a, b := float64(s.served[i]-from[i])/float64(weights[i]), float64(s.served[j]-from[j])/float64(weights[j])
					// Over an interval each end adds its own slack.
					bound := 2 * (float64(quantum) + float64(most[i])/float64(weights[i]) + float64(most[j])/float64(weights[j]))
					if a-b > bound {
						t.Fatalf("weights %d %d: served %.0f and %.0f a weight, %.0f may lie between", weights[i], weights[j], a, b, bound)
					}
				}
			}
		}
		// From the beginning, equals differ by a quantum and one call at most.
		for i := range weights {
			for j := range weights {
				if weights[i] == weights[j] && s.served[i]-s.served[j] > weights[i]*quantum+most[i] {
					t.Fatalf("equals got %d and %d", s.served[i], s.served[j])
				}
			}
		}
	})
}

// TestFairnessOfLatePayers: what is known only when a call ends, such as the
// length of a reply, counts as well.
func TestFairnessOfLatePayers(t *testing.T) {
	s := newSharing(1, 1)
	var calls [2]int
	for range 2000 {
		p := s.w.pick()
		i := s.index(p)
		calls[i]++
		s.w.charge(p, workCost) // all that is known
		if i == 0 {
			s.w.charge(p, mib) // at the end
		} else {
			s.w.charge(p, 3*mib)
		}
	}
	if r := float64(calls[0]) / float64(calls[1]); r < 2.9 || r > 3.1 {
		t.Errorf("%v calls, want three times as many small ones", calls)
	}
}

// TestNoSavings: a tenant that comes back has no more than one round's credit,
// and what it owed is paid by the rounds that passed.
func TestNoSavings(t *testing.T) {
	s := newSharing(1, 1, 1)
	idle := s.tenants[2]
	s.w.charge(idle, 8*mib)
	s.w.remove(idle)
	for range 1000 {
		s.serve(t, func(int) int64 { return quantum / 2 })
	}
	s.w.add(idle)
	if idle.deficit != 0 {
		t.Fatalf("came back with %d", idle.deficit)
	}
	row := 0
	for range 200 {
		if row++; s.serve(t, func(int) int64 { return quantum / 2 }) != 2 {
			row = 0
		}
		if row > 2 {
			t.Fatal("saved credit while away")
		}
	}
	s.w.charge(idle, 4*mib)
	s.w.remove(idle)
	s.w.add(idle)
	if idle.deficit > -3*mib {
		t.Errorf("leaving the queue forgave a debt: %d is left", idle.deficit)
	}
}

// TestDebtEnds: nobody owes for more rounds than the wheel has.
func TestDebtEnds(t *testing.T) {
	s := newSharing(1, 1)
	s.w.charge(s.tenants[0], 1<<50)
	for range 3 * rounds {
		if s.serve(t, func(int) int64 { return quantum }) == 0 {
			return
		}
	}
	t.Error("locked out for good")
}

// TestCheapWheel: a turn costs the same however many tenants owe.
func BenchmarkWheel(b *testing.B) {
	for _, n := range []int{2, 100, 10000} {
		b.Run(fmt.Sprint(n, "-tenants"), func(b *testing.B) {
			weights := make([]int64, n)
			for i := range weights {
				weights[i] = int64(i%7) + 1
			}
			s := newSharing(weights...)
			cost := int64(1)
			for b.Loop() {
				cost = cost*6364136223846793005 + 1442695040888963407
				s.w.charge(s.w.pick(), cost&(4*mib-1))
			}
		})
	}
}

func TestClassesOfATenant(t *testing.T) {
	tn := &tenant{}
	push := func(queue int) *Place {
		p := &Place{t: tn, queue: queue, charged: 1}
		tn.queues[queue].push(p)
		return p
	}
	var order []int
	for range 20 {
		push(0)
		push(1)
		push(2)
	}
	for range 60 {
		p := tn.first()
		order = append(order, p.queue)
		tn.queues[p.queue].remove(p)
	}
	reads := 0
	for _, q := range order[:16] {
		if q == 0 {
			reads++
		}
	}
	if order[0] != 0 || order[lowerEvery] != 1 || reads != 14 {
		t.Errorf("order %v", order)
	}
	if tn.first() != nil {
		t.Error("one is left")
	}
}
