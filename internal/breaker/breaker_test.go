// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package breaker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
)

var (
	errDisk = &os.PathError{Op: "read", Path: "x", Err: syscall.EIO}
	errFull = &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
)

// call goes through b with this outcome; it reports whether it was let through.
func call(t *testing.T, b *Breaker, outcome error) bool {
	t.Helper()
	p, err := b.Enter()
	if err != nil {
		var e *macronode.Error
		if !errors.As(err, &e) || e.Kind.Info().Status != 503 || e.RetryAfter <= 0 || !errors.Is(err, ErrOpen) {
			t.Errorf("a refusal is %v", err)
		}
		return false
	}
	p.Leave(outcome)
	return true
}

func fail(t *testing.T, b *Breaker, n int) {
	t.Helper()
	for range n {
		if !call(t, b, errDisk) {
			t.Fatal("refused before it had to be")
		}
	}
}

// pass lets time go by in a bubble.
func pass(d time.Duration) { <-time.After(d) }

func retryAfter(b *Breaker) time.Duration {
	var e *macronode.Error
	if !errors.As(b.Check(), &e) {
		return -1
	}
	return e.RetryAfter
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Verdict
	}{
		{nil, Answered},
		{errDisk, Failed},
		{fmt.Errorf("wrapped: %w", errDisk), Failed},
		{macronode.Wrap(macronode.Unavailable, "", errDisk), Failed},
		{errFull, Answered},
		{os.ErrNotExist, Answered},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, Answered},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}, Answered},
		{macronode.Errorf(macronode.NotFound, "no"), Answered},
		{macronode.Errorf(macronode.DiskFull, "no"), Answered},
		{errors.New("whatever a closure says"), Answered},
		{context.Canceled, Unknown},
		{context.DeadlineExceeded, Unknown},
		{os.ErrDeadlineExceeded, Failed},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, Failed},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, Failed},
	} {
		if got := Judge(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
	if Strict(errors.New("x")) != Failed || Strict(nil) != Answered || Strict(context.Canceled) != Unknown || Strict(context.DeadlineExceeded) != Failed {
		t.Error("Strict")
	}
}

func TestOpensAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Name: "disk", Failures: 3, OpenFor: time.Second, MaxOpenFor: 3 * time.Second, Trials: 2})
		fail(t, b, 2)
		call(t, b, nil) // an answer between: the count begins anew
		fail(t, b, 2)
		call(t, b, errFull) // a full disk is an answer
		fail(t, b, 2)
		call(t, b, context.DeadlineExceeded) // a caller's hurry says nothing: the two count on
		if got := b.Status(); got.State != Closed || got.Failures != 2 {
			t.Fatalf("%+v", got)
		}
		fail(t, b, 1)
		if got := b.Status(); got.State != Open || got.Opened != 1 || !strings.Contains(got.Last, "input/output") {
			t.Fatalf("%+v", got)
		}
		// Refused, with the time that is left.
		if call(t, b, nil) || retryAfter(b) != time.Second {
			t.Fatalf("%v", retryAfter(b))
		}
		pass(400 * time.Millisecond)
		if call(t, b, nil) || retryAfter(b) != 600*time.Millisecond {
			t.Fatalf("%v", retryAfter(b))
		}
		// Each try that fails doubles the wait, to the most.
		for _, wait := range []time.Duration{600 * time.Millisecond, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
			pass(wait - time.Millisecond)
			if call(t, b, nil) {
				t.Fatal("let through too early")
			}
			pass(time.Millisecond)
			fail(t, b, 1)
		}
		// Two answers close it; not more than two try at once.
		pass(3 * time.Second)
		one, err := b.Enter()
		two, err2 := b.Enter()
		if err != nil || err2 != nil || call(t, b, nil) {
			t.Fatal(err, err2)
		}
		one.Leave(nil)
		if got := b.Status().State; got != HalfOpen {
			t.Fatal(got)
		}
		two.Leave(nil)
		if got := b.Status(); got.State != Closed || got.Refused != 7 {
			t.Fatalf("%+v", got)
		}
		// Closed again, the first wait is the short one.
		fail(t, b, 3)
		if got := retryAfter(b); got != time.Second {
			t.Fatal(got)
		}
	})
}

