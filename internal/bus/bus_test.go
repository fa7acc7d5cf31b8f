// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/metrics"
)

func newBus(reg *metrics.Registry) *Bus { return New(reg, nil, nil, []string{"svc-a"}) }

func TestLiteralForms(t *testing.T) {
	tests := []struct {
		e    Event
		want string
	}{
		{Health("svc-storage", false, "disk"), "KernelEvent::Health{service=svc-storage, ok=false}"},
		{Health("svc-storage", true, ""), "KernelEvent::Health{service=svc-storage, ok=true}"},
		{ConfigUpdated(12, "blake3:aa", "KMS:key/ops-release"), "KernelEvent::ConfigUpdated{version=12}"},
		{ServiceCrashed("svc-a", "boom\nron1_secret"), "KernelEvent::ServiceCrashed{service=svc-a, reason=boom [redacted]}"},
		{Drain("gate", 3), "KernelEvent::Drain{phase=gate}"},
		{Shutdown("SIGTERM"), "KernelEvent::Shutdown"},
	}
	for _, tt := range tests {
		if got := tt.e.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	long := ServiceCrashed("svc-a", strings.Repeat("ü", 1000))
	if got := long.String(); len(got) > 400 || strings.ContainsRune(got, 0xfffd) {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestEventsAreLogged(t *testing.T) {
	var out bytes.Buffer
	now := func() time.Time { return time.UnixMilli(5) }
	b := New(metrics.New(false), logs.New(&out, logs.Options{Format: logs.JSON}), now, nil)
	b.Publish(ConfigUpdated(12, "blake3:aa", "KMS:key/ops-release"))
	b.Publish(Health("svc-storage", false, "disk"))
	lines := strings.Split(out.String(), "\n")
	for i, wants := range [][]string{
		{`"msg":"KernelEvent::ConfigUpdated{version=12}"`, `"event":"ConfigUpdated"`, `"seq":1`, `"version":12`, `"bundle_hash":"blake3:aa"`, `"signer":"KMS:key/ops-release"`, `"level":"info"`},
		{`"msg":"KernelEvent::Health{service=svc-storage, ok=false}"`, `"event":"Health"`, `"service":"svc-storage"`, `"ok":false`, `"reason":"disk"`, `"level":"warn"`},
	} {
		for _, w := range wants {
			if !strings.Contains(lines[i], w) {
				t.Errorf("%s lacks %s", lines[i], w)
			}
		}
	}
}

func TestSlowSubscriberLosesTheOldestAndLearnsHowMany(t *testing.T) {
	reg := metrics.New(false)
	b := newBus(reg)
	ctx := context.Background()
	slow, other := b.Subscribe("svc-a", 4), b.Subscribe("svc-b", 0)
	for i := range 10 {
		b.Publish(Drain("idle", i))
	}
	for i, want := range []uint64{7, 8, 9, 10} {
		e, lost, err := slow.Next(ctx)
		if err != nil || e.Seq != want {
			t.Fatalf("event %d, %v, want %d", e.Seq, err, want)
		}
		if wantLost := uint64(6); i == 0 && lost != wantLost || i > 0 && lost != 0 {
			t.Errorf("event %d: told of %d lost", e.Seq, lost)
		}
	}
	if e, lost, _ := other.Next(ctx); e.Seq != 1 || lost != 0 {
		t.Errorf("the other got %d, %d lost", e.Seq, lost)
	}
	_, body, err := reg.Expose("")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{`bus_lagged_total{service="svc-a"} 6`, `queue_depth{queue="bus"} 9`} {
		if !strings.Contains(string(body), w) {
			t.Errorf("metrics lack %s", w)
		}
	}
	slow.Close()
	for range 10 {
		b.Publish(Drain("idle", 0))
	}
	_, body, _ = reg.Expose("")
	if !strings.Contains(string(body), `bus_lagged_total{service="svc-a"} 6`) {
		t.Error("a closed subscription is still counted")
	}
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(metrics.New(false))
		s := b.Subscribe("svc-a", 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got := make(chan uint64)
		go func() {
			e, _, _ := s.Next(ctx)
			got <- e.Seq
		}()
		synctest.Wait()
		b.Publish(Shutdown(""))
		if seq := <-got; seq != 1 {
			t.Errorf("got %d", seq)
		}
		if _, _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestAfter(t *testing.T) {
	b := newBus(metrics.New(false))
	if ev, next, lost := b.After(0, 10); len(ev) != 0 || next != 0 || lost != 0 {
		t.Fatalf("empty: %d events, next %d, lost %d", len(ev), next, lost)
	}
	if ev, next, _ := b.After(99, 10); len(ev) != 0 || next != 0 {
		t.Fatalf("empty, from the future: next %d", next)
	}
	for range Kept + 10 {
		b.Publish(Shutdown(""))
	}
	tests := []struct {
		after uint64
		limit int
		first uint64
		n     int
		next  uint64
		lost  uint64
	}{
		{0, 5, 11, 5, 15, 10},
		{10, 5, 11, 5, 15, 0},
		{Kept + 8, 5, Kept + 9, 2, Kept + 10, 0},
		{Kept + 10, 5, 0, 0, Kept + 10, 0},
		{Kept + 11, 1, 11, 1, 11, 10}, // from before a restart
		{500, 0, 0, 0, 500, 0},
		{500, -1, 0, 0, 500, 0},
		{0, 5000, 11, Kept, Kept + 10, 10},
	}
	for _, tt := range tests {
		ev, next, lost := b.After(tt.after, tt.limit)
		if len(ev) != tt.n || next != tt.next || lost != tt.lost || tt.n > 0 && ev[0].Seq != tt.first {
			t.Errorf("After(%d, %d): %d events, next %d, lost %d", tt.after, tt.limit, len(ev), next, lost)
		}
	}
}

func TestEach(t *testing.T) {
	b := newBus(metrics.New(false))
	b.Publish(Health("svc-a", false, "disk"))
	b.Publish(Drain("gate", 3))
	var got []string
	next, lost := b.Each(0, 10, func(seq uint64, at time.Time, name, service string, attrs map[string]any) {
		if at.IsZero() {
			t.Error("no time")
		}
		got = append(got, fmt.Sprint(seq, name, service, attrs))
	})
	want := []string{"1Healthsvc-amap[ok:false reason:disk]", "2Drainmap[left:3 phase:gate]"}
	if next != 2 || lost != 0 || !slices.Equal(got, want) {
		t.Errorf("%q, %d, %d", got, next, lost)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(metrics.New(false))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Wait(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("nothing happened: %v", err)
		}
		done := make(chan error)
		go func() { done <- b.Wait(t.Context(), 0) }()
		synctest.Wait()
		b.Publish(Shutdown(""))
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, after := range []uint64{0, 77} {
			if err := b.Wait(t.Context(), after); err != nil {
				t.Errorf("after %d: %v", after, err)
			}
		}
	})
}

func TestNilBusDrops(t *testing.T) {
	var b *Bus
	b.Publish(Shutdown(""))
}

// Whatever the interleaving, a subscriber sees rising numbers and the gaps are
// exactly what it was told it lost.
func TestGapsEqualLosses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBus(metrics.New(false))
		s := b.Subscribe("svc-a", rapid.IntRange(1, 20).Draw(t, "size"))
		var last uint64
		for range rapid.IntRange(1, 30).Draw(t, "rounds") {
			for range rapid.IntRange(0, 40).Draw(t, "published") {
				b.Publish(Shutdown(""))
			}
			for range rapid.IntRange(0, 10).Draw(t, "read") {
				if b.depth() == 0 {
					break
				}
				e, lost, err := s.Next(context.Background())
				if err != nil || e.Seq != last+lost+1 {
					t.Fatalf("after %d came %d with %d lost, %v", last, e.Seq, lost, err)
				}
				last = e.Seq
			}
		}
	})
}

func TestConcurrentPublishersKeepLogOrder(t *testing.T) {
	var out bytes.Buffer
	b := New(metrics.New(false), logs.New(&out, logs.Options{Format: logs.Text}), nil, nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				b.Publish(Drain("idle", 0))
			}
		})
	}
	wg.Wait()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 400 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, l := range lines {
		if !strings.Contains(l, fmt.Sprintf("seq=%d ", i+1)) {
			t.Fatalf("line %d: %s", i, l)
		}
	}
}
