// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
)

// probe is a check that the test turns on and off and counts.
type probe struct {
	asked atomic.Int64
	err   atomic.Pointer[error]
	hold  chan struct{}
}

func (p *probe) set(err error) { p.err.Store(&err) }

func (p *probe) check(name string, required bool) Check {
	return Check{Name: name, Required: required, Func: func(context.Context) error {
		p.asked.Add(1)
		if p.hold != nil {
			<-p.hold
		}
		if e := p.err.Load(); e != nil {
			return *e
		}
		return nil
	}}
}

func ready(reg *metrics.Registry) string {
	_, body, err := reg.Expose("")
	if err != nil {
		return err.Error()
	}
	var out []string
	for l := range strings.Lines(string(body)) {
		if strings.HasPrefix(l, "ready_state{") {
			out = append(out, strings.TrimSpace(l))
		}
	}
	return strings.Join(out, " ")
}

func TestReadyzDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var storage, search probe
		reg := metrics.New(false)
		r := NewReadiness(ReadinessConfig{Metrics: reg, ConfigVersion: func() uint64 { return 12 },
			Checks: []Check{storage.check("svc-storage", true), search.check("search", false)}})
		t0 := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")

		_, body := r.Report(t.Context())
		want := fmt.Sprintf(`{"ready":true,"degraded":false,"checks":[{"name":"svc-storage","ok":true,"detail":"ok","since":%q,"required":true},`+
			`{"name":"search","ok":true,"detail":"ok","since":%q,"required":false}],"missing":[],"config_version":12}`+"\n", t0, t0)
		if string(body) != want {
			t.Errorf("%s\nwant %s", body, want)
		}
		if got := ready(reg); got != `ready_state{state="false"} 0 ready_state{state="true"} 1` {
			t.Error(got)
		}

		<-time.After(time.Minute)
		search.set(errors.New("index is being built"))
		rep, _ := r.Report(t.Context())
		if !rep.Ready || !rep.Degraded || rep.Checks[1].Detail != "index is being built" || rep.Checks[1].Since == t0 || rep.Checks[0].Since != t0 {
			t.Errorf("%+v", rep)
		}
		<-time.After(fresh)
		storage.set(macronode.Wrap(macronode.DiskFull, "", errors.New("/var/lib/x: no space")))
		rep, body = r.Report(t.Context())
		if rep.Ready || !slices.Equal(rep.Missing, []string{"svc-storage"}) || strings.Contains(string(body), "/var/lib") || !strings.Contains(string(body), "The disk is full") {
			t.Errorf("%s", body)
		}
		if got := ready(reg); got != `ready_state{state="false"} 1 ready_state{state="true"} 0` {
			t.Error(got)
		}
		<-time.After(fresh)
		storage.set(nil)
		if rep, _ = r.Report(t.Context()); !rep.Ready {
			t.Errorf("no recovery: %+v", rep)
		}
	})
}

func TestRequirementsMayChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var required, absent atomic.Bool
		r := NewReadiness(ReadinessConfig{Metrics: metrics.New(false), Checks: []Check{{
			Name: "svc-index", RequiredNow: required.Load, Absent: absent.Load, Func: func(context.Context) error { return errors.New("none") },
		}}})
		for _, tt := range []struct {
			required, absent, ready, degraded bool
			checks                            int
		}{
			{false, false, true, true, 1},
			{true, false, false, false, 1},
			{false, true, true, false, 0},
			{true, false, false, false, 1},
		} {
			required.Store(tt.required)
			absent.Store(tt.absent)
			r.Invalidate()
			rep, _ := r.Report(t.Context())
			if rep.Ready != tt.ready || rep.Degraded != tt.degraded || len(rep.Checks) != tt.checks {
				t.Errorf("%+v: %+v", tt, rep)
			}
			if tt.checks == 1 && rep.Checks[0].Required != tt.required {
				t.Errorf("%+v: %+v", tt, rep)
			}
		}
	})
}

func TestProbesAreCheapAndShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := probe{hold: make(chan struct{})}
		r := NewReadiness(ReadinessConfig{Metrics: metrics.New(false), Checks: []Check{p.check("a", true)}})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if rep, _ := r.Report(t.Context()); !rep.Ready {
					t.Error("not ready")
				}
			})
		}
		synctest.Wait()
		close(p.hold)
		wg.Wait()
		for range 100 {
			r.Report(t.Context())
		}
		if n := p.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		<-time.After(fresh)
		r.Report(t.Context())
		if n := p.asked.Load(); n != 2 {
			t.Errorf("asked %d times after the answer aged", n)
		}
		p.set(errors.New("draining"))
		r.Invalidate()
		if rep, _ := r.Report(t.Context()); rep.Ready {
			t.Error("an invalidated answer was repeated")
		}
	})
}

