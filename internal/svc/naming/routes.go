// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import "github.com/rustyonions/macronode"

// The actions.
const (
	actSet    macronode.Action = "name:set"
	actGet    macronode.Action = "name:get"
	actDelete macronode.Action = "name:delete"
	actList   macronode.Action = "name:list"
)

const (
	maxSetBytes    = 16 << 10
	maxImportBytes = 4 << 20
	typeNDJSON     = "application/x-ndjson"
	typeEvents     = "text/event-stream"
	typeEnvelope   = "application/vnd.dsse.envelope.v1+json"
)

var (
	paramPrefix = macronode.Param{Name: "prefix", Type: "string", Text: "beginning of the names wanted, such as site."}
	paramCursor = macronode.Param{Name: "cursor", Type: "string", Text: "the last page's cursor"}
	paramLimit  = macronode.Param{Name: "limit", Type: "integer", Text: "1 to 1000, default 100"}
	ifMatch     = macronode.Param{Name: "If-Match", Type: "string", Text: "the ETag that the name must have: what another changed meanwhile is not overwritten"}
)

// Routes implements macronode.Service.
func (s *Service) Routes() []macronode.Route {
	routes := append(s.oneName(), s.allNames()...)
	for i := range routes {
		b := &routes[i].Binding
		b.Service, b.OAP, b.Resource = Name, macronode.AppName, macronode.NameResource
	}
	return routes
}

// oneName are the routes about one name.
func (s *Service) oneName() []macronode.Route {
	const pattern = "/v1/names/{name}"
	object := macronode.Binding{
		Op: "name.object", Method: "GET", Pattern: "/n/{tenant}/{name}", Action: actGet, ResourceArg: "name", Class: macronode.CoreRead, Streaming: true,
		Doc: macronode.Doc{
			Summary: "Read the object that a name points at, whole or in ranges; it may be kept for the name's ttl_s",
			Headers: []macronode.Param{
				{Name: "Range", Type: "string", Text: "as of an object"},
				{Name: "If-Range", Type: "string", Text: "as of an object"},
				{Name: "If-None-Match", Type: "string", Text: "ETags of objects, none of which may be the name's"},
			},
			ResponseType: "application/octet-stream", Status: []int{200, 206, 304},
			Kinds: []macronode.Kind{macronode.NotFound, macronode.Invalid, macronode.RangeNotSatisfiable, macronode.PreconditionFailed, macronode.Integrity},
		},
	}
	stat := object
	stat.Op, stat.Method = "name.object.stat", "HEAD"
	stat.Doc.Summary = "Learn the size and type of the object that a name points at"
	stat.Doc.Headers = object.Doc.Headers[2:]
	stat.Doc.Status = []int{200, 304}
	return []macronode.Route{
		{Handler: s.idem.Wrap(s.put), Binding: macronode.Binding{
			Op: "name.set", Method: "PUT", Pattern: pattern, Action: actSet, ResourceArg: "name", Class: macronode.CoreWrite, Cost: 2, MaxBody: maxSetBytes, Write: true,
			Doc: macronode.Doc{
				Summary: "Point a name at an object; the answer comes once it is durable", Request: Set{}, Response: Document{}, Status: []int{201, 200},
				Headers: []macronode.Param{ifMatch, {Name: "If-None-Match", Type: "string", Text: "*: the name must not be there yet"}},
				Kinds:   []macronode.Kind{macronode.Invalid, macronode.PreconditionFailed, macronode.QuotaObjects, macronode.DiskFull, macronode.IdempotencyMismatch, macronode.IdempotencyRunning},
			},
		}},
		{Handler: s.get, Binding: macronode.Binding{
			Op: "name.get", Method: "GET", Pattern: pattern, Action: actGet, ResourceArg: "name", Class: macronode.CoreRead,
			Doc: macronode.Doc{
				Summary: "Learn what a name points at", Response: Document{}, Status: []int{200, 304},
				Headers: []macronode.Param{{Name: "If-None-Match", Type: "string", Text: "the ETag that is known: 304 while it is the name's"}},
				Kinds:   []macronode.Kind{macronode.NotFound, macronode.Invalid, macronode.PreconditionFailed},
			},
		}},
		{Handler: s.idem.Wrap(s.drop), Binding: macronode.Binding{
			Op: "name.delete", Method: "DELETE", Pattern: pattern, Action: actDelete, ResourceArg: "name", Class: macronode.CoreWrite, Write: true,
			Doc: macronode.Doc{
				Summary: "Delete a name; the object stays", Status: []int{204}, Headers: []macronode.Param{ifMatch},
				Kinds: []macronode.Kind{macronode.NotFound, macronode.Invalid, macronode.PreconditionFailed, macronode.IdempotencyMismatch, macronode.IdempotencyRunning},
			},
		}},
		{Handler: s.history, Binding: macronode.Binding{
			Op: "name.history", Method: "GET", Pattern: pattern + "/history", Action: actGet, ResourceArg: "name", Class: macronode.CoreRead,
			Doc: macronode.Doc{
				Summary: "List a name's versions, newest first; of a deleted name too, while it is remembered", Response: History{},
				Query: []macronode.Param{paramCursor, paramLimit}, Kinds: []macronode.Kind{macronode.NotFound, macronode.Invalid},
			},
		}},
		{Handler: s.object, Binding: object},
		{Handler: s.objectStat, Binding: stat},
	}
}

