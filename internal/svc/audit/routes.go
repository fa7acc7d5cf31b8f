// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/tlog"
)

const actRead macronode.Action = "audit:read"

// Records is a page of records. Each is the entry of the log, byte for byte once
// white space is removed.
type Records struct {
	Records []json.RawMessage `json:"records"`
	// Cursor asks for the next page; empty where there is none.
	Cursor string `json:"cursor"`
}

// Receipt is a record with the proof that a signed log holds it.
type Receipt = tlog.Receipt

// Consistency is the proof that one tree extends another, and the newest checkpoint.
type Consistency struct {
	tlog.Consistency
	Checkpoint string `json:"checkpoint"`
}

// Routes implements macronode.Service. What concerns the log as a whole is the
// operator's; records are of the caller's own tenant, and for an operator all.
func (s *Service) Routes() []macronode.Route {
	log := func(op macronode.Op, path string, h macronode.Handler, d macronode.Doc) macronode.Route {
		return macronode.Route{Handler: h, Binding: macronode.Binding{Op: op, Pattern: path, Resource: macronode.NodeResource, Cost: 1, Doc: d}}
	}
	own := func(op macronode.Op, path string, h macronode.Handler, d macronode.Doc) macronode.Route {
		r := log(op, path, h, d)
		r.Resource, r.Cost = macronode.AccountResource, 2
		return r
	}
	missing := []macronode.Kind{macronode.NotFound}
	tail := own("audit.tail", "/v1/audit/tail", s.tail, macronode.Doc{
		Summary: "Follow the records as server-sent events: event record, its entry as data, its index as id",
		Query: []macronode.Param{
			{Name: "stream", Type: "string", Text: "of this stream alone; an operator's choice"},
			{Name: "from", Type: "integer", Text: "index of the first record wanted"},
			{Name: "after", Type: "integer", Text: "index of the last record that was seen; missing: from now on"},
		},
		Headers:      []macronode.Param{{Name: "Last-Event-ID", Type: "string", Text: "the same, of a stream that broke off"}},
		ResponseType: "text/event-stream",
	})
	tail.LongRunning = true
	export := log("audit.export", "/v1/audit/export", s.export, macronode.Doc{
		Summary: "All records with their hashes and the newest checkpoint, to be verified offline", ResponseType: "application/octet-stream", Kinds: missing,
	})
	export.Streaming, export.Cost = true, 8
	routes := []macronode.Route{
		log("audit.checkpoint", "/v1/audit/log/checkpoint", s.checkpoint, macronode.Doc{Summary: "The newest signed checkpoint (C2SP tlog-checkpoint)", ResponseType: "text/plain; charset=utf-8", Kinds: missing}),
		log("audit.cosigned", "/v1/audit/log/cosigned", s.cosigned, macronode.Doc{
			Summary: "The newest checkpoint that a quorum of witnesses cosigned (C2SP tlog-cosignature)", ResponseType: "text/plain; charset=utf-8", Kinds: missing,
		}),
		log("audit.tile", "/v1/audit/log/tile/{level}/{rest...}", s.tile, macronode.Doc{
			Summary: "A tile of hashes, or of entries where level is entries (C2SP tlog-tiles)", ResponseType: "application/octet-stream", Kinds: missing,
		}),
		log("audit.key", "/v1/audit/log/key", s.key(tlog.Ed25519), macronode.Doc{Summary: "The key that verifies checkpoints, in note form", ResponseType: "text/plain; charset=utf-8", Kinds: missing}),
		log("audit.key.mldsa", "/v1/audit/log/key-mldsa", s.key(tlog.MLDSA44), macronode.Doc{Summary: "The post-quantum half of a hybrid key, in note form", ResponseType: "text/plain; charset=utf-8", Kinds: missing}),
		log("audit.consistency", "/v1/audit/consistency", s.consistency, macronode.Doc{
			Summary: "Prove that the tree under the newest checkpoint extends an older one",
			Query:   []macronode.Param{{Name: "from", Type: "integer", Text: "size of the older tree"}, {Name: "to", Type: "integer", Text: "size of the newer one; missing: the newest checkpoint's"}},
			// The proof is of the type tlog.Consistency, and beside it the checkpoint.
			Response: Consistency{}, Kinds: missing,
		}),
		export,
		own("audit.records", "/v1/audit/records", s.records, macronode.Doc{
			Summary: "Records by stream, kind, actor, reason and time",
			Query: []macronode.Param{
				{Name: "stream", Type: "string", Text: "node, or tenant/ID; an operator's choice: others see their own"},
				{Name: "kind", Type: "string", Text: "what happened, such as cap.mint"},
				{Name: "actor", Type: "string", Text: "who did it"},
				{Name: "reason", Type: "string", Text: "code of a refusal"},
				{Name: "from_ms", Type: "integer", Text: "not before this moment, in Unix milliseconds"},
				{Name: "to_ms", Type: "integer", Text: "before this moment"},
				{Name: "order", Type: "string", Text: "asc, or desc for the newest first"},
				{Name: "cursor", Type: "string", Text: "the last page's cursor"},
				{Name: "limit", Type: "integer", Text: "1 to 1000, default 100"},
			},
			Response: Records{},
		}),
		own("audit.receipt", "/v1/audit/receipt", s.receipt, macronode.Doc{
			Summary: "A record, the proof that the log holds it, and the checkpoint: verifies offline",
			Query: []macronode.Param{{Name: "seq", Type: "integer", Text: "index of the record"}, {Name: "hash", Type: "string", Text: "or its hash, b3:…"},
				{Name: "cosigned", Type: "boolean", Text: "true: under a checkpoint that a quorum of witnesses cosigned, once there is one"}},
			Response: Receipt{}, Kinds: missing,
		}),
		tail,
	}
	for i := range routes {
		b := &routes[i].Binding
		b.Service, b.Method, b.OAP, b.Action = Name, "GET", macronode.AppAudit, actRead
		b.Class, b.MaxBody = macronode.CoreRead, macronode.BodyNone
	}
	return routes
}
