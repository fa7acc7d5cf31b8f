// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package cedar

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rulegen"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
)

const (
	sets     = 40
	requests = 60
	// maxExcluded is the share of requests, in percent, on which a rule may
	// fail. Here that denies, and Cedar goes on without the rule.
	maxExcluded = 10
)

// What Cedar is asked, in its JSON forms.
type (
	uid struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	}
	entity struct {
		UID     uid            `json:"uid"`
		Attrs   map[string]any `json:"attrs"`
		Parents []uid          `json:"parents"`
		Tags    map[string]any `json:"tags,omitempty"`
	}
	question struct {
		Principal uid            `json:"principal"`
		Action    uid            `json:"action"`
		Resource  uid            `json:"resource"`
		Context   map[string]any `json:"context"`
		Entities  []entity       `json:"entities"`
	}
	questions struct {
		Policies map[string]string `json:"policies"`
		Entities []entity          `json:"entities"`
		Requests []question        `json:"requests"`
	}
	batch struct {
		Actions []entity    `json:"actions"`
		Sets    []questions `json:"sets"`
	}
	reply struct {
		Version string `json:"version"`
		Answers [][]struct {
			Allow   bool     `json:"allow"`
			Reasons []string `json:"reasons"`
			Errors  []string `json:"errors"`
		} `json:"answers"`
	}
)

// asked is one request with the node's answers.
type asked struct {
	request          *wall.PolicyRequest
	rules            string
	uncached, cached rules.Answer
}

// TestAgainstCedar compares decisions and determining policies, uncached and
// from the cache, with Cedar's. The entities and the context that Cedar is
// given are made here, from what the documentation says the node makes them.
func TestAgainstCedar(t *testing.T) {
	dir := install(t)
	schemas := [2]*resolved.Schema{resolve(t, rulegen.Schema(false)), resolve(t, rulegen.Schema(true))}
	b := batch{Actions: actions(schemas[0])} // they are the same in both
	var ours [][]asked
	foreign := 0
	for seed := range uint64(sets) {
		w := newWorld(t, rand.New(rand.NewPCG(seed, 6)), schemas)
		qs := questions{Policies: w.policies, Entities: w.static}
		var list []asked
		for len(list) < requests {
			r := w.gen.Request()
			if n := len(list); n%8 != 0 {
				r = w.gen.Vary(list[n-n%8].request)
			}
			a := asked{r, w.text, w.set.Decide(r, r.Time, 0), rules.Answer{}}
			w.set.Decide(r, r.Time, time.Hour)
			a.cached = w.set.Decide(r, r.Time, time.Hour)
			if !w.knows(r) {
				// Nothing validated what rules say of it, so no rule is asked.
				if foreign++; a.uncached.Decision.Allow || a.cached.Decision.Allow || len(a.uncached.Decision.Reasons) > 0 {
					t.Fatalf("a request outside the schema is not simply denied: %s %s on %s", r.Principal.Kind, r.Action, r.Resource.Kind)
				}
				if foreign > 50*sets*requests {
					t.Fatal("hardly any request is inside the schema")
				}
				continue
			}
			list = append(list, a)
			qs.Requests = append(qs.Requests, w.question(r))
		}
		b.Sets = append(b.Sets, qs)
		ours = append(ours, list)
	}
	compare(t, ours, askCedar(t, dir, &b))
}

func askCedar(t *testing.T, dir string, b *batch) *reply {
	t.Helper()
	in, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	begun := time.Now()
	cmd := exec.CommandContext(ctx, "node", "authorize.mjs", dir)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%.2000s", err, stderr.Bytes())
	}
	t.Logf("Cedar took %s", time.Since(begun).Round(time.Millisecond))
	r := new(reply)
	if err := json.Unmarshal(out, r); err != nil {
		t.Fatalf("node: %v in %.200q", err, out)
	}
	return r
}

