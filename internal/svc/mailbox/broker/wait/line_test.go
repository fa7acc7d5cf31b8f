// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wait

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLineOrder: whoever waits longest is called first, also one who was called
// for nothing before, and a message is worth one call.
func TestLineOrder(t *testing.T) {
	var l Line
	w := make([]*Waiter, 4)
	for i := range w {
		w[i] = NewWaiter()
		l.Join(w[i])
	}
	l.Call(1)
	l.Call(1) // the same message, seen again
	if !w[0].called || w[1].called {
		t.Fatal("one message did not call exactly the first")
	}
	l.Tries(w[0])
	l.Join(w[0]) // it got nothing
	l.Call(2)
	if !w[0].called || !w[1].called || w[2].called {
		t.Fatal("who was called for nothing lost its place")
	}
	l.Leave(w[2])
	l.CallAll()
	if !w[3].called || l.length != 0 {
		t.Fatal("not everybody was called")
	}
}

// TestLineModel walks the line at random beside a slice of tickets.
func TestLineModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l Line
		var waiting, called []*Waiter
		t.Repeat(map[string]func(*rapid.T){
			"join": func(*rapid.T) {
				w := NewWaiter()
				l.Join(w)
				waiting = append(waiting, w)
			},
			"leave": func(t *rapid.T) {
				if len(waiting) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(waiting)-1).Draw(t, "i")
				l.Leave(waiting[i])
				waiting = append(waiting[:i:i], waiting[i+1:]...)
			},
			"call": func(t *rapid.T) {
				n := rapid.IntRange(0, 4).Draw(t, "n")
				l.Call(n)
				for len(called) < n && len(waiting) > 0 {
					called, waiting = append(called, waiting[0]), waiting[1:]
				}
			},
			"again": func(t *rapid.T) {
				if len(called) == 0 {
					t.Skip()
				}
				w := called[0]
				called = called[1:]
				l.Tries(w)
				if rapid.Bool().Draw(t, "nothing") {
					l.Join(w)
					at := 0
					for at < len(waiting) && waiting[at].ticket < w.ticket {
						at++
					}
					waiting = append(waiting[:at:at], append([]*Waiter{w}, waiting[at:]...)...)
				}
			},
			"": func(t *rapid.T) {
				if l.length != len(waiting) || l.woken != len(called) {
					t.Fatalf("%d wait and %d are called, want %d and %d", l.length, l.woken, len(waiting), len(called))
				}
				w := l.first
				for i := range waiting {
					if w != waiting[i] {
						t.Fatalf("place %d is wrong", i)
					}
					w = w.next
				}
			},
		})
	})
}

func TestTimers(t *testing.T) {
	ts := NewTimers[*int]()
	a, b := new(int), new(int)
	if _, _, ok := ts.Take(5); ok {
		t.Fatal("an empty clockwork rings")
	}
	ts.Arm(a, 20)
	ts.Arm(b, 10)
	select {
	case <-ts.Sooner:
	default:
		t.Fatal("the first entry was not told")
	}
	if _, next, ok := ts.Take(9); !ok || next != 10 {
		t.Fatalf("next is %d", next)
	}
	if got, _, _ := ts.Take(20); got != b {
		t.Fatal("the later came first")
	}
	if got, _, _ := ts.Take(20); got != a {
		t.Fatal("the second is missing")
	}
}

// TestDrainWait: a wait is told from what was seen to leave, and is bounded.
func TestDrainWait(t *testing.T) {
	var d Drain
	if got := d.For(1000, 1, 0); got != Most {
		t.Errorf("nothing leaves: %v", got)
	}
	if got := d.For(1000, 1, 3*time.Second); got != 3*time.Second {
		t.Errorf("something leaves by itself in 3 s: %v", got)
	}
	for ms := int64(1000); ms <= 4000; ms += 100 {
		d.Gone(ms, 1) // ten a second
	}
	if got := d.For(4000, 5, 0); got < 400*time.Millisecond || got > 600*time.Millisecond {
		t.Errorf("five leave at ten a second: %v", got)
	}
	if got := d.For(4000, 1_000_000, 0); got != Most {
		t.Errorf("a million leave at ten a second: %v", got)
	}
	if got := d.For(60_000, 5, 0); got != Most {
		t.Errorf("nothing left for a minute: %v", got)
	}
}
