// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
)

var devTenant = macronode.TenantID{1, 0x8f, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

var testMeta = Meta{Version: 3, Issued: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)}

const permitAll = "permit (principal, action, resource);\n"

func cedarText(text string) Sources { return Sources{"a.cedar": []byte(text)} }

func mustBuild(t testing.TB, src Sources) []byte {
	t.Helper()
	payload, _, err := Build(src, testMeta)
	if err != nil {
		t.Fatalf("Build: %v", err)
	}
	return payload
}

// ask makes a request of a capability of the tenant dev.
func ask(action macronode.Action, kind macronode.ResourceKind, id string) *wall.PolicyRequest {
	return &wall.PolicyRequest{
		Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: devTenant},
		Tenant:    &macronode.Tenant{ID: devTenant, Label: "dev"},
		Action:    action, Resource: macronode.Resource{Kind: kind, ID: id}, TLS: true,
	}
}

// The tests' envelope: a word that stands for a signature, then the payload.
const seal = "signed:"

func sealed(payload []byte) []byte { return append([]byte(seal), payload...) }

var testVerifier = VerifierFunc(func(envelope []byte) ([]byte, error) {
	payload, ok := bytes.CutPrefix(envelope, []byte(seal))
	if !ok {
		return nil, errors.New("no anchor signed this")
	}
	return bytes.TrimLeft(payload, "~"), nil // "~" is another signature of the same
})

// memSource is a source that can be changed, sent away, and made to hang.
type memSource struct {
	mu       sync.Mutex
	envelope []byte
	err      error
	hang     bool
	fetches  int
}

func (m *memSource) Fetch(ctx context.Context) ([]byte, error) {
	m.mu.Lock()
	m.fetches++
	envelope, err, hang := m.envelope, m.err, m.hang
	m.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return envelope, err
}

func (m *memSource) set(envelope []byte, err error, hang bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.envelope, m.err, m.hang = envelope, err, hang
}

// memRegistry registers with a plain prometheus registry.
type memRegistry struct{ prometheus.Registerer }

func (r memRegistry) Counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.MustRegister(c)
	return c
}

func (r memRegistry) Counters(name, help string, labels []string, values ...[]string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	r.MustRegister(c)
	for _, v := range values[0] {
		c.WithLabelValues(v)
	}
	return c
}

func (r memRegistry) Histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	r.MustRegister(h)
	return h
}

func count(t *testing.T, c prometheus.Counter) int {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return int(m.GetCounter().GetValue())
}

const testTTL = 200 * time.Millisecond

// pass lets the bubble's clock go on.
func pass(d time.Duration) { <-time.After(d) }

// running is a service under test whose bundle permits everything.
type running struct {
	*Service
	src *memSource
	pin string
}