func compare(t *testing.T, ours [][]asked, r *reply) {
	t.Helper()
	excluded, allowed, decided := 0, 0, 0
	for i, list := range ours {
		if len(r.Answers) != len(ours) || len(r.Answers[i]) != len(list) {
			t.Fatal("answers are missing")
		}
		for j, a := range list {
			theirs := r.Answers[i][j]
			for how, got := range map[string]rules.Answer{"uncached": a.uncached, "cached": a.cached} {
				reasons := slices.Sorted(slices.Values(got.Decision.Reasons))
				failed := got.Outcome == rules.Failed
				if failed {
					slices.Sort(theirs.Errors)
					if !slices.Equal(reasons, theirs.Errors) {
						t.Errorf("set %d, request %d, %s: rules %v fail, Cedar says %v", i, j, how, reasons, theirs.Errors)
					}
					continue
				}
				slices.Sort(theirs.Reasons)
				if len(theirs.Errors) > 0 || got.Decision.Allow != theirs.Allow || !slices.Equal(reasons, theirs.Reasons) {
					t.Errorf("set %d, request %d, %s: allow %v by %v, Cedar says %v by %v (failing: %v)\n%s\n%+v %+v %+v",
						i, j, how, got.Decision.Allow, reasons, theirs.Allow, theirs.Reasons, theirs.Errors, a.rules, a.request, a.request.Principal, a.request.Tenant)
				}
			}
			switch {
			case a.uncached.Outcome == rules.Failed:
				excluded++
			case a.uncached.Decision.Allow:
				allowed++
			}
			if len(theirs.Reasons) > 0 {
				decided++
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	all := sets * requests
	t.Logf("Cedar %s: %d decisions, %d allow, %d by some rule; %d excluded because a rule fails", r.Version, all, allowed, decided, excluded)
	if excluded*100 > all*maxExcluded || excluded == 0 || allowed < all/20 || decided < all/10 {
		t.Errorf("the comparison has become empty: of %d decisions %d are excluded, %d allow, %d are some rule's", all, excluded, allowed, decided)
	}
}

// world is a random set and what of it Cedar must be told.
type world struct {
	gen      rulegen.Gen
	set      *rules.Set
	schema   *resolved.Schema
	text     string
	policies map[string]string
	static   []entity
	byUID    map[uid]entity
}

func newWorld(t *testing.T, src *rand.Rand, schemas [2]*resolved.Schema) *world {
	t.Helper()
	w := &world{gen: rulegen.Gen{Src: src, Faults: 25}, schema: schemas[0], policies: map[string]string{}, byUID: map[uid]entity{}}
	tangled := src.IntN(3) == 0
	if tangled {
		w.schema = schemas[1]
	}
	check := validate.New(w.schema, validate.WithStrict())
	for want := 4 + src.IntN(10); len(w.policies) < want; {
		text := w.gen.Rule(tangled)
		list, err := cedar.NewPolicyListFromBytes("", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if check.Policy("", (*ast.Policy)(list[0].AST())) == nil {
			id := fmt.Sprintf("p%d", len(w.policies))
			w.policies[id] = text
			w.text += fmt.Sprintf("@id(%q) %s", id, text)
		}
	}
	entities := w.gen.Entities(tangled)
	built, _, err := rules.Build(payload.Sources{
		"a.cedar": []byte(w.text), payload.SchemaFile: []byte(rulegen.Schema(tangled)), payload.EntitiesFile: []byte(entities),
	}, payload.Meta{Version: 1, Issued: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	if w.set, err = rules.Load(built); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(entities), &w.static); err != nil {
		t.Fatal(err)
	}
	for _, e := range w.static {
		w.byUID[e.UID] = e
	}
	return w
}

func resolve(t *testing.T, text string) *resolved.Schema {
	t.Helper()
	var s schema.Schema
	if err := s.UnmarshalCedar([]byte(text)); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// actions are the schema's, as entities.
func actions(s *resolved.Schema) []entity {
	var out []entity
	for id, a := range s.Actions {
		e := entity{UID: uid{string(id.Type), string(id.ID)}, Attrs: map[string]any{}, Parents: []uid{}}
		for p := range a.Entity.Parents.All() {
			e.Parents = append(e.Parents, uid{string(p.Type), string(p.ID)})
		}
		out = append(out, e)
	}
	return out
}

// knows reports whether the schema knows such a request.
func (w *world) knows(r *wall.PolicyRequest) bool {
	a, ok := w.schema.Actions[types.NewEntityUID("Action", types.String(r.Action))]
	return ok && a.AppliesTo != nil && slices.Contains(a.AppliesTo.Principals, types.EntityType(r.Principal.Kind.String())) &&
		slices.Contains(a.AppliesTo.Resources, types.EntityType(r.Resource.Kind.String()))
}

// question is the request as docs/runbook.md and the schema describe it.
func (w *world) question(r *wall.PolicyRequest) question {
	tenant := uid{"Tenant", r.Tenant.ID.String()}
	owner, ownerLabel := tenant, r.Tenant.Label
	if r.Resource.Kind == macronode.NodeResource && r.Tenant.ID != macronode.SystemTenant {
		owner, ownerLabel = uid{"Tenant", macronode.SystemTenant.String()}, macronode.SystemTenantLabel
	}
	principal := uid{Type: r.Principal.Kind.String(), ID: "anonymous"}
	in := []uid{tenant}
	switch r.Principal.Kind {
	case macronode.Capability:
		principal.ID = fmt.Sprintf("%x", r.Principal.RootID[:])
	case macronode.PeerNode:
		principal.ID, in = r.Principal.Node, []uid{}
	}
	resource := uid{r.Resource.Kind.String(), r.Resource.ID}
	ip := "0.0.0.0"
	if r.IP.IsValid() {
		ip = strings.TrimPrefix(r.IP.String(), "::ffff:")
	}
	q := question{
		Principal: principal, Action: uid{"Action", string(r.Action)}, Resource: resource,
		Context: map[string]any{
			"bytes": r.Bytes, "ip": map[string]any{"__extn": map[string]any{"fn": "ip", "arg": ip}}, "tls": r.TLS, "mtls_subject": r.Subject,
			"path": r.Path, "method": r.Method, "hour": r.Time.Hour(), "service": r.Service,
		},
		Entities: []entity{
			w.join(tenant, map[string]any{"tenant": ref(tenant), "label": r.Tenant.Label}, nil),
			w.join(principal, map[string]any{"tenant": ref(tenant), "label": r.Tenant.Label}, in),
			w.join(resource, map[string]any{"tenant": ref(owner)}, []uid{owner}),
		},
	}
	if owner != tenant {
		q.Entities = append(q.Entities, w.join(owner, map[string]any{"tenant": ref(owner), "label": ownerLabel}, nil))
	}
	return q
}

// join adds to an entity what entities.json says of it, but for what the node
// says itself.
func (w *world) join(id uid, attrs map[string]any, parents []uid) entity {
	static := w.byUID[id]
	for name, v := range static.Attrs {
		if _, own := attrs[name]; !own {
			attrs[name] = v
		}
	}
	return entity{UID: id, Attrs: attrs, Parents: append(append([]uid{}, static.Parents...), parents...), Tags: static.Tags}
}

func ref(id uid) map[string]any { return map[string]any{"__entity": id} }
