// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/conditions"
)

// Finding is something in a bundle that is allowed, but likely not meant.
type Finding struct {
	Level  string `json:"level"` // "warning" or "note"
	Check  string `json:"check"` // its name, such as "shadowed"
	Policy string `json:"policy,omitempty"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Text   string `json:"text"`
}

// knownObligations are those that some stage of the wall or service acts on.
// The wall refuses a call whose obligation nobody knows.
var knownObligations = []string{"audit", "degrade", "max_bytes", "zk"}

// Lint loads a payload and looks for what is legal but odd. The error is of
// loading; tests that fail are no hindrance.
func Lint(b []byte) ([]Finding, error) {
	s, rep, err := load(b)
	if err != nil {
		return nil, err
	}
	l := &linter{s: s}
	permits := 0
	for i, r := range s.rules {
		if r.permit {
			permits++
			l.breadth(r)
		}
		l.reach(r)
		l.conditions(r)
		l.overlap(i, r)
		for _, o := range r.obligations {
			if !slices.Contains(knownObligations, o.Key) {
				l.add("warning", "unknown-obligation", r, "nobody knows the obligation %q: calls that this permits will be refused%s", o.Key, suggest(o.Key, knownObligations))
			}
			if o.Key == "audit" && !slices.Contains([]string{"", "strict", "degrade"}, o.Value) {
				l.add("warning", "unknown-obligation", r, "audit is strict or degrade, not %q: calls that this permits will be refused", o.Value)
			}
		}
	}
	if permits == 0 {
		l.add("warning", "no-permit", nil, "nothing is permitted: every request will be denied")
	}
	l.tenants()
	l.schema()
	if len(s.doc.Tests.Tests) == 0 {
		l.add("warning", "no-tests", nil, "the bundle has no tests")
	} else {
		for _, id := range rep.Untested {
			l.add("note", "untested", s.ids[types.PolicyID(id)], "no test has this policy as a reason")
		}
	}
	if s.expires.IsZero() {
		l.add("note", "no-expiry", nil, "the bundle never expires")
	}
	return l.found, nil
}

type linter struct {
	s     *Set
	found []Finding
}

func (l *linter) add(level, check string, r *rule, format string, args ...any) {
	f := Finding{Level: level, Check: check, Text: fmt.Sprintf(format, args...)}
	if r != nil {
		f.Policy, f.File, f.Line = string(r.id), r.ast.Position.Filename, r.ast.Position.Line
	}
	l.found = append(l.found, f)
}

func suggest(name string, known []string) string {
	if near := payload.Nearest(name, known); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}

// docsAction is open to everybody in the default policies.
const docsAction macronode.Action = "docs:read"

// breadth looks for permits that let in more than most mean to.
func (l *linter) breadth(r *rule) {
	actions := l.actionsOf(r, 1<<numPrincipals-1)
	if _, all := r.ast.Action.(ast.ScopeTypeAll); all && scopeIsAll(r.ast.Principal) && scopeIsAll(r.ast.Resource) && len(r.ast.Conditions) == 0 {
		l.add("warning", "permits-everything", r, "this permits everything to everybody, callers without a capability too")
		return
	}
	if _, all := r.ast.Action.(ast.ScopeTypeAll); all {
		l.add("warning", "any-action", r, "this permits every action, those of later versions too: name the actions, or a group of them")
	}
	if len(actions) == 0 || (len(actions) == 1 && actions[0] == docsAction) || speaksOfPrincipal(r.ast) {
		return
	}
	anonymous := l.actionsOf(r, 1<<macronode.Anonymous)
	anonymous = slices.DeleteFunc(anonymous, func(a macronode.Action) bool { return a == docsAction })
	if len(anonymous) > 0 {
		l.add("warning", "anonymous", r, "callers without a capability may do this too: %s", listActions(anonymous))
	}
	capability := slices.DeleteFunc(l.actionsOf(r, 1<<macronode.Capability), func(a macronode.Action) bool { return a == docsAction })
	if len(capability) > 0 {
		l.add("warning", "every-tenant", r, "every tenant may do this: %s", listActions(capability))
	}
}

func listActions(list []macronode.Action) string {
	const shown = 4
	var text []string
	for _, a := range list[:min(len(list), shown)] {
		text = append(text, string(a))
	}
	if len(list) > shown {
		text = append(text, fmt.Sprintf("and %d more", len(list)-shown))
	}
	return strings.Join(text, ", ")
}

// actionsOf are the actions that the rule's scope reaches for these kinds of principal.
func (l *linter) actionsOf(r *rule, principals uint8) []macronode.Action {
	var out []macronode.Action
	for _, i := range r.actions {
		a := &l.s.m.actions[i]
		if a.principals&r.principals&principals != 0 && a.resources&r.resources != 0 {
			out = append(out, a.name)
		}
	}
	return out
}

func scopeIsAll(s ast.IsScopeNode) bool {
	_, ok := s.(ast.ScopeTypeAll)
	return ok
}

// speaksOfPrincipal reports whether the rule says who, beyond a kind.
func speaksOfPrincipal(p *ast.Policy) bool {
	if scopeEntity(p.Principal) != nil {
		return true
	}
	found := false
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			v, ok := n.(ast.NodeTypeVariable)
			found = found || (ok && v.Name == "principal")
			return true
		})
	}
	return found
}

// reach looks for rules that never apply.
func (l *linter) reach(r *rule) {
	if len(l.actionsOf(r, 1<<numPrincipals-1)) == 0 {
		l.add("warning", "unreachable", r, "no request of the node is in this policy's scope")
	}
	for _, c := range r.ast.Conditions {
		if v, ok := c.Body.(ast.NodeValue); ok && v.Value == types.Value(types.Boolean(c.Condition == ast.ConditionUnless)) {
			l.add("warning", "unreachable", r, "the condition %s is never met", conditionText(c))
		}
	}
}

// conditions looks for rules whose conditions are never met, and for those that
// read the clock.
func (l *linter) conditions(r *rule) {
	if why := conditions.Clash(r.ast.Conditions); why != "" {
		l.add("warning", "unreachable", r, "the conditions can never be met: %s", why)
	}
	if conditions.ReadContext(r.ast.Conditions, "hour") {
		l.add("note", "reads-hour", r, "this reads context.hour (UTC): what it decides changes with the clock, and no test covers every hour")
	}
}

// overlap looks for rules that another one makes pointless.
func (l *linter) overlap(i int, r *rule) {
	for j, o := range l.s.rules {
		switch {
		case i == j:
		case r.permit && !o.permit && len(o.ast.Conditions) == 0 && covers(o, r):
			l.add("warning", "shadowed", r, "%s forbids all that this permits", o.id)
			return
		case r.permit == o.permit && len(o.ast.Conditions) == 0 && covers(o, r) && len(r.obligations) == 0 &&
			(i > j || !covers(r, o) || len(r.ast.Conditions) > 0):
			l.add("note", "redundant", r, "%s already says so", o.id)
			return
		case i > j && sameRule(r, o):
			l.add("note", "redundant", r, "%s says the same", o.id)
			return
		}
	}
}

// covers reports whether a's scope holds b's; false where that is not plain.
func covers(a, b *rule) bool {
	for _, i := range b.actions {
		if !slices.Contains(a.actions, i) {
			return false
		}
	}
	return scopeCovers(a.ast.Principal, b.ast.Principal) && scopeCovers(a.ast.Resource, b.ast.Resource)
}

func scopeCovers(a, b ast.IsScopeNode) bool {
	if scopeIsAll(a) || reflect.DeepEqual(a, b) {
		return true
	}
	switch a := a.(type) {
	case ast.ScopeTypeIs:
		switch b := b.(type) {
		case ast.ScopeTypeEq:
			return b.Entity.Type == a.Type
		case ast.ScopeTypeIsIn:
			return b.Type == a.Type
		}
	case ast.ScopeTypeIn:
		e := scopeEntity(b)
		return e != nil && *e == a.Entity
	}
	return false
}

func sameRule(a, b *rule) bool {
	return a.permit == b.permit && reflect.DeepEqual(a.ast.Principal, b.ast.Principal) && reflect.DeepEqual(a.ast.Action, b.ast.Action) &&
		reflect.DeepEqual(a.ast.Resource, b.ast.Resource) && reflect.DeepEqual(a.ast.Conditions, b.ast.Conditions) &&
		slices.Equal(a.obligations, b.obligations)
}

// schema compares the bundle's actions with those the node asks about.
func (l *linter) schema() {
	raw, err := json.Marshal(payload.DefaultSchema())
	if err != nil {
		return
	}
	own, err := loadModel(raw)
	if err != nil {
		return
	}
	for _, a := range l.s.m.actions {
		if _, ok := own.index[a.name]; !ok {
			l.add("warning", "unknown-action", nil, "the schema has an action %q that the node never asks about%s", a.name, suggest(string(a.name), own.actionNames()))
		}
	}
	for _, a := range own.actions {
		if _, ok := l.s.m.index[a.name]; !ok {
			l.add("note", "missing-action", nil, "the schema lacks the action %q: it is denied to all", a.name)
		}
	}
}
