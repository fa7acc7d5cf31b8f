// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
)

// world holds the entities that rules can speak of: those of entities.json and
// the schema's actions, which stay, and those that each request brings.
type world struct {
	m      *model
	static types.EntityMap
	// above are the proper ancestors of each static entity.
	above map[types.EntityUID][]types.EntityUID
	// Whether entities.json speaks of single principals or resources, so that
	// what they are in depends on who exactly they are.
	staticPrincipals, staticResources bool
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

// tenantView is the Cedar side of a tenant.
type tenantView struct {
	id        macronode.TenantID
	label     string
	entity    types.Entity
	principal types.Record       // attributes of its principals
	resource  types.Record       // attributes of its resources
	parents   types.EntityUIDSet // the tenant alone
	keys      []types.EntityUID  // the tenant and its ancestors
}

// newWorld joins static entities with the actions of m's schema.
func newWorld(m *model, static types.EntityMap) *world {
	w := &world{m: m, seed: maphash.MakeSeed(), static: make(types.EntityMap, len(static)+len(m.schema.Actions)), above: map[types.EntityUID][]types.EntityUID{}}
	for uid, e := range static {
		w.static[uid] = e
	}
	for uid, a := range m.schema.Actions {
		w.static[uid] = a.Entity
	}
	for uid := range m.schema.Actions {
		w.flatten(uid)
	}
	for uid := range static {
		w.staticPrincipals = w.staticPrincipals || isKind(uid.Type, numPrincipals, principalType)
		w.staticResources = w.staticResources || isKind(uid.Type, numResources, resourceType)
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
	if e := w.static[uid]; ok && len(above) > e.Parents.Len() {
		e.Parents = cedar.NewEntityUIDSet(above...)
		w.static[uid] = e
	}
}

// mayBeAbove keeps principals, tenants and resources from standing above one
// another in ways that would make what a principal is in depend on what it
// acts on.
func mayBeAbove(below, above types.EntityType) bool {
	principal := isKind(above, numPrincipals, principalType)
	resource := isKind(above, numResources, resourceType)
	switch {
	case below == tenantType:
		return !principal && !resource
	case isKind(below, numPrincipals, principalType):
		return !resource
	case isKind(below, numResources, resourceType):
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
		e := w.static[todo[len(todo)-1]]
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
	if v := slot.Load(); v != nil && v.id == id && v.label == label {
		return v
	}
	uid := types.NewEntityUID(tenantType, types.String(id.String()))
	v := &tenantView{id: id, label: strings.Clone(label)}
	v.principal = types.NewRecord(types.RecordMap{"tenant": uid, "label": types.String(v.label)})
	v.resource = types.NewRecord(types.RecordMap{"tenant": uid})
	v.parents = cedar.NewEntityUIDSet(uid)
	v.entity = w.merge(types.Entity{UID: uid, Attributes: v.principal})
	v.keys = append([]types.EntityUID{uid}, w.above[uid]...)
	slot.Store(v)
	return v
}

// merge adds what entities.json says of e. What the node knows itself, above
// all whose a thing is, cannot be said otherwise there.
func (w *world) merge(e types.Entity) types.Entity {
	s, ok := w.static[e.UID]
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
	static, ok := w.static[e.UID]
	if !ok {
		return e
	}
	slot := &w.merged[(maphash.String(w.seed, string(e.UID.ID))^uint64(t.id[15]))%mergedSlots]
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
	if !w.staticPrincipals {
		return e
	}
	return w.mergeFor(e, t)
}

func (w *world) resourceEntity(uid types.EntityUID, t *tenantView) types.Entity {
	e := types.Entity{UID: uid, Attributes: t.resource, Parents: t.parents}
	if !w.staticResources {
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
	case s.pt.entity.UID:
		return s.pt.entity, true
	case s.rt.entity.UID:
		return s.rt.entity, true
	}
	e, ok := s.w.static[uid]
	return e, ok
}

// anonymousID is the id of the one Anonymous entity.
const anonymousID = "anonymous"

// scene makes the entities of r. The request has passed Set.admissible.
func (w *world) scene(r *wall.PolicyRequest, action int) *scene {
	s := &scene{w: w, kind: r.Principal.Kind, rkind: r.Resource.Kind, action: action}
	s.pt = w.tenant(r.Tenant.ID, r.Tenant.Label)
	s.rt = s.pt
	if r.Resource.Kind == macronode.NodeResource && s.pt.id != macronode.SystemTenant {
		s.rt = w.tenant(macronode.SystemTenant, macronode.SystemTenantLabel)
	}
	var id string
	switch r.Principal.Kind {
	case macronode.Capability:
		id = hex.EncodeToString(r.Principal.RootID[:])
	case macronode.PeerNode:
		id = r.Principal.Node
	default:
		id = anonymousID
	}
	s.principal = w.principalEntity(types.NewEntityUID(principalType(int(s.kind)), types.String(id)), s.kind, s.pt)
	s.resource = w.resourceEntity(types.NewEntityUID(resourceType(int(s.rkind)), types.String(r.Resource.ID)), s.rt)
	return s
}

// contextValues are what rules find under context.
type contextValues struct {
	bytes, hour                    int64
	ip                             netip.Addr
	tls                            bool
	subject, path, method, service string
}

// context returns r's values in the form rules see. A caller without an
// address, on a Unix socket, has the unspecified one: it is in no range that a
// permit would name.
func (c *contextValues) fill(r *wall.PolicyRequest) {
	c.bytes, c.tls, c.subject = r.Bytes, r.TLS, r.Subject
	c.path, c.method, c.service = r.Path, r.Method, r.Service
	c.hour = int64(r.Time.UTC().Hour())
	c.ip = plainAddr(r.IP)
}

func plainAddr(a netip.Addr) netip.Addr {
	if !a.IsValid() {
		return netip.IPv4Unspecified()
	}
	return a.Unmap().WithZone("")
}

// newContext makes the record of the attributes in want.
func newContext(c *contextValues, want reads) types.Record {
	if want&allContext == 0 {
		return types.Record{}
	}
	m := make(types.RecordMap, len(contextAttrs))
	for _, a := range contextAttrs {
		if want&a.bit != 0 {
			m[a.name] = a.value(c)
		}
	}
	return types.NewRecord(m)
}
