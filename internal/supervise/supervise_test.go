// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/metrics"
)

// fake is a service whose runs the test scripts.
type fake struct {
	name  string
	serve func(ctx context.Context, run int) error // nil: waits for ctx
	ready func() error
	runs  atomic.Int64
	note  func(string)
}

func (f *fake) Name() string              { return f.name }
func (f *fake) Routes() []macronode.Route { return nil }

func (f *fake) Ready(context.Context) error {
	if f.ready != nil {
		return f.ready()
	}
	return nil
}

func (f *fake) Serve(ctx context.Context) error {
	run := int(f.runs.Add(1))
	if f.note != nil {
		f.note("+" + f.name)
		defer f.note("-" + f.name)
	}
	if f.serve != nil {
		return f.serve(ctx, run)
	}
	<-ctx.Done()
	return ctx.Err()
}

type world struct {
	sup *Supervisor
	bus *bus.Bus
	reg *metrics.Registry
	log *bytes.Buffer
}

// start runs the services under a supervisor whose jitter is the whole limit.
func start(t *testing.T, change func(*Config), services ...macronode.Service) *world {
	t.Helper()
	w := &world{reg: metrics.New(false), log: new(bytes.Buffer)}
	w.bus = bus.New(w.reg, nil, nil, nil)
	cfg := Config{Bus: w.bus, Metrics: w.reg, Log: logs.New(w.log, logs.Options{Format: logs.JSON}),
		Jitter: func(limit time.Duration) time.Duration { return limit }}
	if change != nil {
		change(&cfg)
	}
	w.sup = New(cfg, services...)
	if err := w.sup.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) stop(t *testing.T) {
	t.Helper()
	if left := w.sup.Stop(context.Background()); left != nil {
		t.Errorf("would not stop: %v", left)
	}
}

func (w *world) events() []string {
	evs, _, _ := w.bus.After(0, bus.Kept)
	out := make([]string, len(evs))
	for i := range evs {
		out[i] = strings.TrimPrefix(evs[i].String(), "KernelEvent::")
	}
	return out
}

func (w *world) wantMetric(t *testing.T, line string) {
	t.Helper()
	_, body, err := w.reg.Expose("")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(body), line+"\n") {
		t.Errorf("metrics lack %q", line)
	}
}

// w0 is empty, which the compiler does not know.
var w0 = strings.TrimSpace(" ")

// pass lets d of the bubble's time go by.
func pass(d time.Duration) { <-time.After(d) }

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		note := func(s string) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, s)
		}
		// b takes a while to be ready; c must not start before.
		born := time.Now()
		b := &fake{name: "b", note: note, ready: func() error {
			if time.Since(born) < 300*time.Millisecond {
				return errors.New("warming up")
			}
			return nil
		}}
		var cStarted time.Duration
		c := &fake{name: "c", note: note, serve: func(ctx context.Context, _ int) error {
			cStarted = time.Since(born)
			<-ctx.Done()
			return nil
		}}
		w := start(t, nil, &fake{name: "a", note: note}, b, c)
		w.stop(t)
		if cStarted < 300*time.Millisecond || cStarted > 400*time.Millisecond {
			t.Errorf("c started after %v", cStarted)
		}
		if want := []string{"+a", "+b", "+c", "-c", "-b", "-a"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		want := []string{"Health{service=a, ok=true}", "Health{service=b, ok=true}", "Health{service=c, ok=true}"}
		if ev := w.events(); !slices.Equal(ev, want) {
			t.Errorf("%v", ev)
		}
		for _, st := range w.sup.Status() {
			if st.State != Stopped {
				t.Errorf("%s is %s", st.Name, st.State)
			}
		}
	})
}

func TestAnUnreadyServiceDelaysTheNextOnlySoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		w := start(t, nil, &fake{name: "a", ready: func() error { return errors.New("no disk") }}, &fake{name: "b"})
		if d := time.Since(begin); d < defaultStartWait || d > defaultStartWait+10*time.Millisecond {
			t.Errorf("start took %v", d)
		}
		pass(monitorEvery)
		synctest.Wait()
		if err := w.sup.Check(t.Context(), "a"); err == nil || err.Error() != "no disk" {
			t.Errorf("a: %v", err)
		}
		if !w.sup.Up("b") || !w.sup.Up("a") {
			t.Error("not up")
		}
		if ev := w.events(); !slices.Contains(ev, "Health{service=a, ok=false}") {
			t.Errorf("%v", ev)
		}
		w.stop(t)
	})
}

