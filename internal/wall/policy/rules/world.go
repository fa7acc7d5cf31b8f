// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// world holds the entities that rules can speak of: those of entities.json and
// the schema's actions, which stay, and those that each request brings.
type world struct {
	form.World
	m *model
	// above are the proper ancestors of each static entity.
	above map[types.EntityUID][]types.EntityUID
	// number tells the index's numbers of entities; nil: there is none yet.
	number func(out []uint32, uids []types.EntityUID) []uint32
	// views keeps what is the same for all requests of one tenant; a slot is
	// overwritten by the next tenant that falls into it.
	views [tenantSlots]atomic.Pointer[tenantView]
	// merged keeps, in the same way, entities that entities.json adds to.
	seed   maphash.Seed
	merged [mergedSlots]atomic.Pointer[mergedEntity]
}

const mergedSlots = 1024

// mergedEntity is a principal or resource of a tenant, joined with what
// entities.json says of it.
type mergedEntity struct {
	t      *tenantView
	entity types.Entity
}

const tenantSlots = 1024

// tenantView is a tenant with what is made of it.
type tenantView struct {
	form.Tenant
	principal types.Record       // attributes of its principals
	resource  types.Record       // attributes of its resources
	parents   types.EntityUIDSet // the tenant alone
	numbers   []uint32           // of Keys, in the index; those it knows
}

// newWorld joins static entities with the actions of m's schema.
func newWorld(m *model, static types.EntityMap) *world {
	w := &world{m: m, seed: maphash.MakeSeed(), above: map[types.EntityUID][]types.EntityUID{}}
	w.Static, w.Tangled = make(types.EntityMap, len(static)+len(m.schema.Actions)), m.tangled
	for uid, e := range static {
		w.Static[uid] = e
	}
	for uid, a := range m.schema.Actions {
		w.Static[uid] = a.Entity
	}
	for uid := range m.schema.Actions {
		w.flatten(uid)
	}
	for uid := range static {
		w.Principals = w.Principals || isPrincipal(uid.Type)
		w.Resources = w.Resources || isResource(uid.Type)
	}
	return w
}

// loadWorld reads the entities member of a payload.
func loadWorld(m *model, raw json.RawMessage) (*world, error) {
	if len(raw) == 0 || raw[0] != '[' {
		return nil, fmt.Errorf("entities is not an array")
	}
	var static types.EntityMap
	if err := json.Unmarshal(raw, &static); err != nil {
		return nil, fmt.Errorf("entities: %w", err)
	}
	uids := make([]types.EntityUID, 0, len(static))
	for uid := range static {
		uids = append(uids, uid)
	}
	slices.SortFunc(uids, compareUID)
	for _, uid := range uids {
		if uid.Type == actionType {
			return nil, fmt.Errorf("entities: %s: actions are the schema's", uid)
		}
		if err := m.check.Entity(static[uid]); err != nil {
			return nil, fmt.Errorf("entities: %s: %w", uid, err)
		}
	}
	w := newWorld(m, static)
	for _, uid := range uids {
		above, ok := w.ancestors(uid)
		if !ok {
			return nil, fmt.Errorf("entities: %s is above itself", uid)
		}
		for _, up := range above {
			if !mayBeAbove(uid.Type, up.Type) {
				return nil, fmt.Errorf("entities: %s cannot be in %s", uid, up)
			}
			// That one may be a request's own, which is in its tenant too.
			w.Tangled = w.Tangled || isPrincipal(up.Type) || isResource(up.Type)
		}
		w.above[uid] = above
	}
	for _, uid := range uids {
		w.flatten(uid)
	}
	return w, nil
}

// flatten makes all that is above a static entity its parents. Rules cannot
// tell the difference, and Cedar finds them in one step.
func (w *world) flatten(uid types.EntityUID) {
	above, ok := w.ancestors(uid)
	if e := w.Static[uid]; ok && len(above) > e.Parents.Len() {
		e.Parents = cedar.NewEntityUIDSet(above...)
		w.Static[uid] = e
	}
}

// mayBeAbove keeps principals, tenants and resources from standing above one
// another in ways that would make what a principal is in depend on what it
// acts on.
func mayBeAbove(below, above types.EntityType) bool {
	principal := isPrincipal(above)
	resource := isResource(above)
	switch {
	case below == form.TenantType:
		return !principal && !resource
	case isPrincipal(below):
		return !resource
	case isResource(below):
		return !principal
	}
	return true
}

func compareUID(a, b types.EntityUID) int {
	if c := strings.Compare(string(a.Type), string(b.Type)); c != 0 {
		return c
	}
	return strings.Compare(string(a.ID), string(b.ID))
}

// ancestors walks up from a static entity; false where it comes back to it.
func (w *world) ancestors(uid types.EntityUID) ([]types.EntityUID, bool) {
	var out []types.EntityUID
	seen := map[types.EntityUID]bool{}
	todo := []types.EntityUID{uid}
	for len(todo) > 0 {
		e := w.Static[todo[len(todo)-1]]
		todo = todo[:len(todo)-1]
		for parent := range e.Parents.All() {
			if parent == uid {
				return nil, false
			}
			if !seen[parent] {
				seen[parent] = true
				out = append(out, parent)
				todo = append(todo, parent)
			}
		}
	}
	slices.SortFunc(out, compareUID)
	return out, true
}

