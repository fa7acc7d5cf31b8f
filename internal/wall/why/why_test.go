// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package why

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

var dev = macronode.TenantID{1, 0x8f, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

var binding = &macronode.Binding{Op: "object.put", Service: "svc-storage", Method: "PUT", Pattern: "/o/{addr}", Action: "object:put",
	Resource: macronode.ObjectResource, MaxBody: 1000}

func newLog(t testing.TB, cedar string) (*Log, *[32]byte) {
	t.Helper()
	b, _, err := policy.Build(policy.Sources{"a.cedar": []byte(cedar)}, policy.Meta{Version: 1, Issued: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.Load(b)
	if err != nil {
		t.Fatal(err)
	}
	pin := &[32]byte{1}
	return New(Config{Policies: func() *policy.Set { return set }, Pin: func() *[32]byte { return pin }, Places: func() int64 { return 512 },
		MaxBody: func(b *macronode.Binding) int64 { return b.MaxBody }}), pin
}

// known is a refusal of the tenant's call.
func known(id string, kind macronode.Kind, stage string) *wall.Refusal {
	return &wall.Refusal{CorrID: id, Time: time.Unix(1_800_000_000, 0), Stage: stage, Kind: kind, Binding: binding,
		Principal: macronode.Principal{Kind: macronode.Capability, Tenant: dev, RootID: macronode.CapID{1}, LeafID: macronode.CapID{2}},
		Tenant:    &macronode.Tenant{ID: dev, Label: "dev", Quota: macronode.Quota{RequestsPerSec: 5, RequestBurst: 7, BytesPerSec: macronode.NoLimit, InFlight: 3, StoredBytes: 11, Objects: 13}},
		Resource:  macronode.Resource{Kind: macronode.ObjectResource, ID: "b3:00"}, Bytes: 500, TLS: true}
}

func (l *Log) one(t *testing.T, id string) Entry {
	t.Helper()
	doc, err := l.Why(id)
	if err != nil {
		t.Fatal(err)
	}
	r := doc.(Report).Refusals
	if len(r) != 1 {
		t.Fatalf("%d refusals", len(r))
	}
	return r[0]
}

func TestPolicyRefusal(t *testing.T) {
	small := `@id("small") permit (principal in Tenant::"` + dev.String() + `", action == Action::"object:put", resource) when { context.bytes < 100 };`
	l, pin := newLog(t, small)
	l.Note(known("a", macronode.Denied, "policy"))
	e := l.one(t, "a")
	if e.Code != "denied" || e.Status != 403 || e.Route != "PUT /o/{addr}" || e.Tenant != dev.String() || e.TenantLabel != "dev" ||
		e.CapRoot[:2] != "01" || e.CapLeaf[:2] != "02" || e.Action != "object:put" || e.Resource != "object/b3:00" || e.NotBeforeMS != 0 {
		t.Errorf("%+v", e)
	}
	p := e.Policy
	if p == nil || p.Decision != "deny" || p.Changed || !strings.HasPrefix(p.BundleHash, "blake3:01") || p.Nearest == nil || p.Nearest.ID != "small" ||
		len(p.Nearest.Misses) != 1 || p.Nearest.Misses[0].Part != "condition" {
		t.Fatalf("%+v", p)
	}
	if len(e.PassesIf) != 1 || !strings.Contains(e.PassesIf[0], "context.bytes < 100") {
		t.Errorf("%q", e.PassesIf)
	}
	// Another bundle has come since, and says another thing.
	other, _ := newLog(t, `permit (principal, action, resource);`)
	l.cfg.Policies = other.cfg.Policies
	l.cfg.Pin = func() *[32]byte { return &[32]byte{2} }
	if e = l.one(t, "a"); !e.Policy.Changed || e.Policy.Decision != "allow" || !strings.HasPrefix(e.Policy.BundleHash, "blake3:01") || pin[0] != 1 ||
		!strings.Contains(e.PassesIf[0], "tried now") {
		t.Errorf("%+v %q", e.Policy, e.PassesIf)
	}
	forbid, _ := newLog(t, small+`@id("never") forbid (principal, action, resource);`)
	forbid.Note(known("b", macronode.Denied, "policy"))
	if e = forbid.one(t, "b"); len(e.Policy.Reasons) != 1 || e.Policy.Reasons[0].ID != "never" || !strings.Contains(e.PassesIf[0], "never") {
		t.Errorf("%+v %q", e.Policy, e.PassesIf)
	}
}

// Whatever the kind, somebody is told what would have let it pass.
func TestEveryKindHasARemedy(t *testing.T) {
	l, _ := newLog(t, `permit (principal, action == Action::"object:get", resource);`)
	for k := range macronode.NumKinds {
		if k.Info().Reason == "" {
			continue
		}
		id := fmt.Sprint("k", int(k))
		stage := "handler"
		if k == macronode.Denied {
			stage = "policy"
		}
		r := known(id, k, stage)
		r.RetryAfter = 1500 * time.Millisecond
		l.Note(r)
		e := l.one(t, id)
		switch k {
		// Their detail says what is wrong with the request itself.
		case macronode.Malformed, macronode.MethodNotAllowed, macronode.NotAcceptable, macronode.Conflict, macronode.IdempotencyRunning, macronode.LeaseLost,
			macronode.LengthRequired, macronode.PreconditionFailed, macronode.DecompressLimit, macronode.HeaderTooLarge, macronode.UnsupportedMedia,
			macronode.BadDigest, macronode.IdempotencyMismatch, macronode.Invalid, macronode.Unimplemented, macronode.Integrity:
		default:
			if len(e.PassesIf) == 0 {
				t.Errorf("%s: nothing", k)
			}
		}
		if retry := k.Info().Retryable && (e.Status == 429 || e.Status == 503); retry != (e.NotBeforeMS != 0) {
			t.Errorf("%s: not before %d", k, e.NotBeforeMS)
		}
	}
	for id, want := range map[macronode.Kind]string{
		macronode.QuotaRate: "1.5s later, or the limit is higher (requests_per_s 5, burst 7", macronode.QuotaInFlight: "fewer than 3 calls",
		macronode.QuotaBytes: "stored_bytes of 11", macronode.QuotaObjects: "objects of 13", macronode.Overload: "at most 512 calls", macronode.TooLarge: "at most 1000 bytes",
	} {
		if e := l.one(t, fmt.Sprint("k", int(id))); !strings.Contains(strings.Join(e.PassesIf, "\n"), want) {
			t.Errorf("%s: %q, want %q", id, e.PassesIf, want)
		}
	}
	if e := l.one(t, fmt.Sprint("k", int(macronode.QuotaRate))); e.NotBeforeMS-e.TSMS != 1500 {
		t.Errorf("not before %d", e.NotBeforeMS-e.TSMS)
	}
}

// The memory is bounded, the newest stay, and strangers push nobody else out.
func TestBounds(t *testing.T) {
	l, _ := newLog(t, `permit (principal, action, resource);`)
	l.Note(known("mine", macronode.QuotaRate, "quota"))
	for i := range 3 * KeptStrangers {
		l.Note(&wall.Refusal{CorrID: fmt.Sprint("s", i), Time: time.Unix(int64(i), 0), Kind: macronode.TokenForged, Stage: "auth"})
	}
	l.one(t, "mine")
	l.one(t, fmt.Sprint("s", 3*KeptStrangers-1))
	l.one(t, fmt.Sprint("s", 2*KeptStrangers))
	_, err := l.Why(fmt.Sprint("s", 2*KeptStrangers-1))
	if macronode.KindOf(err) != macronode.NotFound || !strings.Contains(err.Error(), "1 of known callers from 2027-01-15T08:00:00Z to 2027-01-15T08:00:00Z, 1024 of strangers from 1970-01-01T00:34:08Z") {
		t.Error(err)
	}
	for range 2 * maxAnswers {
		l.Note(known("again", macronode.QuotaRate, "quota"))
	}
	if doc, err := l.Why("again"); err != nil || len(doc.(Report).Refusals) != maxAnswers {
		t.Error(err)
	}
	if b, err := json.Marshal(l.Answer()); err != nil || !strings.Contains(string(b), "refusals") {
		t.Error(err)
	}
}

func TestConcurrent(t *testing.T) {
	l, _ := newLog(t, `permit (principal, action, resource);`)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 700 {
				l.Note(known(fmt.Sprint(g, "-", i), macronode.Denied, "policy"))
				if i%100 == 0 {
					l.Why("0-0")
				}
			}
		})
	}
	wg.Wait()
	for g := range 4 {
		l.one(t, fmt.Sprint(g, "-", 699))
	}
}

func BenchmarkNote(b *testing.B) {
	l, _ := newLog(b, `permit (principal, action, resource);`)
	r := known("a", macronode.Denied, "policy")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Note(r)
		}
	})
}