// What a call that began before brings home is not news.
func TestLateOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Name: "disk", Failures: 1, Trials: 1})
		var late []Pass
		for range 4 {
			p, err := b.Enter()
			if err != nil {
				t.Fatal(err)
			}
			late = append(late, p)
		}
		fail(t, b, 1)
		late[0].Leave(nil)
		if call(t, b, nil) {
			t.Error("an answer from before the opening closes it")
		}
		pass(DefaultOpenFor)
		late[1].Leave(errDisk)
		late[2].Leave(nil)
		if !call(t, b, nil) || b.Status().State != Closed {
			t.Fatalf("%+v", b.Status())
		}
		late[3].Leave(errDisk)
		if got := b.Status(); got.State != Closed || got.Failures != 0 || got.InFlight != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Name: "disk", Failures: 2, MaxHeldOpen: time.Minute, Refusal: macronode.PolicyUnavailable})
		if err := b.Force(ForcedClosed, 0, "I know better"); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if !call(t, b, errDisk) {
				t.Fatal("held closed it refuses")
			}
		}
		if err := b.Force(Auto, 0, ""); err != nil || b.Status().Failures != 0 {
			t.Fatal("back to automatic it does not begin anew")
		}
		if err := b.Force(ForcedOpen, time.Hour, ""); macronode.KindOf(err) != macronode.Invalid {
			t.Fatal(err)
		}
		if err := b.Force(ForcedOpen, 0, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Enter(); macronode.KindOf(err) != macronode.PolicyUnavailable {
			t.Fatal(err)
		}
		if got := retryAfter(b); got != time.Minute {
			t.Fatal(got)
		}
		pass(time.Minute)
		if !call(t, b, nil) || b.Status().Mode != Auto {
			t.Fatalf("the force has no end: %+v", b.Status())
		}
		// Without a bound it lasts, and answers do not end it.
		b = New(Config{Name: "disk"})
		p, _ := b.Enter()
		b.Force(ForcedOpen, 0, "")
		p.Leave(nil)
		pass(24 * time.Hour)
		if call(t, b, nil) || retryAfter(b) != HeldRetry {
			t.Fatalf("%+v", b.Status())
		}
		b.Reset("let it be tried")
		if !call(t, b, nil) || b.Status().Mode != Auto {
			t.Fatalf("%+v", b.Status())
		}
		// Automatic where it is automatic changes nothing.
		b = New(Config{Name: "disk", Failures: 1})
		fail(t, b, 1)
		b.Force(Auto, 0, "")
		if call(t, b, nil) {
			t.Fatal("open by itself, it is closed by setting it to automatic")
		}
	})
}

// registry runs one, and collects what it tells.
func registry(t *testing.T) (r *Registry, told func() string) {
	var mu sync.Mutex
	var all []string
	r = NewRegistry(metrics.New(false), func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, c.Name+" "+c.State.String())
	})
	stop := r.Start()
	t.Cleanup(func() { stop(context.Background()) })
	return r, func() string { mu.Lock(); defer mu.Unlock(); return strings.Join(all, ", ") }
}

// Nobody calls, since the node is not ready: the probe finds out.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, told := registry(t)
		var well atomic.Bool
		var tries atomic.Int64
		b := r.Add(Config{Name: "disk", Failures: 1, Trials: 2, Probe: func(ctx context.Context) error {
			switch tries.Add(1) {
			case 2: // longer than it may
				<-ctx.Done()
				return ctx.Err()
			case 3:
				panic("a probe")
			}
			if well.Load() {
				return nil
			}
			return errDisk
		}})
		fail(t, b, 1)
		pass(time.Second + 2*tick)
		if tries.Load() != 1 || b.Status().State != Open {
			t.Fatalf("%d tries, %+v", tries.Load(), b.Status())
		}
		pass(time.Minute)
		if tries.Load() < 4 || b.Status().State != Open {
			t.Fatalf("%d tries, %+v", tries.Load(), b.Status())
		}
		well.Store(true)
		pass(DefaultMaxOpenFor + 3*tick)
		if b.Status().State != Closed {
			t.Fatalf("%+v", b.Status())
		}
		if got := told(); !strings.HasPrefix(got, "disk open, disk half_open, disk open") || !strings.HasSuffix(got, "disk half_open, disk closed") {
			t.Error(got)
		}
	})
}