// tenant returns the tenant's view, from the table or new.
func (w *world) tenant(id macronode.TenantID, label string) *tenantView {
	// The last bytes of a ULID are random; its first are a clock.
	slot := &w.views[(int(id[14])<<8|int(id[15]))%tenantSlots]
	if v := slot.Load(); v != nil && v.ID == id && v.Label == label {
		return v
	}
	uid := types.NewEntityUID(form.TenantType, types.String(id.String()))
	v := &tenantView{Tenant: form.Tenant{ID: id, Label: strings.Clone(label)}}
	v.principal = types.NewRecord(types.RecordMap{"tenant": uid, "label": types.String(v.Label)})
	v.resource = types.NewRecord(types.RecordMap{"tenant": uid})
	v.parents = cedar.NewEntityUIDSet(uid)
	v.Entity = w.merge(types.Entity{UID: uid, Attributes: v.principal})
	v.Keys = append([]types.EntityUID{uid}, w.above[uid]...)
	if w.number != nil {
		v.numbers = w.number(nil, v.Keys)
	}
	slot.Store(v)
	return v
}

// merge adds what entities.json says of e. What the node knows itself, above
// all whose a thing is, cannot be said otherwise there.
func (w *world) merge(e types.Entity) types.Entity {
	s, ok := w.Static[e.UID]
	if !ok {
		return e
	}
	attrs := s.Attributes.Map()
	if attrs == nil {
		attrs = types.RecordMap{}
	}
	for k, v := range e.Attributes.All() {
		attrs[k] = v
	}
	parents := s.Parents.Slice()
	for p := range e.Parents.All() {
		parents = append(parents, p)
	}
	return types.Entity{UID: e.UID, Attributes: types.NewRecord(attrs), Parents: cedar.NewEntityUIDSet(parents...), Tags: s.Tags}
}

// mergeFor is merge for an entity of t, from the table or new. It keeps nothing
// of requests but what entities.json names too.
func (w *world) mergeFor(e types.Entity, t *tenantView) types.Entity {
	static, ok := w.Static[e.UID]
	if !ok {
		return e
	}
	slot := &w.merged[(maphash.String(w.seed, string(e.UID.ID))^uint64(t.ID[15]))%mergedSlots]
	if m := slot.Load(); m != nil && m.t == t && m.entity.UID == e.UID {
		return m.entity
	}
	e.UID = static.UID
	m := &mergedEntity{t, w.merge(e)}
	slot.Store(m)
	return m.entity
}

func (w *world) principalEntity(uid types.EntityUID, kind macronode.PrincipalKind, t *tenantView) types.Entity {
	e := types.Entity{UID: uid, Attributes: t.principal}
	if kind != macronode.PeerNode {
		e.Parents = t.parents
	}
	if !w.Principals {
		return e
	}
	return w.mergeFor(e, t)
}

func (w *world) resourceEntity(uid types.EntityUID, t *tenantView) types.Entity {
	e := types.Entity{UID: uid, Attributes: t.resource, Parents: t.parents}
	if !w.Resources {
		return e
	}
	return w.mergeFor(e, t)
}

// scene is the world as one request sees it.
type scene struct {
	w                   *world
	principal, resource types.Entity
	pt, rt              *tenantView // the principal's and the resource's tenant
	kind                macronode.PrincipalKind
	rkind               macronode.ResourceKind
	action              int
}

// Get implements types.EntityGetter.
func (s *scene) Get(uid types.EntityUID) (types.Entity, bool) {
	switch uid {
	case s.principal.UID:
		return s.principal, true
	case s.resource.UID:
		return s.resource, true
	case s.pt.Entity.UID:
		return s.pt.Entity, true
	case s.rt.Entity.UID:
		return s.rt.Entity, true
	}
	e, ok := s.w.Static[uid]
	return e, ok
}

// scene makes the entities of a request from its key.
func (w *world) scene(k *form.Key) *scene {
	s := &scene{w: w, kind: k.Kind, rkind: k.ResourceKind, action: k.Action}
	s.pt, s.rt = w.tenants(k)
	var id string
	switch k.Kind {
	case macronode.Capability:
		id = hex.EncodeToString(k.Root[:])
	case macronode.PeerNode:
		id = k.Node
	default:
		id = form.AnonymousID
	}
	s.principal = w.principalEntity(types.NewEntityUID(principalType(int(s.kind)), types.String(id)), s.kind, s.pt)
	s.resource = w.resourceEntity(types.NewEntityUID(resourceType(int(s.rkind)), types.String(k.Resource)), s.rt)
	return s
}

// tenants are whose the principal and the resource are.
func (w *world) tenants(k *form.Key) (principal, resource *tenantView) {
	principal = w.tenant(k.Tenant, k.Label)
	if k.ResourceKind == macronode.NodeResource && k.Tenant != macronode.SystemTenant {
		return principal, w.tenant(macronode.SystemTenant, macronode.SystemTenantLabel)
	}
	return principal, principal
}
