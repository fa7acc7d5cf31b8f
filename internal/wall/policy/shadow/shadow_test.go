// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
)

var acme = macronode.TenantID{1, 0x8f, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func load(t testing.TB, expires time.Time, cedar string) *rules.Set {
	t.Helper()
	b, err := payload.Assemble(payload.Sources{"a.cedar": []byte(cedar)}, payload.Meta{Version: 1, Issued: time.Unix(0, 0), Expires: expires})
	if err != nil {
		t.Fatal(err)
	}
	s, err := rules.Load(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request(bytes int64) *wall.PolicyRequest {
	return &wall.PolicyRequest{
		Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: acme}, Tenant: &macronode.Tenant{ID: acme, Label: "acme"},
		Action: "object:put", Resource: macronode.Resource{Kind: macronode.ObjectResource, ID: "b3:00"}, Bytes: bytes, Time: time.Now(),
	}
}

const (
	permit   = `@id("all") permit (principal, action, resource);` + "\n"
	noBig    = permit + `@id("big") forbid (principal, action, resource) when { context.bytes > 1000 };` + "\n"
	overflow = permit + `@id("bad") forbid (principal, action, resource) when { context.bytes * 9223372036854775807 < 0 };` + "\n"
)

// see lets live decide and w see it, as the stage does.
func see(w *Watcher, live *rules.Set, r *wall.PolicyRequest) {
	w.See(r, live, live.Decide(r, r.Time, 0))
}

func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := metrics.New(false)
		m := NewMetrics(reg)
		w := New(Config{Record: 3, Metrics: m})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Serve(ctx)
		live, other := load(t, time.Time{}, noBig), load(t, time.Time{}, permit)

		// Without a candidate decisions are recorded alone.
		see(w, live, request(1))
		synctest.Wait()
		if s := w.Status(); s.Recorded != 1 || s.BundleHash != "" || s.Results[Same] != 0 {
			t.Errorf("without a candidate: %+v", s)
		}
		w.SetCandidate(other)
		for _, n := range []int64{1, 5000, 6000, 7000} {
			see(w, live, request(n))
		}
		synctest.Wait()
		s := w.Status()
		if s.BundleHash != other.Hash() || s.Results[Same] != 1 || s.Results[WouldAllow] != 3 || s.Results[WouldDeny] != 0 || len(s.Flips) != 1 || s.Flips[0].Count != 3 || s.Recorded != 3 {
			t.Errorf("%+v", s)
		}
		if fmt.Sprint(s.Flips[0].WasBy, s.Flips[0].NowBy) != "[big] [all]" || !strings.HasPrefix(s.Flips[0].Examples[0].Request.Resource, "object/h:") {
			t.Errorf("%+v", s.Flips[0])
		}
		// The same candidate again keeps the counts; another begins anew.
		w.SetCandidate(load(t, time.Time{}, permit))
		if s := w.Status(); s.Results[WouldAllow] != 3 {
			t.Errorf("the same candidate again: %+v", s.Results)
		}
		w.SetCandidate(live)
		see(w, other, request(5000))
		synctest.Wait()
		if s := w.Status(); s.Results[WouldDeny] != 1 || s.Results[WouldAllow] != 0 || len(s.Flips) != 1 {
			t.Errorf("another candidate: %+v", s)
		}
		_, text, err := reg.Expose("")
		if err != nil || !strings.Contains(string(text), `policy_shadow_total{result="would_allow"} 3`) || !strings.Contains(string(text), `policy_shadow_total{result="would_deny"} 1`) {
			t.Errorf("metrics: %v", err)
		}
	})
}

// TestCandidateFails: one that does not evaluate, or has expired, is counted as
// that and changes nothing.
func TestCandidateFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(Config{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Serve(ctx)
		live := load(t, time.Time{}, permit)
		w.SetCandidate(load(t, time.Time{}, overflow))
		see(w, live, request(9))
		synctest.Wait()
		if s := w.Status(); s.Results[Errored] != 1 || !strings.HasPrefix(s.Failure, "bad: ") || s.Recorded != 0 {
			t.Errorf("%+v", s)
		}
		w.SetCandidate(load(t, time.Now().Add(time.Minute), permit))
		see(w, live, request(9))
		synctest.Wait()
		<-time.After(time.Minute)
		see(w, live, request(9))
		synctest.Wait()
		if s := w.Status(); s.Results[Same] != 1 || s.Results[Errored] != 1 || !s.Expired {
			t.Errorf("an expired one: %+v", s)
		}
	})
}

// TestNothingWaits: a full queue costs a count and nothing else, what comes from
// the cache is not seen again, and a watcher with nothing to do sees nothing.
func TestNothingWaits(t *testing.T) {
	live := load(t, time.Time{}, permit)
	w := New(Config{Record: 10})
	for range queueLen + 5 { // nobody serves
		see(w, live, request(1))
	}
	if w.Depth() != queueLen || w.Status().Dropped != 5 {
		t.Errorf("%d wait, %d were dropped", w.Depth(), w.Status().Dropped)
	}
	w = New(Config{Record: 10})
	r := request(1)
	for range 3 {
		w.See(r, live, live.Decide(r, r.Time, time.Minute))
	}
	if w.Depth() != 1 {
		t.Errorf("of one evaluation and two hits %d were seen", w.Depth())
	}
	w = New(Config{})
	see(w, live, r)
	if w.Depth() != 0 {
		t.Error("a watcher with nothing to do took note")
	}
	w.SetRecord(1)
	see(w, live, r)
	if w.Depth() != 1 {
		t.Error("a watcher that was given something to do takes no note")
	}
	var none *Watcher
	see(none, live, r)
}

// TestSeeKeepsNothing: what the request's owner does with it afterwards does not
// change what was seen.
func TestSeeKeepsNothing(t *testing.T) {
	w := New(Config{Record: 1})
	live := load(t, time.Time{}, `@id("all") permit (principal, action, resource == Object::"b3:00");`)
	r := request(1)
	see(w, live, r)
	r.Resource.ID, r.Tenant.Label, r.Principal.Kind = "b3:99", "other", macronode.Anonymous
	s := <-w.queue
	w.look(&s)
	d := w.Decisions(1)[0]
	if d.Request.Resource != "object/b3:00" || d.Request.Label != "acme" || d.Request.Principal != "capability" {
		t.Errorf("%+v", d)
	}
}

// TestCandidatePanics: whatever goes wrong in looking, the watcher goes on.
func TestCandidatePanics(t *testing.T) {
	w := New(Config{Record: 1})
	w.look(&seen{}) // no live set: a panic
	if w.Status().Dropped != 1 {
		t.Error("what could not be looked at is not counted")
	}
}

func BenchmarkSee(b *testing.B) {
	live := load(b, time.Time{}, permit)
	w := New(Config{Record: 4096})
	go w.Serve(b.Context())
	r := request(1)
	fresh := live.Decide(r, r.Time, 0)
	fresh.Fresh = true
	hit := fresh
	hit.Fresh = false
	b.Run("evaluated", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.See(r, live, fresh)
		}
		b.ReportMetric(float64(w.Status().Dropped)/float64(b.N), "dropped/op")
	})
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.See(r, live, hit)
		}
	})
}
