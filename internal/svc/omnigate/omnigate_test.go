// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package omnigate

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/rustyonions/macronode"
)

// part is a facet of which a test says what it does.
type part struct {
	name  string
	long  bool
	serve func(ctx context.Context) error
	call  macronode.Handler
	ready error
}

func (p *part) Name() string { return p.name }

func (p *part) Routes() []macronode.Route {
	return []macronode.Route{{Handler: p.call, Binding: macronode.Binding{Op: macronode.Op(p.name + ".do"), LongRunning: p.long}}}
}

func (p *part) Serve(ctx context.Context) error {
	if p.serve != nil {
		return p.serve(ctx)
	}
	<-ctx.Done()
	return nil
}

func (p *part) Ready(context.Context) error { return p.ready }

// switchboard is a breaker that a test throws, and that remembers what it was told.
type switchboard struct {
	mu   sync.Mutex
	off  bool
	told []error
}

func (b *switchboard) Enter() (func(error), error) {
	if err := b.Check(); err != nil {
		return nil, err
	}
	return func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.told = append(b.told, err)
	}, nil
}

func (b *switchboard) Check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.off {
		return macronode.Errorf(macronode.FacetDown, "held off")
	}
	return nil
}

func (b *switchboard) throw(off bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.off = off
}

func (b *switchboard) last() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.told[len(b.told)-1]
}

// bench is a service over parts, running.
type bench struct {
	t        *testing.T
	s        *Service
	m        *Metrics
	breakers map[string]*switchboard
	panics   int
}

// on gives every named facet so many permits.
func on(permits int64, names ...string) Settings {
	s := Settings{Permits: map[string]int64{}}
	for _, name := range names {
		s.Permits[name] = permits
	}
	return s
}

func start(t *testing.T, settings Settings, parts ...*part) *bench {
	t.Helper()
	b := &bench{t: t, m: NewMetrics(nil), breakers: map[string]*switchboard{}}
	var facets []Facet
	for _, p := range parts {
		facets = append(facets, p)
	}
	var err error
	b.s, err = New(Config{Settings: settings, Metrics: b.m, Panicked: func(any, []byte) { b.panics++ },
		Jitter:  func(limit time.Duration) time.Duration { return limit },
		Breaker: func(name string) Breaker { b.breakers[name] = &switchboard{}; return b.breakers[name] }}, facets)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	synctest.Wait()
	return b
}

// call makes one to the facet of this name.
func (b *bench) call(ctx context.Context, name string) (*macronode.Reply, error) {
	b.t.Helper()
	for _, r := range b.s.Routes() {
		if r.Op == macronode.Op(name+".do") {
			return r.Handler(ctx, &macronode.Admitted{Call: &macronode.Call{Binding: &r.Binding, Body: strings.NewReader("body")}})
		}
	}
	b.t.Fatalf("no facet %s", name)
	return nil, nil
}

// wantDown wants a refusal as facets give it: 503, reason facet, with a time to wait.
func wantDown(t *testing.T, err error, says string) {
	t.Helper()
	e := macronode.AsError(err)
	if e == nil || e.Kind != macronode.FacetDown || !strings.Contains(e.Detail, says) || e.RetryHint() <= 0 {
		t.Fatalf("got %v, want a facet that says %q", err, says)
	}
	if i := e.Kind.Info(); i.Status != 503 || i.Reason != "facet" {
		t.Fatalf("status %d, reason %s", i.Status, i.Reason)
	}
}

func ok(context.Context, *macronode.Admitted) (*macronode.Reply, error) {
	return &macronode.Reply{Status: 200, Body: []byte("fine")}, nil
}

func (b *bench) count(facet string, o outcome) float64 {
	return valueOf(b.m.calls.WithLabelValues(facet, outcomeNames[o]))
}

// valueOf is what a counter or gauge stands at.
func valueOf(m prometheus.Metric) float64 {
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		return -1
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

func TestOffUntilEnabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs, ends := 0, 0
		b := start(t, Settings{}, &part{name: "graph", call: ok, serve: func(ctx context.Context) error {
			runs++
			<-ctx.Done()
			ends++
			return nil
		}}, &part{name: "feed", call: ok})
		_, err := b.call(t.Context(), "graph")
		wantDown(t, err, "not enabled")
		if err := b.s.Ready(t.Context()); err != nil || runs != 0 {
			t.Errorf("a facet that is off: ready %v, %d runs", err, runs)
		}
		set := func(s Settings) {
			if err := b.s.SetSettings(s); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		set(on(2, "graph"))
		if r, err := b.call(t.Context(), "graph"); err != nil || string(r.Body) != "fine" || runs != 1 {
			t.Errorf("%v, %v, %d runs", r, err, runs)
		}
		_, err = b.call(t.Context(), "feed")
		wantDown(t, err, "not enabled")
		set(on(2, "feed"))
		_, err = b.call(t.Context(), "graph")
		wantDown(t, err, "not enabled")
		if runs != 1 || ends != 1 {
			t.Errorf("%d runs, %d ends", runs, ends)
		}
		if b.count("graph", outcomeOff) != 2 || b.count("graph", outcomeOK) != 1 {
			t.Error("calls are not counted")
		}
	})
}

