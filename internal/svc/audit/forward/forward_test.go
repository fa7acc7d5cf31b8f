// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

const writer = "b3:1111111111111111111111111111111111111111111111111111111111111111"

// bench is a log with a forwarder.
type bench struct {
	*Forwarder
	t    *testing.T
	tree *tree.Tree
	cfg  tree.Config
	reg  *metrics.Registry
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, cfg: tree.Config{Log: mem.NewLog(1 << 30), KV: mem.NewKV(mem.KVConfig{}), Writer: writer}}
	b.open()
	return b
}

// open is what a start does.
func (b *bench) open() {
	b.t.Helper()
	var err error
	if b.tree, _, err = tree.Open(context.Background(), b.cfg); err != nil {
		b.t.Fatal(err)
	}
	b.reg = metrics.New(false)
	b.Forwarder = New(Config{Log: slog.New(slog.DiscardHandler), Metrics: b.reg, Now: time.Now})
}

func (b *bench) grow(n int) {
	b.t.Helper()
	for range n {
		if _, err := b.tree.Add(&tlog.Record{TSMilli: time.Now().UnixMilli(), Stream: "node", Kind: "k"}, false); err != nil {
			b.t.Fatal(err)
		}
	}
	ctx := context.Background()
	if err := errors.Join(b.tree.Sync(ctx), b.tree.Flush(ctx)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) serve() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, b.tree) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}
}

func (b *bench) metric(line string) {
	b.t.Helper()
	_, body, err := b.reg.Expose("")
	if err != nil {
		b.t.Fatal(err)
	}
	if !strings.Contains(string(body), line+"\n") {
		b.t.Errorf("no %s", line)
	}
}

// keeper keeps what it is given, and fails as it is told.
type keeper struct {
	mu     sync.Mutex
	seqs   []uint64
	before func(n int) error // of the nth delivery
	after  func(n int) error
	calls  int
}

func (k *keeper) Deliver(ctx context.Context, rows []tree.Row) (int, error) {
	k.mu.Lock()
	k.calls++
	n, before, after := k.calls, k.before, k.after
	k.mu.Unlock()
	if before != nil {
		if err := before(n); err != nil {
			return 0, err
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	k.mu.Lock()
	for _, r := range rows {
		k.seqs = append(k.seqs, r.Record.Seq)
	}
	k.mu.Unlock()
	if after != nil {
		return 0, after(n)
	}
	return 0, nil
}

// want is that each of the first n records came, in order, repetitions apart.
func (k *keeper) want(t *testing.T, n uint64) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	var next uint64
	for i, seq := range k.seqs {
		if seq > next {
			t.Fatalf("record %d came where %d was due, as the %dth", seq, next, i)
		}
		next = max(next, seq+1)
	}
	if next != n {
		t.Fatalf("%d records came, of %d", next, n)
	}
}

func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.seqs)
}

func (k *keeper) asked() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calls
}

func (k *keeper) tell(before, after func(int) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.before, k.after = before, after
}

func target(name string, s Sink) Target { return Target{Name: name, Spec: name, Sink: s} }

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

func TestForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.grow(5000)
		a, c := &keeper{}, &keeper{}
		b.Set([]Target{target("a", a)})
		stop := b.serve()
		pass(time.Second)
		synctest.Wait()
		a.want(t, 5000)
		if a.count() != 5000 || a.asked() != 3 {
			t.Errorf("%d records in %d deliveries", a.count(), a.asked())
		}
		b.metric(`audit_sink_delivered_total{sink="a"} 5000`)
		b.metric(`audit_sink_lag_records{sink="a"} 0`)
		b.metric(`audit_sink_lag_seconds{sink="a"} 0`)
		// What comes in little pieces goes in few deliveries.
		for range 100 {
			b.grow(1)
			pass(time.Millisecond)
		}
		pass(time.Second)
		a.want(t, 5100)
		if a.asked() > 3+5 {
			t.Errorf("%d deliveries of 100 records within 100 ms", a.asked()-3)
		}
		// A second sink begins at the beginning, and the first is not disturbed.
		calls := a.asked()
		b.Set([]Target{target("a", a), target("c", c)})
		pass(time.Second)
		synctest.Wait()
		c.want(t, 5100)
		if least, ok := b.Least(9999); !ok || least != 5100 || a.asked() != calls {
			t.Errorf("least %d, %d deliveries more", least, a.asked()-calls)
		}
		// One that is gone for a while goes on where it was.
		b.Set([]Target{target("c", c)})
		b.grow(10)
		pass(time.Second)
		a.want(t, 5100)
		b.Set([]Target{target("a", a), target("c", c)})
		pass(time.Second)
		synctest.Wait()
		a.want(t, 5110)
		if a.count() != 5110 {
			t.Errorf("%d deliveries: it began anew", a.count())
		}
		stop()
	})
}

