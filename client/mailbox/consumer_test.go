// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/internal/postbox"
	"github.com/rustyonions/macronode/client/mailbox"
)

// desk is a topic "t" in memory whose calls can be made to fail.
type desk struct {
	box *postbox.Box

	mu    sync.Mutex
	fails map[string][]error // by verb, the next first
	hook  func(verb string)  // before a call; nil: none
	calls map[string]int
	at    map[string][]time.Time
	most  int // receipts in one ack
}

func newDesk(t *testing.T, messages int) *desk {
	t.Helper()
	d := &desk{box: postbox.New(time.Now), fails: map[string][]error{}, calls: map[string]int{}, at: map[string][]time.Time{}}
	ms := make([]mailbox.Message, messages)
	for i := range ms {
		ms[i].Payload = []byte(fmt.Sprint(i))
	}
	if _, err := d.box.Send("t", ms, ""); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) call(ctx context.Context, verb string) error {
	d.mu.Lock()
	d.calls[verb]++
	d.at[verb] = append(d.at[verb], time.Now())
	hook := d.hook
	var err error
	if f := d.fails[verb]; len(f) > 0 {
		err, d.fails[verb] = f[0], f[1:]
	}
	d.mu.Unlock()
	if hook != nil {
		hook(verb)
	}
	return errors.Join(err, ctx.Err())
}

func (d *desk) count(verb string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[verb]
}

func (d *desk) Receive(ctx context.Context, w mailbox.Want) ([]mailbox.Delivery, error) {
	if err := d.call(ctx, "receive"); err != nil {
		return nil, err
	}
	got, err := d.box.Receive(ctx, "t", w)
	if err == nil {
		err = ctx.Err()
	}
	return got, err
}

func (d *desk) settled(out []mailbox.Outcome, err error) ([]mailbox.Outcome, error) {
	for _, o := range out {
		err = errors.Join(err, o.Err)
	}
	return out, err
}

func (d *desk) Ack(ctx context.Context, receipts ...string) ([]mailbox.Outcome, error) {
	if err := d.call(ctx, "ack"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.most = max(d.most, len(receipts))
	d.mu.Unlock()
	return d.settled(d.box.Ack("t", receipts))
}

func (d *desk) Nack(ctx context.Context, delay *time.Duration, reason string, receipts ...string) ([]mailbox.Outcome, error) {
	if err := d.call(ctx, "nack"); err != nil {
		return nil, err
	}
	return d.settled(d.box.Nack("t", receipts, delay, reason))
}

func (d *desk) Extend(ctx context.Context, v time.Duration, receipts ...string) ([]mailbox.Outcome, error) {
	if err := d.call(ctx, "extend"); err != nil {
		return nil, err
	}
	return d.settled(d.box.Extend("t", receipts, v))
}

func (d *desk) depth(t *testing.T) mailbox.Depth {
	t.Helper()
	s, err := d.box.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	return s.Depth
}

// reports collects what a consumer reports.
type reports struct {
	mu  sync.Mutex
	all []error
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, err)
}

func (r *reports) count(is error) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.all {
		if errors.Is(err, is) {
			n++
		}
	}
	return n
}

// during runs c until f returns, and returns what Run did.
func during(t *testing.T, c mailbox.Consumer, f func()) error {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	f()
	stop()
	return <-done
}

func refusal(k macronode.Kind, after time.Duration) error {
	return &client.Error{Problem: macronode.Errorf(k, "").Problem("x"), RetryAfter: after}
}

// TestConsumerHandlesAll: every message once, so many at a time as were asked for,
// and acks that gather while one is under way.
func TestConsumerHandlesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages, at = 300, 8
		d := newDesk(t, messages)
		d.hook = func(verb string) {
			if verb == "ack" {
				<-time.After(10 * time.Millisecond)
			}
		}
		var now, most, handled atomic.Int32
		var seen sync.Map
		err := during(t, mailbox.Consumer{From: d, Concurrency: at, Handle: func(_ context.Context, m *mailbox.Delivery) error {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-time.After(time.Millisecond)
			now.Add(-1)
			if _, twice := seen.LoadOrStore(m.MsgID, true); twice {
				t.Errorf("message %s came twice", m.MsgID)
			}
			handled.Add(1)
			return nil
		}}, func() { <-time.After(time.Minute) })
		if got := d.depth(t); err != nil || handled.Load() != messages || most.Load() != at || got.Ready+got.InFlight+got.Delayed != 0 {
			t.Errorf("%v: %d handled, %d at a time, left %+v", err, handled.Load(), most.Load(), got)
		}
		if d.most < 4 || d.count("ack") > messages/3 || d.count("receive") > messages/2 {
			t.Errorf("%d receipts in an ack at most; %d acks, %d receives", d.most, d.count("ack"), d.count("receive"))
		}
	})
}