func TestCrashesAreContainedAndRestarted(t *testing.T) {
	tests := map[string]struct {
		fail   func() error
		reason string
		stack  bool
	}{
		"error":   {func() error { return errors.New("boom") }, "boom", false},
		"panic":   {func() error { panic("boom") }, "panic: boom", true},
		"runtime": {func() error { return []error{}[len(w0)] }, "panic: runtime error: index out of range [0] with length 0", true},
		"return":  {func() error { return nil }, errReturned.Error(), false},
		"foreign": {func() error { return fmt.Errorf("dial: %w", context.DeadlineExceeded) }, "dial: context deadline exceeded", false},
		"cancel":  {func() error { return context.Canceled }, "context canceled", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{name: "a", serve: func(ctx context.Context, run int) error {
					if run == 1 {
						pass(time.Second)
						return tt.fail()
					}
					<-ctx.Done()
					return nil
				}}
				other := &fake{name: "b"}
				w := start(t, nil, f, other)
				pass(time.Second + BackoffBase/2)
				synctest.Wait()
				if w.sup.Up("a") {
					t.Error("up while it backs off")
				}
				if err := w.sup.Check(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), tt.reason) {
					t.Errorf("check: %v", err)
				}
				pass(BackoffBase)
				synctest.Wait()
				if !w.sup.Up("a") || f.runs.Load() != 2 || other.runs.Load() != 1 {
					t.Errorf("up %v, runs %d, the other's %d", w.sup.Up("a"), f.runs.Load(), other.runs.Load())
				}
				pass(monitorEvery)
				synctest.Wait()
				want := []string{"Health{service=a, ok=true}", "Health{service=b, ok=true}", "Health{service=a, ok=false}",
					"ServiceCrashed{service=a, reason=" + tt.reason + "}", "Health{service=a, ok=true}"}
				if ev := w.events(); !slices.Equal(ev, want) {
					t.Errorf("%q", ev)
				}
				w.wantMetric(t, `service_restarts_total{service="a"} 1`)
				w.wantMetric(t, `service_restarts_total{service="b"} 0`)
				if got := strings.Contains(w.log.String(), "goroutine "); got != tt.stack {
					t.Errorf("stack logged: %v\n%s", got, w.log)
				}
				w.stop(t)
			})
		})
	}
}

func TestBackoffDoublesAndTooManyRestartsDegrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		f := &fake{name: "a", serve: func(ctx context.Context, run int) error {
			at = append(at, time.Now())
			if run <= 10 {
				return errors.New("boom")
			}
			<-ctx.Done()
			return nil
		}}
		w := start(t, nil, f)
		var degradedAt int
		for w.sup.Status()[0].Restarts < 10 {
			pass(10 * time.Millisecond)
			synctest.Wait()
			if st := w.sup.Status()[0]; st.Degraded && degradedAt == 0 {
				degradedAt = st.Restarts
			}
		}
		if degradedAt != DegradedAfter+1 {
			t.Errorf("degraded after %d restarts", degradedAt)
		}
		if d := w.sup.Degraded(); !slices.Equal(d, []string{"a"}) {
			t.Errorf("degraded: %v", d)
		}
		pass(Window)
		if d := w.sup.Degraded(); d != nil {
			t.Errorf("still degraded: %v", d)
		}
		w.stop(t)
		for i := 1; i < len(at); i++ {
			if want := min(BackoffBase<<(i-1), BackoffMax); at[i].Sub(at[i-1]) != want {
				t.Errorf("restart %d after %v, want %v", i, at[i].Sub(at[i-1]), want)
			}
		}
	})
}

// With the real jitter the median restart takes well under a second.
func TestMedianRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gaps []time.Duration
		var last time.Time
		f := &fake{name: "a", serve: func(ctx context.Context, run int) error {
			if run > 1 {
				gaps = append(gaps, time.Since(last))
			}
			pass(10 * time.Second)
			last = time.Now()
			panic("boom")
		}}
		w := start(t, func(c *Config) { c.Jitter = nil }, f)
		pass(30 * time.Minute)
		w.stop(t)
		slices.Sort(gaps)
		if n := len(gaps); n < 50 || gaps[n/2] >= time.Second || gaps[n-1] > BackoffBase {
			t.Errorf("%d restarts, median %v, most %v", n, gaps[n/2], gaps[n-1])
		}
		if gaps[0] == gaps[len(gaps)-1] {
			t.Error("no jitter")
		}
	})
}

