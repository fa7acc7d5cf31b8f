// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// Set is a checked bundle, ready to decide. It does not change.
type Set struct {
	hash    string
	doc     *payload.Doc
	expires time.Time // zero: never
	quotas  payload.Quotas
	m       *model
	w       *world
	rules   []*rule
	ids     map[types.PolicyID]*rule
	idx     *index
	cache   *cache
}

// rule is one policy of a set.
type rule struct {
	id          types.PolicyID
	policy      *cedar.Policy
	ast         *ast.Policy
	permit      bool
	obligations []macronode.Obligation
	// What the scope admits: indices into model.actions, and kinds.
	actions                   []int
	principals, resources     uint8
	onePrincipal, oneResource bool // "==": what is in the entity is not meant
	reads                     form.Reads
	conditions                form.Rule
	alone                     Answer // where this rule alone decides
}

// Load checks a payload as far as it can be checked without its pin and
// signature: canonical form, syntax, strict validation, obligations, and its
// own tests. Build, node and command line all load through here.
func Load(b []byte) (*Set, error) {
	s, rep, err := load(b)
	if err != nil {
		return nil, err
	}
	return s, rep.Err()
}

// LoadUntested is Load for looking only: tests that fail are no hindrance.
func LoadUntested(b []byte) (*Set, error) {
	s, _, err := load(b)
	return s, err
}

// load is Load but for the tests' failures, which are in the report.
func load(b []byte) (s *Set, rep Report, err error) {
	p, err := payload.Decode(b)
	if err != nil {
		return nil, Report{}, err
	}
	s, err = compile(p)
	if err != nil {
		return nil, Report{}, err
	}
	s.hash = payload.Hash(b)
	return s, s.runTests(), nil
}

// compile checks a decoded payload. Cedar's parsers and validator see only
// what decode let through; a panic in them is an error here, not the node's end.
func compile(p *payload.Doc) (s *Set, err error) {
	defer func() {
		if v := recover(); v != nil {
			s, err = nil, fmt.Errorf("policy cannot be compiled: %v", v)
		}
	}()
	m, err := loadModel(p.Schema)
	if err != nil {
		return nil, err
	}
	return m.compile(p)
}

// compile is the rest, where the schema is known.
func (m *model) compile(p *payload.Doc) (s *Set, err error) {
	w, err := loadWorld(m, p.Entities)
	if err != nil {
		return nil, err
	}
	s = &Set{doc: p, m: m, w: w, quotas: p.Quotas.Quotas(), cache: newCache()}
	if p.ExpiresAt != nil {
		if s.expires, err = payload.ParseTime(*p.ExpiresAt); err != nil {
			return nil, err
		}
	}
	s.ids = map[types.PolicyID]*rule{}
	for _, file := range slices.Sorted(maps.Keys(p.Cedar)) {
		list, err := cedar.NewPolicyListFromBytes(file, []byte(p.Cedar[file]))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for i, cp := range list {
			r, err := s.newRule(fmt.Sprintf("%s#%d", file, i+1), cp)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, cp.Position().Line, err)
			}
			if s.ids[r.id] != nil {
				return nil, fmt.Errorf("%s:%d: two policies have the id %q", file, cp.Position().Line, r.id)
			}
			s.ids[r.id] = r
			s.rules = append(s.rules, r)
		}
	}
	s.idx = newIndex(s)
	w.number = s.idx.numbers
	return s, nil
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)

func (s *Set) newRule(id string, cp *cedar.Policy) (*rule, error) {
	r := &rule{id: types.PolicyID(id), policy: cp, ast: (*ast.Policy)(cp.AST()), permit: cp.Effect() == cedar.Permit}
	if err := r.annotations(); err != nil {
		return nil, err
	}
	if err := s.m.check.Policy("", r.ast); err != nil {
		return nil, fmt.Errorf("policy %s: %w", r.id, err)
	}
	r.principals = scopeKinds(r.ast.Principal, numPrincipals, principalType)
	r.resources = scopeKinds(r.ast.Resource, numResources, resourceType)
	switch a := r.ast.Action.(type) {
	case ast.ScopeTypeEq:
		if i, ok := s.m.index[macronode.Action(a.Entity.ID)]; ok && a.Entity.Type == actionType {
			r.actions = []int{i}
		}
	case ast.ScopeTypeIn:
		r.actions = s.m.members(a.Entity)
	case ast.ScopeTypeInSet:
		for _, e := range a.Entities {
			r.actions = append(r.actions, s.m.members(e)...)
		}
		slices.Sort(r.actions)
		r.actions = slices.Compact(r.actions)
	default:
		for i := range s.m.actions {
			r.actions = append(r.actions, i)
		}
	}
	_, r.onePrincipal = r.ast.Principal.(ast.ScopeTypeEq)
	_, r.oneResource = r.ast.Resource.(ast.ScopeTypeEq)
	r.reads = s.w.policyReads(r.ast)
	r.conditions = form.Of(r.ast)
	r.alone = said([]*rule{r})
	return r, nil
}

