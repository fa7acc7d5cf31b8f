// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"pgregory.net/rapid"

	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rulegen"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// drawn lets rapid make the choices, so that it can make a failure small.
type drawn struct{ t *rapid.T }

func (d drawn) IntN(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "n") }

// generator makes sets of random rules that pass strict validation.
type generator struct {
	rulegen.Gen
	models [2]*model // plain and tangled
}

func newGenerator(t testing.TB) *generator {
	t.Helper()
	g := new(generator)
	for i := range g.models {
		schema, err := json.Marshal(rulegen.Schema(i == 1))
		if err != nil {
			t.Fatal(err)
		}
		if g.models[i], err = loadModel(schema); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// set is a random set, and its rules.
func (g *generator) set(t interface{ Fatal(...any) }, src rulegen.Source, faults int) (*Set, string) {
	gen := rulegen.Gen{Src: src, Faults: faults}
	tangled := src.IntN(3) == 0
	m := g.models[0]
	if tangled {
		m = g.models[1]
	}
	var rules strings.Builder
	for range 1 + src.IntN(14) {
		text := gen.Rule(tangled)
		list, err := cedar.NewPolicyListFromBytes("", []byte(text))
		if err != nil {
			t.Fatal(err, text)
		}
		if m.check.Policy("", (*ast.Policy)(list[0].AST())) == nil {
			rules.WriteString(text)
		}
	}
	s, err := m.compile(&payload.Doc{Cedar: map[string]string{"a.cedar": rules.String()}, Entities: json.RawMessage(gen.Entities(tangled))})
	if err != nil {
		t.Fatal(err, rules.String())
	}
	return s, rules.String()
}

// plain is the decision of cedar-go alone: every rule, the whole context, and
// the entities as a plain map, made here from the request.
func plain(s *Set, r *wall.PolicyRequest) (allow bool, reasons map[types.PolicyID]bool, failures map[types.PolicyID]bool) {
	action, ok := s.admissible(r)
	if !ok {
		return false, nil, nil
	}
	var k form.Key
	k.Fill(r, action, form.AllReads)
	sc := s.w.scene(&k)
	var entities types.EntityMap
	if err := json.Unmarshal(s.doc.Entities, &entities); err != nil {
		panic(err)
	}
	for uid, a := range s.m.schema.Actions {
		entities[uid] = a.Entity
	}
	entities[sc.pt.Entity.UID], entities[sc.rt.Entity.UID] = sc.pt.Entity, sc.rt.Entity
	entities[sc.principal.UID], entities[sc.resource.UID] = sc.principal, sc.resource
	all := cedar.NewPolicySet()
	for _, rule := range s.rules {
		all.Add(rule.id, rule.policy)
	}
	ok2, diag := cedar.Authorize(all, entities, types.Request{
		Principal: sc.principal.UID, Action: s.m.actions[action].uid, Resource: sc.resource.UID, Context: form.Context(&k, form.AllContext),
	})
	reasons, failures = map[types.PolicyID]bool{}, map[types.PolicyID]bool{}
	for _, d := range diag.Reasons {
		reasons[d.PolicyID] = true
	}
	for _, d := range diag.Errors {
		failures[d.PolicyID] = true
	}
	return bool(ok2) && len(diag.Errors) == 0, reasons, failures
}

// agree fails the test where an answer is not that of Cedar alone.
func agree(t interface{ Fatalf(string, ...any) }, s *Set, r *wall.PolicyRequest, got Answer, how, text string) {
	allow, reasons, failures := plain(s, r)
	if got.Decision.Allow != allow {
		t.Fatalf("%s: allow = %v, plain Cedar says %v\n%s\n%s\n%+v\n%+v\n%+v", how, got.Decision.Allow, allow, text, s.doc.Entities, r, r.Principal, r.Tenant)
	}
	want := reasons
	if len(failures) > 0 {
		want = failures
	}
	have := map[types.PolicyID]bool{}
	for _, id := range got.Decision.Reasons {
		have[types.PolicyID(id)] = true
	}
	if len(have)+len(want) > 0 && !reflect.DeepEqual(have, want) {
		t.Fatalf("%s: reasons = %v, plain Cedar says %v\n%s\n%s\n%+v\n%+v", how, have, want, text, s.doc.Entities, r, r.Principal)
	}
}

// Slicing by scope, forms, leaving out what is not read, and the cache change
// no decision and no reason: on random rules, entities and sequences of
// requests the answers are those of plain Cedar, whether kept or not, and also
// where every key has the same hash.
func TestDifferential(t *testing.T) {
	g := newGenerator(t)
	rapid.Check(t, func(t *rapid.T) {
		s, text := g.set(t, drawn{t}, 30)
		if rapid.Bool().Draw(t, "collide") {
			s.cache.mask = 0
		}
		sequence(t, rulegen.Gen{Src: drawn{t}}, s, text, 40)
	})
}

func sequence(t interface{ Fatalf(string, ...any) }, gen rulegen.Gen, s *Set, text string, n int) {
	var base *wall.PolicyRequest
	for i := range n {
		r := gen.Request()
		if i%15 == 0 {
			base = r
		} else {
			r = gen.Vary(base)
		}
		agree(t, s, r, s.Decide(r, noon, 0), "uncached", text)
		agree(t, s, r, s.Decide(r, noon, time.Hour), "cached", text)
	}
}

// The same on more sets, from fixed seeds, where rapid's bookkeeping would take
// most of the time. It also says that the generator does what it is for: most
// rules are decided by their forms, and all answers occur.
func TestDifferentialSeeds(t *testing.T) {
	g := newGenerator(t)
	sets := 150
	if testing.Short() {
		sets = 40
	}
	rules, formed, outcomes := 0, 0, [3]int{}
	for seed := range sets {
		src := rand.New(rand.NewPCG(uint64(seed), 4))
		s, text := g.set(t, src, 10)
		gen := rulegen.Gen{Src: src}
		sequence(t, gen, s, text, 60)
		for _, r := range s.rules {
			rules++
			if r.conditions.Formed {
				formed++
			}
		}
		for range 20 {
			outcomes[s.Decide(gen.Request(), noon, time.Hour).Outcome]++
		}
	}
	t.Logf("%d rules, %d formed; outcomes %v", rules, formed, outcomes)
	if rules < 3*sets || formed < rules/2 || formed == rules || outcomes[Allowed] < sets || outcomes[Failed] == 0 {
		t.Errorf("the generator has gone dull: %d rules, %d formed, outcomes %v", rules, formed, outcomes)
	}
}
