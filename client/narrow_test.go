// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client/internal/need"
)

var narrowKey = capability.NewKey(&[32]byte{1})

func mintedToken(t *testing.T, cs ...capability.Caveat) *capability.Token {
	t.Helper()
	tok, err := capability.Mint(narrowKey, macronode.TenantID{1}, "v1", [16]byte{2}, cs...)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// gate is a node that verifies capabilities and does nothing. Its clock is ahead
// by skew.
type gate struct {
	*httptest.Server
	skew time.Duration

	mu   sync.Mutex
	seen []*capability.Token
	code []int
}

func newGate(t *testing.T) *gate {
	g := &gate{}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	return g
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	now := time.Now().Add(g.skew)
	tok, err := capability.Parse(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	var ds []*capability.Token
	for d := range strings.SplitSeq(r.Header.Get("X-Ron-Discharge"), ",") {
		if d, err := capability.Parse(d); err == nil {
			ds = append(ds, d)
		}
	}
	v, err := tok.Verify(narrowKey, ds...)
	if err == nil {
		a := accessOf(r.Method, r.URL.Path)
		a.Now = now.Unix()
		err = v.Check(&a)
	}
	status := 200
	if err != nil {
		status = macronode.KindOf(err).Info().Status
	}
	g.mu.Lock()
	g.seen, g.code = append(g.seen, tok), append(g.code, status)
	g.mu.Unlock()
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	w.WriteHeader(status)
	if err != nil {
		_, _ = io.WriteString(w, `{"status":401,"code":"`+macronode.KindOf(err).String()+`"}`)
	} else {
		_, _ = io.WriteString(w, "{}")
	}
}

// last is the capability that came last.
func (g *gate) last(t *testing.T) *capability.Token {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.seen) == 0 {
		t.Fatal("no call came")
	}
	return g.seen[len(g.seen)-1]
}

func accessOf(method, path string) (a capability.Access) {
	switch {
	case path == "/o":
		a.Action, a.Resource = "object:put", macronode.Resource{Kind: macronode.ObjectResource}
	case strings.HasPrefix(path, "/o/"):
		a.Action, a.Resource = "object:get", macronode.Resource{Kind: macronode.ObjectResource, ID: path[3:]}
	case path == "/v1/caps":
		a.Action = "cap:mint"
	default:
		a.Action = "node:events"
	}
	_ = method
	return a
}

func (g *gate) dial(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := Dial(g.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func do(t *testing.T, c *Client, r Request) error {
	t.Helper()
	resp, err := c.Do(context.Background(), r)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

func TestCallsAreNarrowed(t *testing.T) {
	g := newGate(t)
	tok := mintedToken(t, capability.OnActions("*"))
	c := g.dial(t, Options{Token: tok.Text()})
	get := Request{Method: "GET", Path: "/o/b3:aa?x=1"}
	if err := do(t, c, get); err != nil {
		t.Fatal(err)
	}
	first := g.last(t)
	cs := first.Caveats()
	if len(cs) != 4 || cs[2].List()[0] != "object:get" || cs[3].List()[0] != "object/b3:aa" {
		t.Fatalf("sent: %v", cs)
	}
	if life := cs[1].Number() - time.Now().Unix(); life < 55 || life > 61 {
		t.Errorf("it lives for %d s", life)
	}
	v, err := first.Verify(narrowKey)
	if err != nil {
		t.Fatal(err)
	}
	// Revoking what somebody narrowed by hand to the same must not end this one.
	byHand, err := tok.Attenuate(capability.OnActions("object:get"), capability.OnResources("object/b3:aa"))
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(v.IDs, byHand.LeafID()) {
		t.Error("it shares a link with one that was narrowed by hand")
	}
	for path, want := range map[string]bool{"/o/b3:aa": true, "/o/b3:ab": false, "/o": false} {
		a := accessOf("GET", path)
		a.Now = time.Now().Unix()
		if (v.Check(&a) == nil) != want {
			t.Errorf("%s is covered: %v", path, !want)
		}
	}
	// The same again is the same token; another object is another.
	if err := do(t, c, get); err != nil || g.last(t).Text() != first.Text() {
		t.Errorf("a second call: %v", err)
	}
	if err := do(t, c, Request{Method: "GET", Path: "/o/b3:bb"}); err != nil || g.last(t).Text() == first.Text() {
		t.Errorf("another object: %v", err)
	}
	// A watch is ended with its capability, so that lives longer.
	if err := do(t, c, Request{Method: "GET", Path: "/v1/admin/events?after=0"}); err != nil {
		t.Error(err)
	}
	if life := g.last(t).Caveats()[1].Number() - time.Now().Unix(); life < 3500 {
		t.Errorf("a watch lives for %d s", life)
	}
	// What hands its caveats on, and what nobody knows, goes whole.
	for _, r := range []Request{{Method: "POST", Path: "/v1/caps"}, {Method: "GET", Path: "/v1/novel/x"}} {
		if err := do(t, c, r); err != nil || g.last(t).Text() != tok.Text() {
			t.Errorf("%s: %v", r.Path, err)
		}
	}
	if err := do(t, g.dial(t, Options{Token: tok.Text(), WholeToken: true}), get); err != nil || g.last(t).Text() != tok.Text() {
		t.Errorf("WholeToken: %v", err)
	}
}

// A capability that has no room for more caveats goes as it is.
func TestFullTokensGoWhole(t *testing.T) {
	g := newGate(t)
	cs := make([]capability.Caveat, capability.MaxCaveats)
	for i := range cs {
		cs[i] = capability.OnActions("*")
	}
	tok := mintedToken(t, cs...)
	if err := do(t, g.dial(t, Options{Token: tok.Text()}), Request{Method: "GET", Path: "/o/b3:aa"}); err != nil || g.last(t).Text() != tok.Text() {
		t.Errorf("%v", err)
	}
}

// A clock that is wrong costs one refusal, not the call.
func TestNarrowingLearnsTheNodesClock(t *testing.T) {
	g := newGate(t)
	g.skew = 2 * time.Hour
	c := g.dial(t, Options{Token: mintedToken(t).Text()})
	for range 2 {
		if err := do(t, c, Request{Method: "POST", Path: "/o", Body: strings.NewReader("x"), Length: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if len(g.code) != 3 || g.code[0] != 401 {
		t.Errorf("answers: %v", g.code)
	}
	// One that is really over is refused for good.
	g.skew, g.code = 0, nil
	c = g.dial(t, Options{Token: mintedToken(t, capability.ExpiresAt(1)).Text()})
	if err := do(t, c, Request{Method: "GET", Path: "/o/b3:aa"}); err == nil || len(g.code) != 1 {
		t.Errorf("%v after %d answers", err, len(g.code))
	}
}

func TestDischargesAreBoundToWhatIsSent(t *testing.T) {
	g := newGate(t)
	shared := &[32]byte{3}
	tok, err := mintedToken(t).AddThirdParty("l", "k", shared)
	if err != nil {
		t.Fatal(err)
	}
	o, err := tok.Tickets()[0].Open(shared)
	if err != nil {
		t.Fatal(err)
	}
	d, err := o.Discharge()
	if err != nil {
		t.Fatal(err)
	}
	b, err := tok.Bind(d)
	if err != nil {
		t.Fatal(err)
	}
	get := Request{Method: "GET", Path: "/o/b3:aa"}
	if err := do(t, g.dial(t, Options{Token: tok.Text(), Discharges: []string{d.Text()}}), get); err != nil || len(g.last(t).Caveats()) != 4 {
		t.Errorf("free: %v", err)
	}
	for _, o := range []Options{{Token: tok.Text(), Discharges: []string{b.Text()}}, {Token: tok.Text(), Discharges: []string{d.Text()}, WholeToken: true}} {
		if err := do(t, g.dial(t, o), get); err != nil || len(g.last(t).Caveats()) != 1 {
			t.Errorf("for the whole token: %v", err)
		}
	}
	if err := do(t, g.dial(t, Options{Token: tok.Text()}), get); err == nil {
		t.Error("taken without its discharge")
	}
	for _, bad := range []Options{{Token: tok.Text(), Discharges: []string{"x"}}, {Token: "x", Discharges: []string{d.Text()}}, {Token: mintedToken(t).Text(), Discharges: []string{d.Text()}}} {
		if _, err := Dial(g.URL, bad); err == nil {
			t.Error("a discharge that fits nothing is taken")
		}
	}
}

// What a call is narrowed to is what its route needs.
func TestNeedsAreTheRoutes(t *testing.T) {
	text, err := os.ReadFile("../test/testdata/routes.golden")
	if err != nil {
		t.Fatal(err)
	}
	route := regexp.MustCompile(`(?m)^([A-Z]+) (/\S*)\n(?:  alias .*\n)*  op .*\n  access   (\S+) on (\S+)`)
	arg := regexp.MustCompile(`\{[^}]+\}`)
	narrowed := 0
	for _, m := range route.FindAllStringSubmatch(string(text), -1) {
		path, action := arg.ReplaceAllString(m[2], "x1"), m[3]
		kind, id, _ := strings.Cut(arg.ReplaceAllString(m[4], "x1"), "/")
		w, ok := need.Of(m[1], path)
		if !ok {
			continue
		}
		narrowed++
		if !macronode.MatchAction(w.Action, macronode.Action(action)) || !macronode.MatchResource(w.Resource, kind+"/"+id) {
			t.Errorf("%s %s needs %s on %s/%s, and gets %s on %s", m[1], m[2], action, kind, id, w.Action, w.Resource)
		}
	}
	if narrowed < 30 {
		t.Errorf("%d routes are narrowed", narrowed)
	}
}

// Reuse makes a narrowed call cheap.
func BenchmarkNarrowed(b *testing.B) {
	tok, err := capability.Mint(narrowKey, macronode.TenantID{1}, "v1", [16]byte{2})
	if err != nil {
		b.Fatal(err)
	}
	n, err := newNarrower(&Options{Token: tok.Text()})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n.of("GET", "/o/b3:aa")
	}
}
