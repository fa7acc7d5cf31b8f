// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/access/strict"
)

// Tenant is a tenant as the routes show it.
type Tenant struct {
	ID        string          `json:"id"`
	Label     string          `json:"label"`
	Suspended bool            `json:"suspended"`
	Deleting  bool            `json:"deleting,omitempty"` // its deletion is not complete
	Quota     macronode.Quota `json:"quota"`
	CreatedMS int64           `json:"created_ms"`
}

// TenantList is a page of tenants in the order of their ids. An empty cursor
// says that it is the last.
type TenantList struct {
	Tenants []Tenant `json:"tenants"`
	Cursor  string   `json:"cursor"`
}

// NewTenant is the body that makes a tenant. ID is that of a tenant which another
// node has, so that both have the same; where it is missing a new one is made.
type NewTenant struct {
	ID    string       `json:"id,omitempty"`
	Label string       `json:"label"`
	Quota *QuotaChange `json:"quota,omitempty"`
}

// Usage is what a tenant uses now.
type Usage struct {
	ID          string          `json:"id"`
	Label       string          `json:"label"`
	StoredBytes int64           `json:"stored_bytes"`
	Objects     int64           `json:"objects"`
	InFlight    int64           `json:"in_flight"`
	Quota       macronode.Quota `json:"quota"`
}

// QuotaChange names the limits to set; what is missing stays. -1 lifts a limit.
type QuotaChange struct {
	RequestsPerSec *int64 `json:"requests_per_s,omitempty"`
	RequestBurst   *int64 `json:"request_burst,omitempty"`
	BytesPerSec    *int64 `json:"bytes_per_s,omitempty"`
	ByteBurst      *int64 `json:"byte_burst,omitempty"`
	InFlight       *int64 `json:"in_flight,omitempty"`
	StoredBytes    *int64 `json:"stored_bytes,omitempty"`
	Objects        *int64 `json:"objects,omitempty"`
	QueueDepth     *int64 `json:"queue_depth,omitempty"`
	Weight         *int64 `json:"weight,omitempty"`
}

// maxWeight bounds a tenant's share, so that no weight starves all others.
const maxWeight = 1000

// apply returns q with the change made.
func (c *QuotaChange) apply(q macronode.Quota) (macronode.Quota, error) {
	if c == nil {
		return q, nil
	}
	for _, f := range []struct {
		name string
		from *int64
		to   *int64
	}{
		{"requests_per_s", c.RequestsPerSec, &q.RequestsPerSec}, {"request_burst", c.RequestBurst, &q.RequestBurst},
		{"bytes_per_s", c.BytesPerSec, &q.BytesPerSec}, {"byte_burst", c.ByteBurst, &q.ByteBurst},
		{"in_flight", c.InFlight, &q.InFlight}, {"stored_bytes", c.StoredBytes, &q.StoredBytes},
		{"objects", c.Objects, &q.Objects}, {"queue_depth", c.QueueDepth, &q.QueueDepth},
	} {
		if f.from == nil {
			continue
		}
		if *f.from < macronode.NoLimit {
			return q, macronode.Errorf(macronode.Invalid, "quota.%s is -1 (no limit), 0 (nothing) or more", f.name)
		}
		*f.to = *f.from
	}
	if c.Weight != nil {
		if *c.Weight < 1 || *c.Weight > maxWeight {
			return q, macronode.Errorf(macronode.Invalid, "quota.weight is 1 to %d", maxWeight)
		}
		q.Weight = *c.Weight
	}
	return q, nil
}

func show(x *tenant) Tenant {
	return Tenant{ID: x.ID.String(), Label: x.Label, Suspended: x.Suspended, Deleting: x.deleting, Quota: x.Quota, CreatedMS: x.createdMS}
}

func tenantSubject(id macronode.TenantID) string { return "tenant/" + id.String() }

func noTenant() error { return macronode.Errorf(macronode.NotFound, "there is no such tenant") }

// operator refuses everyone but the bearers of capabilities of tenant system.
// Policy says so too; this holds whatever a policy says.
func operator(a *macronode.Admitted) error {
	if a.Principal.Kind != macronode.Capability || a.Tenant.ID != macronode.SystemTenant {
		return macronode.Errorf(macronode.Denied, "tenants are the operator's")
	}
	return nil
}

func (s *Service) createTenant(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	if err := operator(a); err != nil {
		return nil, err
	}
	var req NewTenant
	if err := strict.Decode(body, &req); err != nil {
		return nil, err
	}
	start := macronode.UnlimitedQuota()
	if s.initial != nil {
		start = s.initial()
	}
	quota, err := req.Quota.apply(start)
	if err != nil {
		return nil, err
	}
	id, err := s.idFor(&req)
	if err != nil {
		return nil, err
	}
	var reply *macronode.Reply
	_, err = s.create(ctx, a.Actor(), id, req.Label, quota, func(tx store.Tx, x *tenant) (err error) {
		if reply, err = jsonReply(201, show(x)); err != nil {
			return err
		}
		reply.Header = macronode.Header{"Location": {"/v1/tenants/" + x.ID.String()}}
		return claim.Keep(tx, reply)
	})
	return reply, err
}