func newRunning(t *testing.T, payload []byte, metrics *Metrics) *running {
	t.Helper()
	r := &running{src: &memSource{envelope: sealed(payload)}, pin: Hash(payload)}
	s, err := New(Config{Source: r.src, Verifier: testVerifier, Pin: r.pin, CacheTTL: testTTL, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	r.Service = s
	return r
}

// serve runs Serve until the returned function is called.
func (r *running) serve(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Serve(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

// state is "allow", "deny" or the code of the error; Ready must agree.
func (r *running) state(t *testing.T) string {
	t.Helper()
	d, err := r.Decide(t.Context(), ask("object:get", macronode.ObjectResource, "a"))
	if ready := r.Ready(t.Context()) == nil; ready != (err == nil) {
		t.Errorf("ready = %v, but Decide says %v", ready, err)
	}
	switch {
	case err != nil && d.Allow:
		t.Error("allowed beside an error")
		fallthrough
	case err != nil:
		return macronode.KindOf(err).String()
	case d.Allow:
		return "allow"
	}
	return "deny"
}

func (r *running) want(t *testing.T, state string) {
	t.Helper()
	if got := r.state(t); got != state {
		t.Errorf("state %s, want %s", got, state)
	}
}

func TestConfigValidate(t *testing.T) {
	_, err := New(Config{})
	for _, want := range []string{"source", "verifier", "hash", "ttl"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %q in it", err, want)
		}
	}
}

func TestPrepareRefuses(t *testing.T) {
	payload := mustBuild(t, cedarText(permitAll))
	other := mustBuild(t, InitSources())
	broken := bytes.Replace(payload, []byte("permit"), []byte("grants"), 1)
	m := testMeta
	m.Issued = time.Now().Add(-2 * time.Hour)
	m.Expires = m.Issued.Add(time.Hour)
	old, _, err := Build(cedarText(permitAll), m)
	if err != nil {
		t.Fatal(err)
	}
	r := newRunning(t, payload, nil)
	for name, tc := range map[string]struct {
		envelope []byte
		pin      string
	}{
		"signature":  {payload, Hash(payload)},
		"other pin":  {sealed(payload), Hash(other)},
		"no pin":     {sealed(payload), ""},
		"odd pin":    {sealed(payload), strings.ToUpper(Hash(payload))},
		"content":    {sealed(broken), Hash(broken)},
		"expired":    {sealed(old), Hash(old)},
		"huge":       {sealed(make([]byte, MaxEnvelopeBytes)), Hash(payload)},
		"huge inner": {sealed(make([]byte, MaxPayloadBytes+1)), Hash(make([]byte, MaxPayloadBytes+1))},
	} {
		if set, err := r.Prepare(tc.envelope, tc.pin); err == nil || set != nil {
			t.Errorf("%s: prepared", name)
		}
	}
	if _, err := r.Prepare(sealed(payload), Hash(other)); !errors.Is(err, ErrPin) {
		t.Errorf("err = %v, want ErrPin", err)
	}
	r.want(t, "policy_unavailable") // nothing was swapped in
}

func TestSwapIsWhole(t *testing.T) {
	open, shut := mustBuild(t, cedarText(permitAll)), mustBuild(t, cedarText(permitAll+"forbid (principal, action, resource);"))
	r := newRunning(t, open, nil)
	for _, step := range []struct {
		payload []byte
		want    string
	}{{open, "allow"}, {shut, "deny"}, {open, "allow"}} {
		set, err := r.Prepare(sealed(step.payload), Hash(step.payload))
		if err != nil {
			t.Fatal(err)
		}
		before := r.Set()
		r.state(t) // fills the old set's cache
		if r.Set() != before {
			t.Error("Prepare swapped")
		}
		r.Swap(set)
		r.want(t, step.want)
		r.want(t, step.want)
	}
}

// The source goes away and comes back, in each way it can.
func TestSourceAwayAndBack(t *testing.T) {
	payload := mustBuild(t, cedarText(permitAll))
	for name, away := range map[string]func(*memSource){
		"error": func(m *memSource) { m.set(nil, errors.New("kms is down"), false) },
		"hang":  func(m *memSource) { m.set(nil, nil, true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := prometheus.NewRegistry()
				metrics := NewMetrics(memRegistry{reg})
				r := newRunning(t, payload, metrics)
				r.want(t, "policy_unavailable")
				stop := r.serve(t)
				defer stop()
				synctest.Wait()
				r.want(t, "allow") // Serve read it itself
				pass(time.Minute)
				r.want(t, "allow")

				away(r.src)
				pass(testTTL / 2)
				r.want(t, "allow") // not past the TTL yet
				pass(3 * testTTL)
				r.want(t, "policy_unavailable")
				pass(time.Hour)
				r.want(t, "policy_unavailable")

				r.src.set(sealed(payload), nil, false)
				pass(time.Second)
				r.want(t, "allow")
				if n := count(t, metrics.decisions[rules.Failed]); n != 3 {
					t.Errorf("policy_decisions_total{error} = %d, want 3", n)
				}
				if n := count(t, metrics.decisions[rules.Allowed]); n < 4 {
					t.Errorf("policy_decisions_total{allow} = %d", n)
				}
			})
		})
	}
}

// While the source is away a reload may still put another bundle in force.
func TestReloadWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		payload, next := mustBuild(t, cedarText(permitAll)), mustBuild(t, cedarText(permitAll+"// 2\n"))
		r := newRunning(t, payload, nil)
		stop := r.serve(t)
		defer stop()
		synctest.Wait()
		r.src.set(nil, errors.New("away"), false)
		pass(time.Second)
		r.want(t, "policy_unavailable")
		other := &memSource{envelope: sealed(next)}
		set, err := r.PrepareFrom(t.Context(), other, Hash(next))
		if err != nil {
			t.Fatal(err)
		}
		r.Swap(set)
		r.want(t, "allow")
		pass(time.Minute) // the new source is the one that is read now
		r.want(t, "allow")
		other.set(nil, errors.New("away"), false)
		pass(time.Second)
		r.want(t, "policy_unavailable")
	})
}