// A facet that panics in a handler answers its caller; the other one goes on.
func TestPanicIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, on(2, "graph", "feed"), &part{name: "graph", call: func(context.Context, *macronode.Admitted) (*macronode.Reply, error) { panic("a bug") }},
			&part{name: "feed", call: ok})
		for range 5 { // more than there are permits: none is lost
			_, err := b.call(t.Context(), "graph")
			wantDown(t, err, "failed")
		}
		if !errors.Is(b.breakers["graph"].last(), ErrFailed) || b.panics != 5 || b.count("graph", outcomeFailed) != 5 {
			t.Errorf("told %v, %d panics", b.breakers["graph"].last(), b.panics)
		}
		if _, err := b.call(t.Context(), "feed"); err != nil || b.breakers["feed"].last() != nil {
			t.Errorf("the neighbour: %v", err)
		}
	})
}

// A handler that heeds its context is ended at the limit, one that does not is left
// behind: its permit is gone until it returns, and what it has of its call is cut.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, read := make(chan struct{}), make(chan error, 1)
		closed := make(chan struct{})
		b := start(t, on(1, "graph", "feed"), &part{name: "graph", call: func(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
			<-release
			_, err := a.Body.Read(make([]byte, 4))
			read <- err
			return &macronode.Reply{Stream: &stream{closed: closed}}, nil
		}}, &part{name: "feed", call: func(ctx context.Context, _ *macronode.Admitted) (*macronode.Reply, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		begun := time.Now()
		_, err := b.call(t.Context(), "feed")
		wantDown(t, err, "in time")
		if took := time.Since(begun); took != CallLimit {
			t.Errorf("ended after %v", took)
		}
		if _, err := b.call(t.Context(), "feed"); macronode.KindOf(err) != macronode.FacetDown || b.breakers["feed"].last() == nil {
			t.Errorf("no permit came back: %v", err)
		}
		begun = time.Now()
		_, err = b.call(t.Context(), "graph")
		wantDown(t, err, "in time")
		if took := time.Since(begun); took != CallLimit+endGrace || !errors.Is(b.breakers["graph"].last(), ErrFailed) {
			t.Errorf("answered after %v", took)
		}
		_, err = b.call(t.Context(), "graph")
		wantDown(t, err, "working on 1 calls")
		if valueOf(b.m.left.WithLabelValues("graph")) != 1 {
			t.Error("the hang is not counted")
		}
		close(release)
		if err := <-read; macronode.KindOf(err) != macronode.ClientGone {
			t.Errorf("a handler that nobody waits for reads the body: %v", err)
		}
		<-closed
		synctest.Wait()
		if held := b.s.gates[0].held.Load(); held != 0 {
			t.Errorf("%d permits are out", held)
		}
	})
}

// A caller's own haste is not the facet's fault.
func TestCallersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, on(1, "graph"), &part{name: "graph", call: func(ctx context.Context, _ *macronode.Admitted) (*macronode.Reply, error) {
			<-ctx.Done()
			return nil, macronode.Wrap(macronode.DeadlineExceeded, "", ctx.Err())
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := b.call(ctx, "graph")
		if macronode.KindOf(err) != macronode.DeadlineExceeded || errors.Is(b.breakers["graph"].last(), ErrFailed) {
			t.Errorf("%v; the breaker was told %v", err, b.breakers["graph"].last())
		}
	})
}

// stream is a reply's that is written when a test says so.
type stream struct{ closed chan struct{} }

func (s *stream) WriteTo(io.Writer) (int64, error) { return 0, nil }
func (s *stream) Close() error {
	if s.closed != nil {
		close(s.closed)
	}
	return nil
}