// TestConsumerExtends: what is handled for longer than the visibility, and what waits
// behind it, stays with this consumer.
func TestConsumerExtends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 3)
		// Twice in a row the node is not to be had.
		d.fails["extend"] = []error{nil, refusal(macronode.Overload, time.Second), errors.New("connection reset")}
		var handled atomic.Int32
		err := during(t, mailbox.Consumer{From: d, Prefetch: 2, Visibility: 30 * time.Second, Handle: func(ctx context.Context, m *mailbox.Delivery) error {
			select {
			case <-time.After(5 * time.Minute):
			case <-ctx.Done():
			}
			if m.Attempt == 1 && ctx.Err() == nil {
				handled.Add(1)
			}
			return ctx.Err()
		}}, func() {
			for range 14 {
				<-time.After(time.Minute)
				if got, err := d.box.Receive(t.Context(), "t", mailbox.Want{Max: 10}); err != nil || len(got) > 0 {
					t.Fatalf("%v: somebody else gets %+v", err, got)
				}
			}
			<-time.After(2 * time.Minute)
		})
		if left := d.depth(t); err != nil || handled.Load() != 3 || left.Ready+left.InFlight+left.Delayed+left.Dead != 0 {
			t.Errorf("%v: %d handled, left %+v", err, handled.Load(), left)
		}
		if n := d.count("extend"); n < 40 || n > 70 {
			t.Errorf("%d extensions in 16 minutes", n)
		}
	})
}

// TestConsumerStops: the handler that runs may finish, what waits behind it is free
// for others at once, and nothing more is received.
func TestConsumerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 6)
		var begun, finished atomic.Int32
		var stopped time.Time
		err := during(t, mailbox.Consumer{From: d, Concurrency: 2, Prefetch: 2, Handle: func(ctx context.Context, _ *mailbox.Delivery) error {
			begun.Add(1)
			<-time.After(20 * time.Second)
			if ctx.Err() == nil {
				finished.Add(1)
			}
			return ctx.Err()
		}}, func() {
			<-time.After(time.Second)
			stopped = time.Now()
			go func() {
				<-time.After(time.Second) // while the handlers still run
				if got := d.depth(t); got.Ready != 4 || got.InFlight != 2 {
					t.Errorf("while it stops: %+v", got)
				}
			}()
		})
		took := time.Since(stopped)
		if got := d.depth(t); err != nil || begun.Load() != 2 || finished.Load() != 2 || got.Ready != 4 || got.InFlight+got.Delayed != 0 {
			t.Errorf("%v: %d begun, %d finished, left %+v", err, begun.Load(), finished.Load(), got)
		}
		if took < 19*time.Second || took > 20*time.Second {
			t.Errorf("it took %v to stop", took)
		}
		before := d.count("receive")
		<-time.After(time.Hour)
		if d.count("receive") != before {
			t.Error("it goes on receiving")
		}
	})
}

// TestConsumerGrace: handlers whose grace is over are told so; their messages go
// back with no delay, or with their visibility where they do not heed that either.
func TestConsumerGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 2)
		release := make(chan struct{})
		var cause atomic.Value
		var stopped time.Time
		err := during(t, mailbox.Consumer{From: d, Concurrency: 2, Grace: 10 * time.Second, Handle: func(ctx context.Context, m *mailbox.Delivery) error {
			if string(m.Payload) == "0" {
				<-release // heeds nothing
				return nil
			}
			<-ctx.Done()
			cause.Store(context.Cause(ctx))
			return ctx.Err()
		}}, func() {
			<-time.After(time.Second)
			stopped = time.Now()
		})
		took := time.Since(stopped)
		if err == nil || !strings.Contains(err.Error(), "1 handlers did not end") || took < 10*time.Second || took > 13*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		if cause.Load() != mailbox.ErrStopped {
			t.Errorf("the handler hears %v", cause.Load())
		}
		if got := d.depth(t); got.Ready != 1 || got.InFlight != 1 {
			t.Errorf("left %+v", got)
		}
		acks := d.count("ack")
		close(release)
		synctest.Wait()
		if d.count("ack") != acks || d.count("nack") != 1 {
			t.Error("a handler that ends after Run makes calls")
		}
	})
}

