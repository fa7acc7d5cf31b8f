// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package facettest drives the routes of a facet as the wall does, for tests.
package facettest

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

// Tenant is one without limits; each n is another.
func Tenant(n byte) *macronode.Tenant {
	return &macronode.Tenant{ID: macronode.TenantID{15: n}, Label: "acme", Quota: macronode.UnlimitedQuota()}
}

// Admit makes an admitted call, which only the wall and tests may: budget is how many
// bytes the reply may have.
type Admit func(c *macronode.Call, t *macronode.Tenant, budget int64) *macronode.Admitted

// Driver calls routes.
type Driver struct {
	t      testing.TB
	admit  Admit
	routes map[macronode.Op]macronode.Route
}

// Drive returns a driver of these routes.
func Drive(t testing.TB, admit Admit, routes []macronode.Route) *Driver {
	d := &Driver{t: t, admit: admit, routes: make(map[macronode.Op]macronode.Route)}
	for _, r := range routes {
		d.routes[r.Op] = r
	}
	return d
}

// Request is a call to make.
type Request struct {
	Op     macronode.Op
	Tenant *macronode.Tenant // nil: Tenant(7)
	Path   map[string]string // parameters
	Query  map[string]string
	Body   any    // as JSON; nil: none
	Raw    string // instead of Body
	Header macronode.Header
	Key    string // Idempotency-Key
	Budget int64  // bytes of the reply; 0: no limit
}

// Reply makes the call and returns what the handler does.
func (d *Driver) Reply(ctx context.Context, r Request) (*macronode.Reply, error) {
	d.t.Helper()
	route, ok := d.routes[r.Op]
	if !ok {
		d.t.Fatalf("no operation %s", r.Op)
	}
	body := []byte(r.Raw)
	if r.Body != nil {
		var err error
		if body, err = json.Marshal(r.Body); err != nil {
			d.t.Fatal(err)
		}
	}
	q := url.Values{}
	for name, v := range r.Query {
		q.Set(name, v)
	}
	if r.Header == nil {
		r.Header = macronode.Header{}
	}
	if r.Tenant == nil {
		r.Tenant = Tenant(7)
	}
	c := &macronode.Call{Method: route.Method, Query: q.Encode(), Header: r.Header, IdempotencyKey: r.Key, CorrID: "corr", Binding: &route.Binding,
		Length: int64(len(body)), Body: bytes.NewReader(body)}
	for name, v := range r.Path {
		if !strings.Contains(route.Pattern, "{"+name+"}") || !c.AddParam(name, v) {
			d.t.Fatalf("%s has no parameter %s", r.Op, name)
		}
	}
	if r.Budget == 0 {
		r.Budget = macronode.NoLimit
	}
	return route.Handler(ctx, d.admit(c, r.Tenant, r.Budget))
}

// Do makes a call whose reply has no stream.
func (d *Driver) Do(r Request) (*macronode.Reply, error) {
	d.t.Helper()
	return d.Reply(d.t.Context(), r)
}

// Ask makes a call that must work, reads its answer into v, which may be nil, and
// returns its status.
func (d *Driver) Ask(r Request, v any) int {
	d.t.Helper()
	reply, err := d.Do(r)
	if err != nil {
		d.t.Fatalf("%s %v: %v", r.Op, r.Query, err)
	}
	if v != nil {
		dec := json.NewDecoder(bytes.NewReader(reply.Body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(v); err != nil {
			d.t.Fatalf("%s: the answer is not its document: %v", r.Op, err)
		}
	}
	return reply.Status
}

// Refuse makes a call that must be refused with this kind.
func (d *Driver) Refuse(r Request, kind macronode.Kind) *macronode.Error {
	d.t.Helper()
	_, err := d.Do(r)
	if err == nil || macronode.KindOf(err) != kind {
		d.t.Errorf("%s %v: %v, want %s", r.Op, r.Query, err, kind)
		return &macronode.Error{}
	}
	return macronode.AsError(err)
}