// idFor is the id that the tenant asked for gets.
func (s *Service) idFor(req *NewTenant) (macronode.TenantID, error) {
	if req.ID == "" {
		return s.newID()
	}
	id, err := macronode.ParseTenantID(req.ID)
	switch {
	case err != nil:
		return id, macronode.Errorf(macronode.Invalid, "id is a ULID, 26 characters")
	case id.IsZero() || id == macronode.SystemTenant || id == macronode.AnonymousTenant:
		return id, macronode.Errorf(macronode.Invalid, "that id is no tenant's")
	}
	return id, nil
}

func (s *Service) newID() (macronode.TenantID, error) {
	id, err := ulid.New(ulid.Timestamp(s.now()), rand.Reader)
	if err != nil {
		return macronode.TenantID{}, macronode.Wrap(macronode.Internal, "", err)
	}
	return macronode.TenantID(id), nil
}

// create makes a tenant; Conflict where the label is taken or the id was used.
// also, if any, joins the transaction.
func (s *Service) create(ctx context.Context, actor string, id macronode.TenantID, label string, quota macronode.Quota,
	also func(store.Tx, *tenant) error) (*tenant, error) {
	if !ValidLabel(label) {
		return nil, macronode.Errorf(macronode.Invalid, "a label is 1 to 63 of a-z, 0-9 and hyphen, does not begin with a hyphen, and does not look like an id")
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	if s.tenants.byLabel(label) != nil {
		return nil, macronode.Errorf(macronode.Conflict, "the label %q is taken", label)
	}
	event := macronode.AuditEvent{
		Stream: "node", Kind: "tenant.create", Actor: actor, Subject: tenantSubject(id), Attrs: map[string]any{"label": label},
	}
	if err := s.record(ctx, event); err != nil {
		return nil, err
	}
	rec := &tenantRecord{Label: label, Quota: quota, CreatedMS: s.now().UnixMilli()}
	x := rec.tenant(id)
	err := s.kv.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Get(tenantKey(id)); err == nil {
			return macronode.Errorf(macronode.Conflict, "the id is taken")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if gone, err := isGone(tx, id); err != nil {
			return err
		} else if gone {
			return macronode.Errorf(macronode.Conflict, "the id was a deleted tenant's")
		}
		if err := putTenant(tx, id, rec); err != nil {
			return err
		}
		if also == nil {
			return nil
		}
		return also(tx, x)
	})
	if err != nil {
		err = s.storeError(err)
		s.failed(event, err)
		return nil, err
	}
	s.tenants.put(x)
	s.gauges()
	return x, nil
}

// change is what modify does to a tenant.
type change struct {
	actor string
	kind  string // of the audit event
	attrs map[string]any
	// frees: it must work on a full disk, because it takes rights or frees space.
	frees bool
	edit  func(*tenantRecord) error     // may run more than once
	also  func(store.Tx, *tenant) error // joins the transaction; nil: nothing does
}

// modify changes a tenant's record, and then what memory holds of it.
func (s *Service) modify(ctx context.Context, id macronode.TenantID, c change) (*tenant, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	have := s.tenants.get(id)
	if have == nil || have.deleting {
		return nil, noTenant()
	}
	event := macronode.AuditEvent{Stream: "node", Kind: c.kind, Actor: c.actor, Subject: tenantSubject(id), Attrs: c.attrs}
	if err := s.record(ctx, event); err != nil {
		return nil, err
	}
	update := s.kv.Update
	if c.frees {
		update = s.kv.Reclaim
	}
	var x *tenant
	err := update(ctx, func(tx store.Tx) error {
		rec, err := getTenant(tx, id)
		if errors.Is(err, store.ErrNotFound) {
			return noTenant()
		}
		if err != nil {
			return err
		}
		if err := c.edit(rec); err != nil {
			return err
		}
		if err := putTenant(tx, id, rec); err != nil {
			return err
		}
		x = rec.tenant(id)
		if c.also == nil {
			return nil
		}
		return c.also(tx, x)
	})
	if err != nil {
		err = s.storeError(err)
		s.failed(event, err)
		return nil, err
	}
	s.tenants.put(x)
	s.gauges()
	return x, nil
}

// named returns the tenant of the route's argument, also one being deleted.
func (s *Service) named(a *macronode.Admitted) (*tenant, error) {
	if err := operator(a); err != nil {
		return nil, err
	}
	x := s.tenants.find(a.Arg("tenant"))
	if x == nil {
		return nil, noTenant()
	}
	return x, nil
}

func (s *Service) showTenant(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	x, err := s.named(a)
	if err != nil {
		return nil, err
	}
	return jsonReply(200, show(x))
}