// TestConsumerFailures: an error, a panic and a goroutine that ends are nacks with
// their reason, and the consumer goes on; RetryIn says when.
func TestConsumerFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 4)
		var r reports
		times := map[string][]time.Time{}
		var mu sync.Mutex
		err := during(t, mailbox.Consumer{From: d, Concurrency: 4, Report: r.add, Handle: func(_ context.Context, m *mailbox.Delivery) error {
			mu.Lock()
			times[string(m.Payload)] = append(times[string(m.Payload)], time.Now())
			mu.Unlock()
			switch string(m.Payload) {
			case "0":
				return errors.New("no such customer: \xff" + strings.Repeat("é", 300))
			case "1":
				panic("index out of range")
			case "2":
				runtime.Goexit()
			}
			if m.Attempt < 3 {
				return mailbox.RetryIn(7*time.Second, errors.New("later"))
			}
			return nil
		}}, func() { <-time.After(5 * time.Minute) })
		dead, _, derr := d.box.DeadLetters("t", mailbox.DeadFilter{}, "", 0)
		if err != nil || derr != nil || len(dead) != 3 {
			t.Fatalf("%v, %v: %d dead letters", err, derr, len(dead))
		}
		reasons := map[string]bool{}
		for _, l := range dead {
			if l.Attempts != 5 || l.Reason != "max_attempts" || len(l.LastError) > 256 {
				t.Errorf("%+v", l)
			}
			reasons[l.LastError[:12]] = true
		}
		for _, want := range []string{"no such customer", "panic: index out of range", "the handler ended its goroutine"} {
			if !reasons[want[:12]] {
				t.Errorf("no dead letter says %q", want)
			}
		}
		later := times["3"]
		if len(later) != 3 || later[1].Sub(later[0]) != 7*time.Second || later[2].Sub(later[1]) != 7*time.Second {
			t.Errorf("RetryIn: handled at %v", later)
		}
		var failed *mailbox.HandlerError
		panics := 0
		for _, err := range r.all {
			if errors.As(err, &failed) && strings.Contains(string(failed.Stack), "TestConsumerFailures") {
				panics++
			}
		}
		if panics != 5 || len(r.all) != 17 {
			t.Errorf("%d panics with their stack among %d reports", panics, len(r.all))
		}
	})
}

// TestConsumerLosesLease: where the node gave the message to another, or cannot be
// asked until the visibility ends, the handler is told, and nothing is acked.
func TestConsumerLosesLease(t *testing.T) {
	for name, lose := range map[string]func(*desk){
		"extend is refused": func(d *desk) { d.box.Purge("t") },
		"nobody answers": func(d *desk) {
			d.mu.Lock()
			defer d.mu.Unlock()
			for range 1000 {
				d.fails["extend"] = append(d.fails["extend"], errors.New("connection refused"))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, 1)
				var r reports
				var after time.Duration
				var cause error
				err := during(t, mailbox.Consumer{From: d, Visibility: 30 * time.Second, Report: r.add, Handle: func(ctx context.Context, m *mailbox.Delivery) error {
					if m.Attempt > 1 {
						return nil
					}
					began := time.Now()
					<-ctx.Done()
					after, cause = time.Since(began), context.Cause(ctx)
					return nil // it has done its work all the same
				}}, func() {
					synctest.Wait()
					lose(d)
					<-time.After(29 * time.Second)
					if d.count("ack") != 0 {
						t.Error("what was lost is acked")
					}
					<-time.After(time.Minute)
				})
				if err != nil || cause != mailbox.ErrLeaseLost || after > 30*time.Second || r.count(mailbox.ErrLeaseLost) == 0 {
					t.Errorf("%v: the handler hears %v after %v; %v", err, cause, after, r.all)
				}
			})
		})
	}
}

// TestConsumerMaxHold: a handler that hangs gives its message up in the end.
func TestConsumerMaxHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 1)
		var after time.Duration
		err := during(t, mailbox.Consumer{From: d, Visibility: 30 * time.Second, MaxHold: 5 * time.Minute, Handle: func(ctx context.Context, m *mailbox.Delivery) error {
			if m.Attempt == 1 {
				began := time.Now()
				<-ctx.Done()
				after = time.Since(began)
			}
			return nil
		}}, func() { <-time.After(10 * time.Minute) })
		if err != nil || after < 5*time.Minute || after > 6*time.Minute || d.depth(t).InFlight != 0 {
			t.Errorf("%v: given up after %v; left %+v", err, after, d.depth(t))
		}
	})
}