// A dependency that hangs gives no errors to count.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := registry(t)
		free := make(chan struct{}, 1) // taken while the disk hangs
		free <- struct{}{}
		b := r.Add(Config{Name: "disk", Trials: 1, Stall: 5 * time.Second, Probe: func(context.Context) error {
			<-free // heeds no context, as a system call
			free <- struct{}{}
			return nil
		}})
		// Slow, but it answers: no stall.
		slow, _ := b.Enter()
		for range 20 {
			pass(time.Second)
			call(t, b, nil)
		}
		slow.Leave(nil)
		// Nobody waits: no stall.
		pass(time.Minute)
		if got := b.Status(); got.State != Closed {
			t.Fatalf("%+v", got)
		}
		<-free
		waiting, _ := b.Enter()
		pass(5*time.Second - tick)
		if b.Status().State != Closed {
			t.Fatal("too early")
		}
		// That callers lose patience is no answer.
		gone, _ := b.Enter()
		gone.Leave(context.DeadlineExceeded)
		pass(3 * tick)
		if got := b.Status(); got.State != Open || !strings.Contains(got.Why, "nothing came back") {
			t.Fatalf("%+v", got)
		}
		// The probe hangs too: open again, and not two probes at once.
		pass(time.Minute)
		if got := b.Status(); got.State == Closed {
			t.Fatalf("%+v", got)
		}
		// What hung comes back: tried at once, whatever wait was left.
		free <- struct{}{}
		waiting.Leave(nil)
		pass(3 * tick)
		if got := b.Status(); got.State != Closed {
			t.Fatalf("%+v", got)
		}
		// What never came back does not count any more.
		pass(time.Minute)
		if got := b.Status(); got.State != Closed || got.Opened < 2 {
			t.Fatalf("%+v", got)
		}
	})
}

// Work that lasts as long as others like is refused and judged, and not waited for.
func TestAllowReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := registry(t)
		b := r.Add(Config{Name: "disk", Failures: 2, Trials: 1, Stall: time.Second})
		if err := b.Allow(); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		b.Report(errDisk)
		b.Report(nil)
		b.Report(errDisk)
		if err := b.Allow(); err != nil {
			t.Fatal(err)
		}
		b.Report(errDisk)
		if err := b.Allow(); macronode.KindOf(err) != macronode.Unavailable {
			t.Fatal(err)
		}
		b.Report(nil)
		pass(DefaultOpenFor)
		if err := b.Allow(); err != nil || b.Status().State != HalfOpen || b.Status().InFlight != 0 {
			t.Fatalf("%v %+v", err, b.Status())
		}
		if !call(t, b, nil) || b.Status().State != Closed {
			t.Fatalf("%+v", b.Status())
		}
	})
}

func TestRegistry(t *testing.T) {
	r := NewRegistry(metrics.New(false), nil)
	r.Add(Config{Name: "b"})
	r.Add(Config{Name: "a", Required: true})
	list := r.Statuses()
	if len(list) != 2 || list[0].Name != "a" || !list[0].Required || list[1].Name != "b" {
		t.Errorf("%+v", list)
	}
	if b, err := r.Get("b"); err != nil || b.Name() != "b" {
		t.Error(err)
	}
	if _, err := r.Get("c"); macronode.KindOf(err) != macronode.NotFound {
		t.Error(err)
	}
	for _, name := range []string{"a", ""} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q is added", name)
				}
			}()
			r.Add(Config{Name: name})
		}()
	}
}

// Under load, with changes of every kind, no call is lost from the counts and no
// more than Trials try at once.
func TestConcurrent(t *testing.T) {
	b := newBreaker(Config{Name: "x", Failures: 3, OpenFor: time.Microsecond, MaxOpenFor: 50 * time.Microsecond, Trials: 2}, func(Change) {})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 5000 {
				if p, err := b.Enter(); err == nil {
					var outcome error
					if (i+g)%7 < 3 {
						outcome = errDisk
					}
					p.Leave(outcome)
				}
				if i%500 == 0 {
					b.Force(Mode(i/500)%3, time.Microsecond, "")
				}
				b.watch(time.Now())
			}
		})
	}
	wg.Wait()
	b.Force(Auto, 0, "")
	for !call(t, b, nil) || b.Status().State != Closed {
		b.watch(time.Now().Add(time.Hour))
	}
	if got := b.Status(); got.InFlight != 0 {
		t.Errorf("%+v", got)
	}
}

func TestNoAllocation(t *testing.T) {
	b := New(Config{Name: "x"})
	if n := testing.AllocsPerRun(1000, func() {
		p, _ := b.Enter()
		p.Leave(nil)
	}); n != 0 {
		t.Errorf("a call through a closed breaker allocates %v times", n)
	}
}

func BenchmarkClosed(b *testing.B) {
	x := New(Config{Name: "x"})
	b.ReportAllocs()
	for b.Loop() {
		p, _ := x.Enter()
		p.Leave(nil)
	}
}

func BenchmarkClosedParallel(b *testing.B) {
	x := New(Config{Name: "x"})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, _ := x.Enter()
			p.Leave(nil)
		}
	})
}

func BenchmarkAllow(b *testing.B) {
	x := New(Config{Name: "x"})
	for b.Loop() {
		if x.Allow() != nil {
			b.Fatal()
		}
	}
}

func BenchmarkRefused(b *testing.B) {
	x := New(Config{Name: "x"})
	x.Force(ForcedOpen, 0, "")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Enter(); err == nil {
			b.Fatal()
		}
	}
}
