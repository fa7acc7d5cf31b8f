// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import "github.com/rustyonions/macronode"

// Routes implements macronode.Service. Writes record what they do themselves,
// with what the wall cannot know (ids, kid), before they do it; so the wall adds
// records of refusals alone.
func (s *Service) Routes() []macronode.Route {
	return append(s.tenantRoutes(), s.capRoutes()...)
}

var pageParams = []macronode.Param{
	{Name: "cursor", Type: "string", Text: "the cursor of the page before"},
	{Name: "limit", Type: "integer", Text: "entries a page, 1 to 1000; 100 where missing"},
}

func (s *Service) tenantRoutes() []macronode.Route {
	read := func(op, pattern, summary string, response any) macronode.Binding {
		return macronode.Binding{
			Op: macronode.Op(op), Service: Name, Method: "GET", Pattern: pattern, OAP: macronode.AppAccess, Action: "tenant:admin", Resource: macronode.NodeResource,
			Class: macronode.Control, Cost: 1, MaxBody: macronode.BodyNone,
			Doc: macronode.Doc{Summary: summary, Response: response, Kinds: []macronode.Kind{macronode.NotFound}},
		}
	}
	write := func(op, method, pattern, summary string) macronode.Binding {
		return macronode.Binding{
			Op: macronode.Op(op), Service: Name, Method: method, Pattern: pattern, OAP: macronode.AppAccess, Action: "tenant:admin", Resource: macronode.NodeResource,
			Class: macronode.Control, Cost: 2, MaxBody: maxBody, Write: true,
			Doc: macronode.Doc{Summary: summary, Response: Tenant{}, Kinds: []macronode.Kind{macronode.NotFound, macronode.Invalid}},
		}
	}
	list := read("tenant.list", "/v1/tenants", "List tenants", TenantList{})
	list.Doc.Query, list.Doc.Kinds = pageParams, nil
	create := write("tenant.create", "POST", "/v1/tenants", "Make a tenant; a quota that is not named has no limit")
	create.Doc.Request, create.Doc.Status = NewTenant{}, []int{201}
	create.Doc.Kinds = []macronode.Kind{macronode.Conflict, macronode.Invalid}
	quota := write("tenant.quota", "PUT", "/v1/tenants/{tenant}/quota", "Change a tenant's quota, which holds from the next call on; what is not named stays")
	quota.Doc.Request = QuotaChange{}
	drop := write("tenant.delete", "DELETE", "/v1/tenants/{tenant}",
		"Delete a tenant: its capabilities are dead at once, its data is purged; 202 while that goes on")
	drop.Doc.Status = []int{204, 202}
	return []macronode.Route{
		{Binding: create, Handler: s.idem.Wrap(s.createTenant)},
		{Binding: list, Handler: s.listTenants},
		{Binding: read("tenant.show", "/v1/tenants/{tenant}", "Show a tenant, named by id or label", Tenant{}), Handler: s.showTenant},
		{Binding: drop, Handler: s.idem.Wrap(s.deleteTenant)},
		{Binding: write("tenant.suspend", "POST", "/v1/tenants/{tenant}/suspend", "Refuse all calls of a tenant until it is resumed"),
			Handler: s.idem.Wrap(s.setSuspended(true))},
		{Binding: write("tenant.resume", "POST", "/v1/tenants/{tenant}/resume", "End a suspension"),
			Handler: s.idem.Wrap(s.setSuspended(false))},
		{Binding: quota, Handler: s.idem.Wrap(s.putQuota)},
		{Binding: read("tenant.usage", "/v1/tenants/{tenant}/usage", "Show what a tenant uses", Usage{}), Handler: s.usage},
	}
}

func (s *Service) capRoutes() []macronode.Route {
	mint := macronode.Binding{
		Op: "cap.mint", Service: Name, Method: "POST", Pattern: "/v1/caps", OAP: macronode.AppAccess, Action: "cap:mint", Resource: macronode.NodeResource,
		Class: macronode.Control, Cost: 2, MaxBody: maxBody, Write: true,
		Doc: macronode.Doc{
			Summary: "Mint a capability. A tenant mints for itself, within the caveats of the capability it shows; an operator for any tenant",
			Request: NewCap{}, Response: Minted{}, Status: []int{201},
			Kinds: []macronode.Kind{macronode.Invalid, macronode.NotFound, macronode.TenantMismatch, macronode.CaveatDenied},
		},
	}
	revoke := mint
	revoke.Op, revoke.Pattern, revoke.Action = "cap.revoke", "/v1/caps/revoke", "cap:revoke"
	revoke.Doc = macronode.Doc{
		Summary: "Revoke a capability, and all that was narrowed from it, by the id of any of its links; or all that a minting key made, by its kid; or all of a tenant's, by the tenant alone",
		Request: Revoke{}, Response: Revoked{},
		Kinds: []macronode.Kind{macronode.Invalid, macronode.NotFound, macronode.TenantMismatch, macronode.Conflict, macronode.QuotaObjects},
	}
	list := mint
	list.Op, list.Method, list.Pattern, list.Action = "cap.revocations", "GET", "/v1/caps/revocations", "cap:revoke"
	list.Cost, list.MaxBody, list.Write = 1, macronode.BodyNone, false
	list.Doc = macronode.Doc{Summary: "List revocations: all for an operator, its own for a tenant", Query: pageParams, Response: RevocationList{}}
	export := list
	export.Op, export.Pattern = "cap.revocations.export", "/v1/caps/revocations/export"
	export.Doc = macronode.Doc{
		Summary: "The same list, a page at a time, as DSSE envelopes that the node signed; see package revocation", Query: pageParams,
		ResponseType: "application/vnd.dsse.envelope.v1+json",
	}
	adopt := mint
	adopt.Op, adopt.Pattern, adopt.Action, adopt.MaxBody = "cap.revocations.import", "/v1/caps/revocations/import", "cap:revoke", maxListBody
	adopt.Doc = macronode.Doc{
		Summary:     "Add what a page that this node signed revokes, and is not revoked: after a restore. An operator's",
		RequestType: "application/vnd.dsse.envelope.v1+json", Response: Imported{}, Kinds: []macronode.Kind{macronode.Invalid},
	}
	return []macronode.Route{
		{Binding: export, Handler: s.exportRevocations},
		{Binding: adopt, Handler: s.idem.Wrap(s.importRevocations)},
		{Binding: mint, Handler: s.idem.Wrap(s.mintCap)},
		{Binding: revoke, Handler: s.idem.Wrap(s.revokeCap)},
		{Binding: list, Handler: s.listRevocations},
	}
}
