// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

const (
	numPrincipals = int(macronode.PeerNode) + 1
	numResources  = int(macronode.FacetResource) + 1
	actionType    = types.EntityType("Action")
)

// peerAction is all that a peer may do, whatever the rules say.
const peerAction macronode.Action = "overlay:peer"

// model is a bundle's schema, and what of it concerns the node's requests.
type model struct {
	schema *resolved.Schema
	check  *validate.Validator
	// actions are the declared ones that apply to something, in order of name;
	// index finds them by name.
	actions []modelAction
	index   map[macronode.Action]int
	// tangled says that some attribute can hold a principal or a resource, so
	// that reading an attribute of one entity may lead to the request's own.
	tangled bool
}

type modelAction struct {
	name macronode.Action
	uid  types.EntityUID
	// Bits are the kinds of principal and resource that it applies to.
	principals, resources uint8
}

// loadModel parses the schema member of a payload and checks that the requests
// the node will make are requests of this schema.
func loadModel(raw json.RawMessage) (*model, error) {
	var s schema.Schema
	switch trimmed := bytes.TrimSpace(raw); {
	case len(trimmed) > 0 && trimmed[0] == '"':
		var text string
		if err := json.Unmarshal(trimmed, &text); err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
		if err := payload.CheckText(text, payload.SchemaBrackets); err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
		if err := s.UnmarshalCedar([]byte(text)); err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
	case len(trimmed) > 0 && trimmed[0] == '{':
		if err := s.UnmarshalJSON(trimmed); err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
	default:
		return nil, errors.New("schema is neither a string nor an object")
	}
	rs, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	m := &model{schema: rs, check: validate.New(rs, validate.WithStrict()), index: map[macronode.Action]int{}}
	for uid, a := range rs.Actions {
		if uid.Type != actionType || a.AppliesTo == nil {
			continue
		}
		m.actions = append(m.actions, modelAction{
			name: macronode.Action(uid.ID), uid: uid,
			principals: kindBits(a.AppliesTo.Principals, numPrincipals, principalType),
			resources:  kindBits(a.AppliesTo.Resources, numResources, resourceType),
		})
	}
	slices.SortFunc(m.actions, func(a, b modelAction) int { return strings.Compare(string(a.name), string(b.name)) })
	for i := range m.actions {
		a := &m.actions[i]
		if a.name != peerAction {
			a.principals &^= 1 << macronode.PeerNode
		}
		m.index[a.name] = i
	}
	for _, e := range rs.Entities {
		m.tangled = m.tangled || holdsKinds(e.Shape) || holdsKinds(e.Tags)
	}
	return m, m.compatible()
}

// holdsKinds reports whether a value of type t can hold a principal or resource.
func holdsKinds(t resolved.IsType) bool {
	switch v := t.(type) {
	case resolved.EntityType:
		return isPrincipal(types.EntityType(v)) || isResource(types.EntityType(v))
	case resolved.SetType:
		return holdsKinds(v.Element)
	case resolved.RecordType:
		for _, a := range v {
			if holdsKinds(a.Type) {
				return true
			}
		}
	}
	return false
}

func principalType(k int) types.EntityType {
	return types.EntityType(macronode.PrincipalKind(k).String())
}

func resourceType(k int) types.EntityType {
	return types.EntityType(macronode.ResourceKind(k).String())
}

func kindBits(list []types.EntityType, n int, name func(int) types.EntityType) (bits uint8) {
	for k := range n {
		if slices.Contains(list, name(k)) {
			bits |= 1 << k
		}
	}
	return bits
}

// compatible tries an entity of each kind and a context as the node makes them
// against the schema, so that strict validation of the rules means something
// for live requests.
func (m *model) compatible() error {
	w := newWorld(m, nil)
	tv := w.tenant(macronode.SystemTenant, macronode.SystemTenantLabel)
	if err := m.check.Entity(tv.Entity); err != nil {
		return fmt.Errorf("schema does not fit the node's Tenant: %w", err)
	}
	ctx := form.Context(&form.Key{IP: netip.IPv4Unspecified()}, form.AllContext)
	for k := range numPrincipals {
		e := w.principalEntity(types.NewEntityUID(principalType(k), "sample"), macronode.PrincipalKind(k), tv)
		if err := m.check.Entity(e); err != nil {
			return fmt.Errorf("schema does not fit the node's %s: %w", e.UID.Type, err)
		}
	}
	for k := range numResources {
		e := w.resourceEntity(types.NewEntityUID(resourceType(k), "sample"), tv)
		if err := m.check.Entity(e); err != nil {
			return fmt.Errorf("schema does not fit the node's %s: %w", e.UID.Type, err)
		}
	}
	for i := range m.actions {
		a := &m.actions[i]
		applies := m.schema.Actions[a.uid].AppliesTo
		if len(applies.Principals) == 0 || len(applies.Resources) == 0 {
			continue
		}
		if err := m.check.Request(types.Request{
			Principal: types.NewEntityUID(applies.Principals[0], "sample"), Action: a.uid,
			Resource: types.NewEntityUID(applies.Resources[0], "sample"), Context: ctx,
		}); err != nil {
			return fmt.Errorf("schema does not fit the node's requests: %w", err)
		}
	}
	return nil
}

// covers reports whether the schema knows the action for the two kinds.
func (m *model) covers(action int, p macronode.PrincipalKind, r macronode.ResourceKind) bool {
	a := &m.actions[action]
	return a.principals>>p&1 == 1 && a.resources>>r&1 == 1
}

// members are the indices of the actions that are in the group, or are it.
func (m *model) members(group types.EntityUID) []int {
	var out []int
	for i := range m.actions {
		if m.inGroup(m.actions[i].uid, group, map[types.EntityUID]bool{}) {
			out = append(out, i)
		}
	}
	return out
}

func (m *model) inGroup(a, group types.EntityUID, seen map[types.EntityUID]bool) bool {
	if a == group {
		return true
	}
	if seen[a] {
		return false
	}
	seen[a] = true
	for parent := range m.schema.Actions[a].Entity.Parents.All() {
		if m.inGroup(parent, group, seen) {
			return true
		}
	}
	return false
}

// actionNames are the names of the actions, for suggestions.
func (m *model) actionNames() []string {
	return slices.Sorted(maps.Keys(stringKeys(m.index)))
}

func stringKeys[K ~string, V any](in map[K]V) map[string]V {
	out := make(map[string]V, len(in))
	for k, v := range in {
		out[string(k)] = v
	}
	return out
}