// scopeKinds is which kinds can satisfy a scope; more than can is no harm.
func scopeKinds(scope ast.IsScopeNode, n int, name func(int) types.EntityType) uint8 {
	one := func(t types.EntityType) (bits uint8) {
		for k := range n {
			if name(k) == t {
				bits |= 1 << k
			}
		}
		return bits
	}
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return one(s.Entity.Type)
	case ast.ScopeTypeIs:
		return one(s.Type)
	case ast.ScopeTypeIsIn:
		return one(s.Type)
	}
	return 1<<n - 1
}

// obligationKeys are the annotations that carry obligations.
var obligationKeys = []types.AnnotationKey{
	"obligation", "obligation_2", "obligation_3", "obligation_4", "obligation_5",
	"obligation_6", "obligation_7", "obligation_8", "obligation_9",
}

var obligationForm = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,63}(=[!-+\--:<>-~]{1,256})?$`)

// annotations takes the id and the obligations. A key that looks like a slip
// of the pen for one that counts is refused: the obligation would be lost.
func (r *rule) annotations() error {
	all := r.policy.Annotations()
	if id, ok := all["id"]; ok {
		if !idForm.MatchString(string(id)) {
			return fmt.Errorf("@id(%q) is not of the form %s", string(id), idForm)
		}
		r.id = types.PolicyID(id)
	}
	known := append([]types.AnnotationKey{"id"}, obligationKeys...)
	for key := range all {
		if !slices.Contains(known, key) && looksLike(string(key), "obligation") {
			return fmt.Errorf("unknown annotation @%s: did you mean @obligation?", key)
		}
	}
	for _, key := range obligationKeys {
		text, ok := all[key]
		if !ok {
			continue
		}
		if !r.permit {
			return fmt.Errorf("@%s on a forbid: there is nothing to oblige", key)
		}
		for _, part := range strings.FieldsFunc(string(text), func(c rune) bool { return c == ',' || c == ';' }) {
			part = strings.TrimSpace(part)
			if !obligationForm.MatchString(part) {
				return fmt.Errorf("@%s: %q is not of the form key=value", key, part)
			}
			k, v, _ := strings.Cut(part, "=")
			r.obligations = addObligation(r.obligations, macronode.Obligation{Key: k, Value: v})
		}
		if strings.TrimSpace(string(text)) == "" {
			return fmt.Errorf("@%s is empty", key)
		}
	}
	return nil
}

func addObligation(list []macronode.Obligation, o macronode.Obligation) []macronode.Obligation {
	if slices.Contains(list, o) {
		return list
	}
	return append(list, o)
}

// looksLike reports whether a is within three edits of b, or begins like it.
func looksLike(a, b string) bool {
	a = strings.ToLower(a)
	return strings.HasPrefix(a, b[:4]) || levenshtein.Distance(a, b, nil) <= 3
}

// Hash is what pins the set: "blake3:HEX" of its payload.
func (s *Set) Hash() string { return s.hash }

// Version is the payload's.
func (s *Set) Version() int64 { return s.doc.Version }

// Previous is the hash of the bundle that this one follows; "" where it names none.
func (s *Set) Previous() string {
	if s.doc.Previous == nil {
		return ""
	}
	return *s.doc.Previous
}

// Expires is when the set stops deciding; the zero time: never.
func (s *Set) Expires() time.Time { return s.expires }

// Expired reports whether the set has stopped deciding.
func (s *Set) Expired(now time.Time) bool { return !s.expires.IsZero() && !now.Before(s.expires) }

// Quotas is what the bundle says of quotas.
func (s *Set) Quotas() payload.Quotas { return s.quotas }

// Len is the number of policies.
func (s *Set) Len() int { return len(s.rules) }

// Uncovered lists the bindings whose action the schema does not know for their
// kind of resource: no rule can permit them. A node logs them at start.
func (s *Set) Uncovered(bindings []macronode.Binding) []macronode.Op {
	var out []macronode.Op
	for i := range bindings {
		b := &bindings[i]
		if b.Public {
			continue
		}
		a, ok := s.m.index[b.Action]
		if !ok || s.m.actions[a].principals == 0 || s.m.actions[a].resources>>b.Resource&1 == 0 {
			out = append(out, b.Op)
		}
	}
	return out
}
