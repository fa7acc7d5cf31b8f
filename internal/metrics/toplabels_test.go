// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"
)

func series(c prometheus.Collector) int {
	ch := make(chan prometheus.Metric, 1000)
	c.Collect(ch)
	return len(ch)
}

func TestTopLabelsFollowActivity(t *testing.T) {
	now := time.Unix(0, 0)
	top := NewTopLabels(2, "tenant", func() time.Time { return now })
	v := New(false).Counters("calls_total", "Calls.", []string{"tenant"}, nil)
	top.Attach(v)
	count := func(name string, n int64) string {
		l := top.Value(name, n)
		v.WithLabelValues(l).Add(float64(n))
		return l
	}
	got := []string{count("a", 1), count("b", 5), count("c", 100)}
	if want := []string{"a", "b", Other}; !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	now = now.Add(topEvery)
	if l := count("c", 1); l != "c" {
		t.Errorf("the busiest is %q after a minute", l)
	}
	if l := count("a", 1); l != Other {
		t.Errorf("the idlest is %q", l)
	}
	if n := series(v); n != 3 {
		t.Errorf("%d series, want b, c and %s", n, Other)
	}
}

func TestTopLabelsOfNone(t *testing.T) {
	top := NewTopLabels(0, "tenant", nil)
	for i := range 100 {
		if l := top.Value(fmt.Sprint(i), 1); l != Other {
			t.Fatal(l)
		}
	}
	if len(top.seen) != 0 {
		t.Error("names are kept for nothing")
	}
}

// However names come and go, the values in use and the memory stay bounded.
func TestTopLabelsStayBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "n")
		now := time.Unix(0, 0)
		top := NewTopLabels(n, "tenant", func() time.Time { return now })
		v := New(false).Counters("calls_total", "Calls.", []string{"tenant"}, nil)
		top.Attach(v)
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			if rapid.IntRange(0, 9).Draw(t, "tick") == 0 {
				now = now.Add(topEvery)
			}
			name := fmt.Sprint(rapid.IntRange(0, 60).Draw(t, "name"))
			l := top.Value(name, rapid.Int64Range(1, 100).Draw(t, "w"))
			if l != name && l != Other {
				t.Fatalf("%q counted as %q", name, l)
			}
			v.WithLabelValues(l).Inc()
			if s := series(v); s > n+1 {
				t.Fatalf("%d series for a top of %d", s, n)
			}
			if len(top.seen) > n*topTracked {
				t.Fatalf("%d names tracked", len(top.seen))
			}
		}
	})
}