// A sink that hangs keeps nobody up: neither the other sinks nor who writes.
func TestHungSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		hung, free := make(chan struct{}), &keeper{}
		k := &keeper{before: func(int) error { <-hung; return nil }}
		b.Set([]Target{target("hung", k), target("free", free)})
		stop := b.serve()
		for range 60 {
			began := time.Now()
			b.grow(100)
			if d := time.Since(began); d != 0 {
				t.Fatalf("who writes waited %v for a sink", d)
			}
			pass(time.Second)
		}
		synctest.Wait()
		free.want(t, 6000)
		b.metric(`audit_sink_lag_records{sink="hung"} 6000`)
		b.metric(`audit_sink_lag_seconds{sink="hung"} 60`)
		if least, ok := b.Least(6000); !ok || least != 0 {
			t.Errorf("what it has not is before %d", least)
		}
		close(hung)
		pass(5 * time.Minute)
		synctest.Wait()
		k.want(t, 6000)
		b.metric(`audit_sink_lag_records{sink="hung"} 0`)
		stop()
	})
}

// A sink that comes and goes, and one that takes records and then says no, get all of
// them; that it fails for long is said.
func TestFlappingSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		away := errors.New("away")
		k := &keeper{
			before: func(n int) error {
				if n%3 == 0 {
					return away
				}
				if n%7 == 0 {
					panic("a bug")
				}
				return nil
			},
			after: func(n int) error {
				if n%5 == 0 {
					return away
				}
				return nil
			},
		}
		b.Set([]Target{target("flaps", k)})
		stop := b.serve()
		for range 100 {
			b.grow(77)
			pass(300 * time.Millisecond)
		}
		pass(2 * time.Minute)
		synctest.Wait()
		k.want(t, 7700)
		if b.Err() != nil {
			t.Errorf("%v: it is well", b.Err())
		}
		k.tell(func(int) error { return away }, nil)
		b.grow(1)
		pass(50 * time.Second)
		if b.Err() != nil {
			t.Errorf("%v at once", b.Err())
		}
		pass(20 * time.Second)
		if err := b.Err(); err == nil || !strings.Contains(err.Error(), "flaps takes no records since") || !strings.Contains(err.Error(), "away") {
			t.Errorf("%v", err)
		}
		stop()
	})
}

// Whenever a process ends, between two deliveries or in one, the next goes on with
// nothing missing.
func TestForwardKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		k := &keeper{}
		var total uint64
		for round := range 12 {
			b.Set([]Target{target("k", k)})
			k.tell(nil, nil)
			stop := b.serve()
			b.grow(3000)
			total += 3000
			killed := make(chan struct{})
			die := func(n int) error {
				if n%(2+round%3) == 0 {
					<-killed // it never returns in this process's life
					return errors.New("killed")
				}
				return nil
			}
			if round%2 == 0 {
				k.tell(nil, die)
			} else {
				k.tell(die, nil)
			}
			pass(time.Duration(round*37) * time.Millisecond)
			done := make(chan struct{})
			go func() { stop(); close(done) }()
			synctest.Wait()
			close(killed)
			<-done
			b.open()
		}
		k.tell(nil, nil)
		b.Set([]Target{target("k", k)})
		stop := b.serve()
		pass(time.Minute)
		k.want(t, total)
		if k.count() == int(total) { //nolint:gosec // small
			t.Error("nothing was repeated: no process ended in a delivery")
		}
		stop()
	})
}

// failing is a log whose metadata fails now and then.
type failing struct {
	*tree.Tree
	n int
}

func (f *failing) SetCursor(ctx context.Context, sink string, next uint64) error {
	if f.n++; f.n%2 == 1 {
		return fmt.Errorf("no metadata")
	}
	return f.Tree.SetCursor(ctx, sink, next)
}

// A cursor that cannot be kept does not move.
func TestCursorNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.grow(10)
		k := &keeper{}
		b.Set([]Target{target("k", k)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Serve(ctx, &failing{Tree: b.tree}) }()
		pass(100 * time.Millisecond)
		synctest.Wait()
		if least, _ := b.Least(10); least != 0 || k.count() != 10 {
			t.Errorf("it moved to %d", least)
		}
		pass(time.Minute)
		synctest.Wait()
		if least, _ := b.Least(10); least != 10 || k.count() != 20 {
			t.Errorf("it is at %d after %d records", least, k.count())
		}
		cancel()
		<-done
	})
}
