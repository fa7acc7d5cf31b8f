// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
)

var (
	control = &macronode.Binding{Op: "healthz", Service: "ron-metrics", Class: macronode.Control}
	events  = &macronode.Binding{Op: "admin.events", Service: "ron-metrics", Class: macronode.Control, LongRunning: true}
	read    = &macronode.Binding{Op: "object.get", Service: "svc-storage", Class: macronode.CoreRead}
	write   = &macronode.Binding{Op: "object.put", Service: "svc-storage", Class: macronode.CoreWrite}
	watch   = &macronode.Binding{Op: "mailbox.receive", Service: "svc-mailbox", Class: macronode.CoreRead, LongRunning: true}
	facet   = &macronode.Binding{Op: "search", Service: "omnigate", Class: macronode.Facet}
)

func newGate(maxLong int64) (*Gate, *metrics.Registry) {
	reg := metrics.New(false)
	return NewGate(reg, []string{"ron-metrics", "svc-storage", "svc-mailbox"}, maxLong), reg
}

func TestGateByClassAndState(t *testing.T) {
	g, _ := newGate(1)
	for _, b := range []*macronode.Binding{control, events, read, write, facet} {
		if err := g.Enter(b); err != nil {
			t.Errorf("open: %s: %v", b.Op, err)
		}
		g.Leave(b)
	}
	g.Close()
	g.Close()
	for _, b := range []*macronode.Binding{control, events} {
		if err := g.Enter(b); err != nil {
			t.Errorf("closed: %s: %v", b.Op, err)
		}
		g.Leave(b)
	}
	for _, b := range []*macronode.Binding{read, write, watch, facet} {
		err := g.Enter(b)
		if macronode.KindOf(err) != macronode.Draining || macronode.AsError(err).RetryHint() <= 0 {
			t.Errorf("closed: %s: %v", b.Op, err)
		}
	}
	if g.Left() != 0 {
		t.Errorf("%d left", g.Left())
	}
	g.Open()
	g.Open()
	if err := g.Enter(read); err != nil {
		t.Errorf("open again: %v", err)
	}
}

func TestLongRunningHaveTheirOwnLimit(t *testing.T) {
	g, _ := newGate(2)
	for range 2 {
		if err := g.Enter(watch); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Enter(watch); macronode.KindOf(err) != macronode.Overload {
		t.Fatalf("the third watch: %v", err)
	}
	for _, b := range []*macronode.Binding{read, events} {
		if err := g.Enter(b); err != nil {
			t.Errorf("%s: %v", b.Op, err)
		}
	}
	if g.Left() != 3 {
		t.Errorf("%d left", g.Left())
	}
	g.Leave(watch)
	if err := g.Enter(watch); err != nil {
		t.Errorf("after one left: %v", err)
	}
	g.SetMaxLongRunning(macronode.NoLimit)
	if err := g.Enter(watch); err != nil {
		t.Errorf("without limit: %v", err)
	}
	g.SetMaxLongRunning(0)
	if err := g.Enter(watch); macronode.KindOf(err) != macronode.Overload {
		t.Errorf("limit 0: %v", err)
	}
	if c, long := g.Counts(); long != 3 || c[macronode.CoreRead] != 4 || c[macronode.Control] != 1 {
		t.Errorf("%v, %d", c, long)
	}
}

func TestGateMetrics(t *testing.T) {
	g, reg := newGate(1)
	for _, b := range []*macronode.Binding{read, write, facet, control} {
		if err := g.Enter(b); err != nil {
			t.Fatal(err)
		}
	}
	g.Leave(write)
	_, body, err := reg.Expose("")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{`{service="svc-storage"} 1`, `{service="ron-metrics"} 1`, `{service="svc-mailbox"} 0`} {
		if !strings.Contains(string(body), "inflight_requests"+w+"\n") {
			t.Errorf("metrics lack %s", w)
		}
	}
}

func TestWaitIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := newGate(10)
		if err := g.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := g.Enter(read); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Enter(events); err != nil { // control holds nothing up
			t.Fatal(err)
		}
		ended := g.Ended()
		g.Close()
		select {
		case <-ended:
		default:
			t.Error("long-running calls are not told")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.WaitIdle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("three inside: %v", err)
		}
		done := make(chan error, 1)
		go func() { done <- g.WaitIdle(t.Context()) }()
		for range 3 {
			synctest.Wait()
			select {
			case <-done:
				t.Fatal("idle too early")
			default:
			}
			g.Leave(read)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		g.Open()
		select {
		case <-g.Ended():
			t.Error("ended though open")
		default:
		}
	})
}

// Nobody is inside once a closed gate was found idle, however calls, closing
// and opening interleave.
func TestNoneSlipsPastAClosedGate(t *testing.T) {
	g, _ := newGate(macronode.NoLimit)
	var inside atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			b := []*macronode.Binding{read, write, watch, facet}[rand.IntN(4)]
			for {
				select {
				case <-stop:
					return
				default:
				}
				if g.Enter(b) == nil {
					inside.Add(1)
					inside.Add(-1)
					g.Leave(b)
				}
			}
		})
	}
	for range 2000 {
		g.Close()
		if err := g.WaitIdle(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := inside.Load(); n != 0 {
			t.Fatalf("%d inside an idle gate", n)
		}
		g.Open()
	}
	close(stop)
	wg.Wait()
	if c, long := g.Counts(); g.Left() != 0 || long != 0 || c != [macronode.NumClasses]int64{} {
		t.Errorf("left %d, %v, %d", g.Left(), c, long)
	}
}

// TestLongRunningRetry: who finds too many long-running calls is told to wait as
// long as it takes for one to end.
func TestLongRunningRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := newGate(1)
		hint := func() time.Duration { return macronode.AsError(g.Enter(watch)).RetryHint() }
		for range 30 {
			if err := g.Enter(watch); err != nil {
				t.Fatal(err)
			}
			<-time.After(8 * time.Second)
			g.Leave(watch)
		}
		if err := g.Enter(watch); err != nil {
			t.Fatal(err)
		}
		if d := hint(); d < 7*time.Second || d > 8*time.Second {
			t.Errorf("one ends every 8 s, wait %v", d)
		}
		<-time.After(20 * time.Second)
		if d := hint(); d != 20*time.Second {
			t.Errorf("none ended for 20 s, wait %v", d)
		}
		<-time.After(time.Hour)
		if d := hint(); d != maxLongRetry {
			t.Errorf("none ended for an hour, wait %v", d)
		}
	})
}

func BenchmarkGate(b *testing.B) {
	g, _ := newGate(10)
	b.ReportAllocs()
	for b.Loop() {
		if g.Enter(read) == nil {
			g.Leave(read)
		}
	}
}