// An answer whose questions were asked before Invalidate is not given after it.
func TestInvalidateDuringAnEvaluation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := probe{hold: make(chan struct{})}
		var gone atomic.Bool
		r := NewReadiness(ReadinessConfig{Metrics: metrics.New(false), Checks: []Check{
			{Name: "drain", Required: true, Func: func(context.Context) error {
				if gone.Load() {
					return errors.New("draining")
				}
				return nil
			}}, p.check("slow", false),
		}})
		got := make(chan bool)
		go func() { rep, _ := r.Report(t.Context()); got <- rep.Ready }()
		synctest.Wait()
		gone.Store(true)
		r.Invalidate()
		go func() { rep, _ := r.Report(t.Context()); got <- rep.Ready }()
		synctest.Wait()
		close(p.hold)
		for range 2 {
			if <-got {
				t.Error("ready after the drain began")
			}
		}
	})
}

func TestACheckThatHangsIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var quick probe
		p := probe{hold: make(chan struct{})}
		reg := metrics.New(false)
		r := NewReadiness(ReadinessConfig{Metrics: reg, Checks: []Check{quick.check("quick", true), p.check("disk", true)}})
		begin := time.Now()
		rep, body := r.Report(t.Context())
		if d := time.Since(begin); d != patience {
			t.Errorf("answered after %v", d)
		}
		if rep.Ready || !slices.Equal(rep.Missing, []string{"disk"}) || !json.Valid(body) {
			t.Errorf("%s", body)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Close(ctx); err == nil {
			t.Error("closed while a check hangs")
		}
		close(p.hold)
		synctest.Wait()
		if rep, _ := r.Report(t.Context()); !rep.Ready {
			t.Errorf("%+v", rep)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestDetails(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{errors.New("plain"), "plain"},
		{fmt.Errorf("wrapped: %w", macronode.Errorf(macronode.PolicyUnavailable, "bundle is %d s old", 9)), "bundle is 9 s old"},
		{macronode.Wrap(macronode.Internal, "", errors.New("secret path")), "Internal error"},
		{errors.New("token ron1_abc"), "token [redacted]"},
		{errors.New(strings.Repeat("ü", 200)), strings.Repeat("ü", 100) + "…"},
	}
	for _, tt := range tests {
		if got := detail(tt.err); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	r := NewReadiness(ReadinessConfig{Metrics: metrics.New(false), Checks: []Check{{Name: "a", Required: true, Func: func(context.Context) error { panic("x") }}}})
	if rep, _ := r.Report(context.Background()); rep.Ready || rep.Checks[0].Detail != "the check panicked" {
		t.Errorf("%+v", rep)
	}
}

func TestEntropy(t *testing.T) {
	if err := Entropy(context.Background()); err != nil {
		t.Errorf("this machine: %v", err)
	}
	give := func(n int, err error, fill byte) func([]byte, int) (int, error) {
		return func(p []byte, flags int) (int, error) {
			if flags != unix.GRND_NONBLOCK {
				t.Error("it would wait")
			}
			for i := range p {
				p[i] = fill
			}
			return n, err
		}
	}
	tests := map[string]struct {
		f  func([]byte, int) (int, error)
		ok bool
	}{
		"good":            {give(16, nil, 7), true},
		"not initialised": {give(-1, unix.EAGAIN, 7), false},
		"no such call":    {give(-1, unix.ENOSYS, 7), false},
		"short":           {give(8, nil, 7), false},
		"zeros":           {give(16, nil, 0), false},
	}
	for name, tt := range tests {
		if err := entropy(tt.f); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	n := 0
	err := entropy(func(p []byte, _ int) (int, error) {
		if n++; n == 1 {
			return -1, unix.EINTR
		}
		p[0] = 1
		return len(p), nil
	})
	if err != nil {
		t.Errorf("interrupted: %v", err)
	}
}

func BenchmarkReport(b *testing.B) {
	var p probe
	r := NewReadiness(ReadinessConfig{Metrics: metrics.New(false), Checks: []Check{p.check("a", true), p.check("b", true)}})
	b.ReportAllocs()
	for b.Loop() {
		r.Report(context.Background())
	}
}