// Over the permits calls are shed; a stream holds its permit until it is closed, a
// long-running one only while its handler works.
func TestPermits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams := func(context.Context, *macronode.Admitted) (*macronode.Reply, error) {
			return &macronode.Reply{Stream: &stream{}, Length: -1}, nil
		}
		b := start(t, on(2, "media", "feed"), &part{name: "media", call: streams}, &part{name: "feed", call: streams, long: true})
		var open []*macronode.Reply
		for range 2 {
			r, err := b.call(t.Context(), "media")
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, r)
		}
		_, err := b.call(t.Context(), "media")
		wantDown(t, err, "working on 2 calls")
		if b.count("media", outcomeShed) != 1 || valueOf(b.m.inflight.WithLabelValues("media")) != 2 {
			t.Error("what is shed is not counted")
		}
		open[0].Stream.Close()
		open[0].Stream.Close() // twice is once
		if _, err := b.call(t.Context(), "media"); err != nil {
			t.Errorf("a permit came back and is not there: %v", err)
		}
		_, err = b.call(t.Context(), "media")
		wantDown(t, err, "working on 2 calls")
		for range 5 {
			if _, err := b.call(t.Context(), "feed"); err != nil {
				t.Errorf("watches hold permits: %v", err)
			}
		}
		if err := b.s.SetSettings(on(3, "media")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.call(t.Context(), "media"); err != nil {
			t.Errorf("more permits: %v", err)
		}
	})
}

// Forced open a facet refuses, says so to readiness, and loses no permit.
func TestKillSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, on(1, "graph", "feed"), &part{name: "graph", call: ok}, &part{name: "feed", call: ok})
		b.breakers["graph"].throw(true)
		for range 3 {
			_, err := b.call(t.Context(), "graph")
			wantDown(t, err, "held off")
		}
		if err := b.s.Ready(t.Context()); err == nil || err.Error() != "graph: held off" {
			t.Errorf("ready: %v", err)
		}
		if _, err := b.call(t.Context(), "feed"); err != nil {
			t.Errorf("the neighbour: %v", err)
		}
		b.breakers["graph"].throw(false)
		if _, err := b.call(t.Context(), "graph"); err != nil || b.s.Ready(t.Context()) != nil {
			t.Errorf("back: %v", err)
		}
	})
}

// What a facet runs between calls is run again, with a wait that grows; meanwhile
// it is down, and it alone.
func TestRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		begun := time.Now()
		b := start(t, on(1, "graph", "feed"), &part{name: "graph", call: ok, serve: func(ctx context.Context) error {
			at = append(at, time.Since(begun))
			switch len(at) {
			case 1:
				panic("a bug")
			case 2:
				return errors.New("broken")
			case 3:
				return nil // which it should not
			}
			<-ctx.Done()
			return nil
		}}, &part{name: "feed", call: ok})
		_, err := b.call(t.Context(), "graph")
		wantDown(t, err, "restarting")
		if _, err := b.call(t.Context(), "feed"); err != nil {
			t.Errorf("the neighbour: %v", err)
		}
		if err := b.s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "graph: the facet graph is restarting") {
			t.Errorf("ready: %v", err)
		}
		<-time.After(time.Second)
		synctest.Wait()
		want := []time.Duration{0, backoffBase, 3 * backoffBase, 7 * backoffBase}
		if len(at) != len(want) {
			t.Fatalf("runs at %v, want %v", at, want)
		}
		for i := range want {
			if at[i] != want[i] {
				t.Errorf("runs at %v, want %v", at, want)
			}
		}
		if _, err := b.call(t.Context(), "graph"); err != nil || b.panics != 1 || valueOf(b.m.restarts.WithLabelValues("graph")) != 3 {
			t.Errorf("back: %v, %d panics", err, b.panics)
		}
	})
}

func TestBadSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, on(1, "graph"), &part{name: "graph", call: ok})
		for _, bad := range []Settings{on(0, "graph"), on(-1, "graph"), on(1, "graf")} {
			if b.s.SetSettings(bad) == nil {
				t.Errorf("%v is accepted", bad)
			}
		}
		if _, err := b.call(t.Context(), "graph"); err != nil {
			t.Errorf("a refused setting changed something: %v", err)
		}
	})
	for _, facets := range [][]Facet{{&part{name: "graf"}}, {&part{name: "feed"}, &part{name: "feed"}}} {
		if _, err := New(Config{Breaker: func(string) Breaker { return &switchboard{} }}, facets); err == nil {
			t.Error("a bad list of facets is accepted")
		}
	}
	if _, err := New(Config{}, nil); err == nil {
		t.Error("a frame without breakers is accepted")
	}
}