func (s *Service) listTenants(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := operator(a); err != nil {
		return nil, err
	}
	limit, err := pageLimit(a)
	if err != nil {
		return nil, err
	}
	var from *macronode.TenantID
	if text := a.Arg("cursor"); text != "" {
		id, err := macronode.ParseTenantID(text)
		if err != nil {
			return nil, badCursor()
		}
		from = &id
	}
	page := TenantList{Tenants: []Tenant{}}
	err = s.kv.View(ctx, func(r store.Reader) error {
		return s.store.scanTenants(r, from, func(x *tenant) bool {
			if len(page.Tenants) == limit {
				page.Cursor = page.Tenants[limit-1].ID
				return false
			}
			page.Tenants = append(page.Tenants, show(x))
			return true
		})
	})
	if err != nil {
		return nil, s.storeError(err)
	}
	return jsonReply(200, page)
}

// setSuspended returns the handler of suspend or resume. Doing it twice is no
// error.
func (s *Service) setSuspended(on bool) idem.Handler {
	kind := "tenant.resume"
	if on {
		kind = "tenant.suspend"
	}
	return func(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
		x, err := s.named(a)
		if err != nil {
			return nil, err
		}
		if err := noBody(body); err != nil {
			return nil, err
		}
		if builtin(x.ID) {
			return nil, macronode.Errorf(macronode.Invalid, "the built-in tenants can not be suspended")
		}
		var reply *macronode.Reply
		_, err = s.modify(ctx, x.ID, change{
			actor: a.Actor(), kind: kind, frees: on,
			edit: func(r *tenantRecord) error { r.Suspended = on; return nil },
			also: s.keepShown(claim, &reply),
		})
		return reply, err
	}
}

func (s *Service) putQuota(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	x, err := s.named(a)
	if err != nil {
		return nil, err
	}
	var req QuotaChange
	if err := strict.Decode(body, &req); err != nil {
		return nil, err
	}
	if _, err := req.apply(x.Quota); err != nil {
		return nil, err
	}
	var reply *macronode.Reply
	_, err = s.modify(ctx, x.ID, change{
		actor: a.Actor(), kind: "tenant.quota", attrs: req.attrs(),
		edit: func(r *tenantRecord) (err error) { r.Quota, err = req.apply(r.Quota); return err },
		also: s.keepShown(claim, &reply),
	})
	return reply, err
}

// keepShown makes the tenant as changed the reply, and keeps it as the answer of
// the call's idempotency key, in the transaction of the change.
func (s *Service) keepShown(claim *idem.Claim, reply **macronode.Reply) func(store.Tx, *tenant) error {
	return func(tx store.Tx, x *tenant) error {
		r, err := jsonReply(200, show(x))
		if err != nil {
			return err
		}
		*reply = r
		return claim.Keep(tx, r)
	}
}

// attrs tells audit what a change set.
func (c *QuotaChange) attrs() map[string]any {
	out := map[string]any{}
	for name, v := range map[string]*int64{
		"requests_per_s": c.RequestsPerSec, "request_burst": c.RequestBurst, "bytes_per_s": c.BytesPerSec,
		"byte_burst": c.ByteBurst, "in_flight": c.InFlight, "stored_bytes": c.StoredBytes, "objects": c.Objects,
		"queue_depth": c.QueueDepth, "weight": c.Weight,
	} {
		if v != nil {
			out[name] = *v
		}
	}
	return out
}

func (s *Service) usage(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	x, err := s.named(a)
	if err != nil {
		return nil, err
	}
	bytes, objects, err := s.stored(ctx, x.ID)
	if err != nil {
		return nil, err
	}
	return jsonReply(200, Usage{
		ID: x.ID.String(), Label: x.Label, StoredBytes: bytes, Objects: objects, InFlight: s.inFlight(x.ID), Quota: x.Quota,
	})
}

// Ensure returns the tenant with the label as it is, or makes it with this id
// (zero: a new one) and quota. Conflict where the label is another id's, or the
// id was used for another tenant. It is for the node itself, at its first start.
func (s *Service) Ensure(ctx context.Context, id macronode.TenantID, label string, quota macronode.Quota) (*macronode.Tenant, error) {
	if x := s.tenants.byLabel(label); x != nil {
		if x.deleting || !id.IsZero() && x.ID != id {
			return nil, macronode.Errorf(macronode.Conflict, "the label %q is taken", label)
		}
		return &x.Tenant, nil
	}
	if id.IsZero() {
		var err error
		if id, err = s.newID(); err != nil {
			return nil, err
		}
	}
	x, err := s.create(ctx, "node", id, label, quota, nil)
	if err != nil {
		return nil, err
	}
	return &x.Tenant, nil
}

// SetQuota replaces a tenant's quota, for the node itself (quotas of a policy
// bundle, for instance).
func (s *Service) SetQuota(ctx context.Context, id macronode.TenantID, quota macronode.Quota) error {
	_, err := s.modify(ctx, id, change{
		actor: "node", kind: "tenant.quota", edit: func(r *tenantRecord) error { r.Quota = quota; return nil },
	})
	return err
}
