// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Other is the label value of everything that is not among the top.
const Other = "_other"

const (
	// topTracked is how many candidates are counted for each place in the top.
	topTracked = 8
	// topEvery is how often the top is chosen anew.
	topEvery = time.Minute
)

// TopLabels bounds a label that would otherwise take a value per tenant: the n
// most active names keep their own value, the rest share Other. Activity decays
// by half each minute, and the series of a name that fell out are deleted, so
// the number of series stays at n+1 however many names come and go.
type TopLabels struct {
	n     int
	label string
	now   func() time.Time

	mu      sync.RWMutex
	seen    map[string]*atomic.Int64 // activity; at most n*topTracked names
	top     map[string]bool
	due     time.Time
	evicted []string // by the last choice; deleted again at the next
	vecs    []partialDeleter
}

type partialDeleter interface {
	DeletePartialMatch(prometheus.Labels) int
}

// NewTopLabels keeps n values of the named label; with n of 0 all share Other.
// now may be nil.
func NewTopLabels(n int, label string, now func() time.Time) *TopLabels {
	if now == nil {
		now = time.Now
	}
	return &TopLabels{n: n, label: label, now: now, due: now().Add(topEvery), seen: map[string]*atomic.Int64{}, top: map[string]bool{}}
}

// Attach names vectors that use the label, whose stale series are then deleted.
func (t *TopLabels) Attach(vecs ...partialDeleter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.vecs = append(t.vecs, vecs...)
}

// Value counts weight for name and returns the label value to use now.
func (t *TopLabels) Value(name string, weight int64) string {
	if t.n <= 0 {
		return Other
	}
	now := t.now()
	t.mu.RLock()
	c, due := t.seen[name], !now.Before(t.due)
	if c != nil && !due {
		c.Add(weight)
		top := t.top[name]
		t.mu.RUnlock()
		if top {
			return name
		}
		return Other
	}
	t.mu.RUnlock()

	t.mu.Lock()
	defer t.mu.Unlock()
	if !now.Before(t.due) {
		t.choose()
		t.due = now.Add(topEvery)
	}
	if c = t.seen[name]; c == nil {
		if len(t.seen) >= t.n*topTracked {
			t.forgetLeast()
		}
		c = new(atomic.Int64)
		t.seen[name] = c
	}
	c.Add(weight)
	if len(t.top) < t.n {
		t.top[name] = true
	}
	if t.top[name] {
		return name
	}
	return Other
}

// forgetLeast makes room by dropping the least active name outside the top.
func (t *TopLabels) forgetLeast() {
	var least string
	var low int64 = -1
	for name, c := range t.seen {
		if v := c.Load(); !t.top[name] && (low < 0 || v < low) {
			least, low = name, v
		}
	}
	delete(t.seen, least)
}

// choose picks the top anew, deletes the series of those that left it, and
// halves the activity.
func (t *TopLabels) choose() {
	names := slices.SortedFunc(maps.Keys(t.seen), func(a, b string) int {
		return cmp.Or(cmp.Compare(t.seen[b].Load(), t.seen[a].Load()), cmp.Compare(a, b))
	})
	top := make(map[string]bool, t.n)
	for _, name := range names[:min(t.n, len(names))] {
		top[name] = true
	}
	// A caller that got its value just before an eviction may count after it
	// and bring the series back; hence each is deleted twice.
	gone := t.evicted
	t.evicted = nil
	for name := range t.top {
		if !top[name] {
			t.evicted = append(t.evicted, name)
		}
	}
	for _, name := range append(gone, t.evicted...) {
		if top[name] {
			continue
		}
		for _, v := range t.vecs {
			v.DeletePartialMatch(prometheus.Labels{t.label: name})
		}
	}
	t.top = top
	for name, c := range t.seen {
		if v := c.Load() / 2; v > 0 || top[name] {
			c.Store(v)
		} else {
			delete(t.seen, name)
		}
	}
}