func TestVerdicts(t *testing.T) {
	errCorrupt := errors.New("corrupt")
	synctest.Test(t, func(t *testing.T) {
		down := &fake{name: "a", serve: func(context.Context, int) error { return fmt.Errorf("open: %w", errCorrupt) }}
		exit := &fake{name: "b", serve: func(context.Context, int) error {
			return fmt.Errorf("listen: %w", &Exit{Code: 3, Err: errors.New("port in use")})
		}}
		w := start(t, func(c *Config) {
			c.Classify = func(err error) Verdict {
				if errors.Is(err, errCorrupt) {
					return StayDown
				}
				return Restart
			}
		}, down, exit)
		pass(time.Hour)
		if down.runs.Load() != 1 || exit.runs.Load() != 1 {
			t.Errorf("runs %d, %d", down.runs.Load(), exit.runs.Load())
		}
		select {
		case e := <-w.sup.Fatal():
			if e.Code != 3 || e.Service != "b" || e.Error() != "port in use" {
				t.Errorf("%+v", e)
			}
		default:
			t.Error("nothing fatal")
		}
		if d := w.sup.Degraded(); !slices.Equal(d, []string{"a", "b"}) {
			t.Errorf("degraded: %v", d)
		}
		if err := w.sup.Check(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "corrupt") {
			t.Errorf("%v", err)
		}
		w.stop(t)
	})
}

func TestStopNamesWhatWouldNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := &fake{name: "b", serve: func(context.Context, int) error { <-release; return nil }}
		a, c := &fake{name: "a"}, &fake{name: "c"}
		w := start(t, nil, a, stuck, c)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		if left := w.sup.Stop(ctx); !slices.Equal(left, []string{"b"}) {
			t.Errorf("would not stop: %v", left)
		}
		if d := time.Since(begin); d > 3*time.Second+stopGrace {
			t.Errorf("stop took %v", d)
		}
		if w.sup.Up("a") || w.sup.Up("c") {
			t.Error("the others still run")
		}
		close(release)
		synctest.Wait()
		w.stop(t) // a second stop finds all stopped
	})
}

func TestStopDuringBackoffAndBeforeStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil, &fake{name: "a", serve: func(context.Context, int) error { return errors.New("boom") }})
		pass(BackoffBase / 2)
		begin := time.Now()
		w.stop(t)
		if time.Since(begin) != 0 {
			t.Error("stop waited for the back-off")
		}
		idle := New(Config{Metrics: metrics.New(false)}, &fake{name: "a"})
		if left := idle.Stop(context.Background()); left != nil {
			t.Errorf("%v", left)
		}
		if idle.Up("a") || idle.Up("nobody") {
			t.Error("up before the start")
		}
	})
}

func TestReadinessCheckThatPanicsOrFlips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mode atomic.Int64
		f := &fake{name: "a", ready: func() error {
			switch mode.Load() {
			case 1:
				return errors.New("no space")
			case 2:
				panic("oops")
			}
			return nil
		}}
		w := start(t, nil, f)
		for m, wantErr := range []string{"", "no space", "the readiness check panicked: oops", ""} {
			mode.Store(int64(m % 3))
			pass(2 * monitorEvery)
			synctest.Wait()
			err := w.sup.Check(t.Context(), "a")
			if got := fmt.Sprint(err); wantErr == "" && err != nil || wantErr != "" && got != wantErr {
				t.Errorf("%d: %v", m, err)
			}
		}
		want := []string{"Health{service=a, ok=true}", "Health{service=a, ok=false}", "Health{service=a, ok=true}"}
		if ev := w.events(); !slices.Equal(ev, want) {
			t.Errorf("%q", ev)
		}
		w.stop(t)
	})
}

func TestMisuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil, &fake{name: "a"})
		if err := w.sup.Start(t.Context()); err == nil {
			t.Error("started twice")
		}
		if err := w.sup.Check(t.Context(), "nobody"); err == nil {
			t.Error("nobody is ready")
		}
		w.stop(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s := New(Config{Metrics: metrics.New(false)}, &fake{name: "a"}, &fake{name: "b"})
		if err := s.Start(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if left := s.Stop(context.Background()); left != nil {
			t.Errorf("%v", left)
		}
	})
	defer func() {
		if recover() == nil {
			t.Error("two services of one name")
		}
	}()
	New(Config{Metrics: metrics.New(false)}, &fake{name: "a"}, &fake{name: "a"})
}

func BenchmarkUp(b *testing.B) {
	s := New(Config{Metrics: metrics.New(false)}, &fake{name: "svc-storage"})
	b.ReportAllocs()
	for b.Loop() {
		s.Up("svc-storage")
	}
}