// Another content in the pinned object's place is refused; what is in force stays.
func TestSourceHoldsAnother(t *testing.T) {
	payload := mustBuild(t, cedarText(permitAll+`forbid (principal, action == Action::"kms:sign", resource);`))
	for name, envelope := range map[string][]byte{
		"another bundle": sealed(mustBuild(t, cedarText(permitAll))),
		"unsigned":       payload,
		"nothing":        nil,
		"cut off":        sealed(payload)[:100],
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				metrics := NewMetrics(memRegistry{prometheus.NewRegistry()})
				r := newRunning(t, payload, metrics)
				stop := r.serve(t)
				defer stop()
				synctest.Wait()
				before := r.Set()
				r.src.set(envelope, nil, false)
				pass(time.Second)
				if r.Set() != before || r.Set().Hash() != r.pin {
					t.Error("another set is in force")
				}
				if count(t, metrics.refused) == 0 {
					t.Error("the refusal is not counted")
				}
				if d, err := r.Decide(t.Context(), ask("kms:sign", macronode.KeyResource, "k")); err != nil || d.Allow {
					t.Errorf("%+v, %v", d, err)
				}
				n := count(t, metrics.refused)
				r.src.set(sealed(append([]byte("~"), payload...)), nil, false) // signed again: in order
				pass(time.Second)
				if count(t, metrics.refused) > n+1 {
					t.Error("a new signature of the same payload is refused")
				}
				r.want(t, "allow")
			})
		})
	}
}

// Where Serve itself does not run, the policy grows stale and nothing passes.
func TestServeStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		payload := mustBuild(t, cedarText(permitAll))
		r := newRunning(t, payload, nil)
		r.serve(t)()
		set, err := r.Prepare(sealed(payload), r.pin)
		if err != nil {
			t.Fatal(err)
		}
		r.Swap(set)
		pass(silence)
		r.want(t, "allow")
		pass(testTTL + time.Millisecond)
		r.want(t, "policy_unavailable")
		stop := r.serve(t) // may be called again
		synctest.Wait()
		r.want(t, "allow")
		stop()
	})
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := Meta{Version: 1, Issued: time.Now(), Expires: time.Now().Add(time.Hour)}
		payload, _, err := Build(cedarText(permitAll), m)
		if err != nil {
			t.Fatal(err)
		}
		r := newRunning(t, payload, nil)
		stop := r.serve(t)
		defer stop()
		pass(time.Hour - time.Millisecond)
		synctest.Wait()
		r.want(t, "allow")
		pass(time.Millisecond)
		r.want(t, "policy_unavailable") // though it is cached
	})
}

func TestDecideIsFreeWhenCached(t *testing.T) {
	payload := mustBuild(t, DevSources(devTenant))
	r := newRunning(t, payload, NewMetrics(memRegistry{prometheus.NewRegistry()}))
	set, err := r.Prepare(sealed(payload), r.pin)
	if err != nil {
		t.Fatal(err)
	}
	r.Swap(set)
	r.SetCacheTTL(time.Hour)
	req := ask("object:get", macronode.ObjectResource, "a")
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if d, err := r.Decide(ctx, req); err != nil || !d.Allow {
			t.Fatal("denied")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Decisions, swaps and readings run together.
func TestConcurrent(t *testing.T) {
	open, shut := mustBuild(t, cedarText(permitAll)), mustBuild(t, cedarText(""))
	r := newRunning(t, open, nil)
	var sets []*Set
	for _, p := range [][]byte{open, shut} {
		set, err := r.Prepare(sealed(p), Hash(p))
		if err != nil {
			t.Fatal(err)
		}
		sets = append(sets, set)
	}
	stop := r.serve(t)
	defer stop()
	r.Swap(sets[0])
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range 2000 {
				req := ask("object:get", macronode.ObjectResource, "a")
				req.Tenant.Label = []string{"a", "b"}[i%2]
				if _, err := r.Decide(context.Background(), req); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 200 {
		r.Swap(sets[i%2])
	}
	wg.Wait()
}