// allNames are the routes about many names. They stand beside /v1/names, where each
// word can be a name.
func (s *Service) allNames() []macronode.Route {
	return []macronode.Route{
		{Handler: s.list, Binding: macronode.Binding{
			Op: "name.list", Method: "GET", Pattern: "/v1/names", Action: actList, Class: macronode.CoreRead, Cost: 2,
			Doc: macronode.Doc{Summary: "List the tenant's names in order", Query: []macronode.Param{paramPrefix, paramCursor, paramLimit}, Response: List{}},
		}},
		{Handler: s.status, Binding: macronode.Binding{
			Op: "name.status", Method: "GET", Pattern: "/v1/naming", Action: actList, Class: macronode.CoreRead,
			Doc: macronode.Doc{Summary: "Learn how many names there are, and may be", Response: Status{}},
		}},
		{Handler: s.idem.Wrap(s.bulk), Binding: macronode.Binding{
			Op: "name.import", Method: "POST", Pattern: "/v1/naming/import", Action: actSet, Class: macronode.CoreWrite, Cost: 10, MaxBody: maxImportBytes, Write: true,
			Doc: macronode.Doc{
				Summary: "Set up to 1000 names, a JSON document a line as export writes them; what can be done is done at once, the rest is told", RequestType: typeNDJSON, Response: Imported{},
				Query: []macronode.Param{{Name: "all", Type: "boolean", Text: "true: tell of lines that were done too"}},
				Kinds: []macronode.Kind{macronode.TooLarge, macronode.DiskFull, macronode.IdempotencyMismatch, macronode.IdempotencyRunning},
			},
		}},
		{Handler: s.export, Binding: macronode.Binding{
			Op: "name.export", Method: "GET", Pattern: "/v1/naming/export", Action: actList, Class: macronode.CoreRead, Cost: 10, Streaming: true,
			Doc: macronode.Doc{Summary: "Read all names, a JSON document a line", Query: []macronode.Param{paramPrefix}, ResponseType: typeNDJSON},
		}},
		{Handler: s.watch, Binding: macronode.Binding{
			Op: "name.watch", Method: "GET", Pattern: "/v1/naming/watch", Action: actList, Class: macronode.CoreRead, LongRunning: true,
			Doc: macronode.Doc{
				Summary: "Follow changes of names as server-sent events: start, set, delete, reset", ResponseType: typeEvents,
				Query:   []macronode.Param{paramPrefix, {Name: "cursor", Type: "string", Text: "go on after this event; instead of Last-Event-ID. Missing: from now on"}},
				Headers: []macronode.Param{{Name: "Last-Event-ID", Type: "string", Text: "id of the last event of a watch that broke off"}},
			},
		}},
		{Handler: s.signed, Binding: macronode.Binding{
			Op: "name.document", Method: "GET", Pattern: "/v1/naming/document", Action: actList, Class: macronode.CoreRead, Cost: 10,
			Doc: macronode.Doc{
				Summary: "Read the tenant's names as a document that the node signed (DSSE), page by page; it verifies offline with the node's id alone",
				Query:   []macronode.Param{paramCursor}, ResponseType: typeEnvelope, Kinds: []macronode.Kind{macronode.Unavailable},
			},
		}},
	}
}