// TestConsumerBacksOff: refusals are waited out as long as they ask for, others with
// growing pauses, and what no waiting mends ends Run.
func TestConsumerBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 0)
		for range 4 {
			d.fails["receive"] = append(d.fails["receive"], refusal(macronode.QuotaInFlight, 10*time.Second))
		}
		for range 8 {
			d.fails["receive"] = append(d.fails["receive"], errors.New("connection refused"))
		}
		d.fails["receive"] = append(d.fails["receive"], refusal(macronode.NotFound, 0), refusal(macronode.Denied, 0))
		var r reports
		c := mailbox.Consumer{From: d, Report: r.add, Handle: func(context.Context, *mailbox.Delivery) error { return nil }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // of the bubble's clock: who asks for ever is not waited for
		defer cancel()
		var refused *client.Error
		if err := c.Run(ctx); !errors.As(err, &refused) || refused.Code != "denied" {
			t.Errorf("Run ends with %v", err)
		}
		at := d.at["receive"]
		if len(at) != 14 || len(r.all) != 13 {
			t.Fatalf("%d calls, %d reports", len(at), len(r.all))
		}
		for i := 1; i < len(at); i++ {
			pause := at[i].Sub(at[i-1])
			if i <= 4 && (pause < 10*time.Second || pause > 13*time.Second) || i > 4 && (pause < 10*time.Millisecond || pause > 40*time.Second) {
				t.Errorf("pause %d is %v", i, pause)
			}
		}
	})
}

// TestConsumerIsNoStorm: a node that answers at once that nothing is there is asked
// a few times a second, not as fast as it can answer.
func TestConsumerIsNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 0)
		c := mailbox.Consumer{From: impatient{d}, Handle: func(context.Context, *mailbox.Delivery) error { return nil }}
		if err := during(t, c, func() { <-time.After(time.Minute) }); err != nil {
			t.Error(err)
		}
		if n := d.count("receive"); n < 30 || n > 400 {
			t.Errorf("asked %d times in a minute", n)
		}
	})
}

// impatient does not wait.
type impatient struct{ *desk }

func (i impatient) Receive(ctx context.Context, w mailbox.Want) ([]mailbox.Delivery, error) {
	w.Wait = 0
	return i.desk.Receive(ctx, w)
}

// TestConsumerAcksAgain: an ack that fails is told again, as long as the lease holds.
func TestConsumerAcksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 1)
		for range 6 {
			d.fails["ack"] = append(d.fails["ack"], refusal(macronode.Overload, time.Second))
		}
		var handled atomic.Int32
		c := mailbox.Consumer{From: d, Handle: func(context.Context, *mailbox.Delivery) error { handled.Add(1); return nil }}
		if err := during(t, c, func() { <-time.After(5 * time.Minute) }); err != nil {
			t.Error(err)
		}
		if got := d.depth(t); handled.Load() != 1 || got.Ready+got.InFlight != 0 || d.count("ack") != 7 {
			t.Errorf("handled %d times, %d acks, left %+v", handled.Load(), d.count("ack"), got)
		}
		// Where it fails for good, the message comes again, and that is said.
		d = newDesk(t, 1)
		d.fails["ack"] = []error{refusal(macronode.Denied, 0)}
		var r reports
		c.From, c.Report = d, r.add
		handled.Store(0)
		if err := during(t, c, func() { <-time.After(time.Minute) }); err != nil {
			t.Error(err)
		}
		if handled.Load() != 2 || len(r.all) != 1 || !strings.Contains(r.all[0].Error(), "could not be acked") {
			t.Errorf("handled %d times; %v", handled.Load(), r.all)
		}
	})
}

func TestConsumerNeeds(t *testing.T) {
	d, handle := newDesk(t, 0), func(context.Context, *mailbox.Delivery) error { return nil }
	for _, c := range []mailbox.Consumer{{Handle: handle}, {From: d}, {From: d, Handle: handle, Concurrency: -1}, {From: d, Handle: handle, Wait: -1}} {
		if err := c.Run(t.Context()); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
