// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/ops/drillbook"
)

// maxAdminBody bounds the bodies of admin routes, in bytes.
const maxAdminBody = 4 << 10

// Routes implements macronode.Service.
func (s *Service) Routes() []macronode.Route {
	routes := append(s.probes(), s.documents()...)
	return append(routes, s.admin()...)
}

func (s *Service) probes() []macronode.Route {
	probe := func(op macronode.Op, path string, h macronode.Handler, doc macronode.Doc) macronode.Route {
		return macronode.Route{Handler: h, Binding: macronode.Binding{
			Op: op, Service: Name, Method: "GET", Pattern: path, OAP: macronode.AppNode, Resource: macronode.NodeResource,
			Class: macronode.Control, MaxBody: macronode.BodyNone, Public: true, PlainOK: true, Doc: doc,
		}}
	}
	return []macronode.Route{
		probe("healthz", "/healthz", s.healthz, macronode.Doc{Summary: "The process can answer", Response: Health{}}),
		probe("readyz", "/readyz", s.readyz, macronode.Doc{Summary: "The node may take traffic, and why not", ResponseType: "application/json", Status: []int{200, 503}}),
		probe("version", "/version", s.version, macronode.Doc{Summary: "Which binary, features and config this is", ResponseType: "application/json"}),
		probe("metrics", "/metrics", s.metrics, macronode.Doc{
			Summary:      "Metrics as Prometheus text, or OpenMetrics where Accept asks for it",
			Headers:      []macronode.Param{{Name: "Accept", Type: "string", Text: "text/plain or application/openmetrics-text"}},
			ResponseType: "text/plain",
		}),
	}
}

func (s *Service) documents() []macronode.Route {
	doc := func(op macronode.Op, path string, h macronode.Handler, d macronode.Doc) macronode.Route {
		return macronode.Route{Handler: h, Binding: macronode.Binding{
			Op: op, Service: Name, Method: "GET", Pattern: path, OAP: macronode.AppNode, Action: "docs:read", Resource: macronode.NodeResource,
			Class: macronode.CoreRead, Cost: 1, MaxBody: macronode.BodyNone, Doc: d,
		}}
	}
	return []macronode.Route{
		doc("openapi", "/openapi.json", s.openAPI, macronode.Doc{Summary: "This API as OpenAPI 3.1", ResponseType: "application/json"}),
		doc("schema", "/schemas/{name}", s.schema, macronode.Doc{
			Summary: "The JSON Schema of a document; the name ends in .json", ResponseType: "application/schema+json", Kinds: []macronode.Kind{macronode.NotFound},
		}),
	}
}

func (s *Service) admin() []macronode.Route {
	read := func(op macronode.Op, path string, action macronode.Action, h macronode.Handler, d macronode.Doc) macronode.Route {
		return macronode.Route{Handler: h, Binding: macronode.Binding{
			Op: op, Service: Name, Method: "GET", Pattern: path, OAP: macronode.AppNode, Action: action, Resource: macronode.NodeResource,
			Class: macronode.Control, MaxBody: macronode.BodyNone, Doc: d,
		}}
	}
	act := func(op macronode.Op, verb string, action macronode.Action, h actor, d macronode.Doc) macronode.Route {
		return macronode.Route{Handler: s.once(h), Binding: macronode.Binding{
			Op: op, Service: Name, Method: "POST", Pattern: "/v1/admin/" + verb, OAP: macronode.AppNode, Action: action, Resource: macronode.NodeResource,
			Class: macronode.Control, MaxBody: maxAdminBody, Write: true, Audit: macronode.AuditBefore, Doc: d,
		}}
	}
	events := read("admin.events", "/v1/admin/events", "node:events", s.events, macronode.Doc{
		Summary: "Recent kernel events; as they happen where Accept is text/event-stream",
		Query: []macronode.Param{
			{Name: "after", Type: "integer", Text: "sequence number after which to begin; 0: the oldest kept"},
			{Name: "limit", Type: "integer", Text: "at most so many events, 1 to 1024; 100 where missing"},
		},
		Headers: []macronode.Param{
			{Name: "Accept", Type: "string", Text: "application/json or text/event-stream"},
			{Name: "Last-Event-ID", Type: "string", Text: "as after, when a stream is taken up again"},
		},
		Response: EventPage{},
	})
	events.LongRunning = true
	force := act("admin.breaker.force", "breakers/{name}", "node:breaker", s.forceBreaker, macronode.Doc{
		Summary: "Force a breaker open or closed, or leave it to itself again; nothing of this outlives the process",
		Request: BreakerRequest{}, Response: BreakerStatus{}, Kinds: []macronode.Kind{macronode.NotFound, macronode.Invalid, macronode.Unavailable},
	})
	force.Handler = s.inMemory(s.forceBreaker)
	return []macronode.Route{
		read("admin.status", "/v1/admin/status", "node:status", s.status, macronode.Doc{Summary: "State, services, drain and load of the node", Response: Status{}}),
		events,
		read("admin.breakers", "/v1/admin/breakers", "node:breaker", s.breakers, macronode.Doc{
			Summary: "The circuit breakers before the node's dependencies", Response: BreakerList{},
		}),
		force,
		read("admin.why", "/v1/admin/why/{corr_id}", "node:status", s.why, macronode.Doc{
			Summary:  "Why the calls with this correlation id were refused, and what would have let them pass; of the last few thousand refusals",
			Response: s.cfg.Why.Answer(), Kinds: []macronode.Kind{macronode.NotFound},
		}),
		act("admin.reload", "reload", "node:reload", s.reload, macronode.Doc{
			Summary: "Read the config bundle again, verify all of it, then apply all of it", Response: Applied{},
			Kinds: []macronode.Kind{macronode.Invalid, macronode.Conflict},
		}),
		act("admin.drain", "drain", "node:drain", s.drain, macronode.Doc{Summary: "Stop taking new work and finish the old", Response: Progress{}, Status: []int{202}}),
		act("admin.undrain", "undrain", "node:drain", s.undrain, macronode.Doc{
			Summary: "Take a drain back", Response: Progress{}, Kinds: []macronode.Kind{macronode.Conflict},
		}),
		act("admin.shutdown", "shutdown", "node:shutdown", s.shutdown, macronode.Doc{Summary: "Drain, then stop the node", Response: Accepted{}, Status: []int{202}}),
		read("admin.drills", "/v1/admin/drills", "node:drill", s.drills, macronode.Doc{Summary: "When each drill was last carried out, and is due again", Response: DrillList{}}),
		act("admin.drill.record", "drills", "node:drill", s.recordDrill, macronode.Doc{
			Summary: "Put a drill that was carried out on record; audited", Request: drillbook.Result{}, Response: drillbook.Entry{},
			Kinds: []macronode.Kind{macronode.Invalid},
		}),
		act("admin.drill.service-crash", "drills/service-crash", "node:drill", s.crash, macronode.Doc{
			Summary: "Make a service crash, where the config allows drills", Request: CrashRequest{}, Response: Accepted{}, Status: []int{202},
			Kinds: []macronode.Kind{macronode.Denied, macronode.NotFound, macronode.Conflict, macronode.Invalid},
		}),
	}
}

// actor is the work of a route that changes something.
type actor func(ctx context.Context, a *macronode.Admitted, body []byte) (*macronode.Reply, error)
