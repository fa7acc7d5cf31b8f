// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package index

import (
	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/index/manifest"
)

// Resolved is what a name or an address stands for.
type Resolved struct {
	Target string        `json:"target"` // as it was asked for
	Addr   string        `json:"addr"`
	Name   *ResolvedName `json:"name,omitempty"` // where a name was asked for
	// Object is missing where a name points at what nobody has, or nobody could
	// be asked for.
	Object   *ResolvedObject   `json:"object,omitempty"`
	Manifest *ResolvedManifest `json:"manifest,omitempty"`
	// Incomplete names what could not be asked: names, objects, peers, manifest.
	Incomplete []string `json:"incomplete,omitempty"`
	Generation uint64   `json:"generation"`
}

// ResolvedName is the version of a name that counts.
type ResolvedName struct {
	Name    string            `json:"name"`
	Version uint64            `json:"version"`
	TTL     int64             `json:"ttl_s,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
	SetMS   int64             `json:"set_ms,omitempty"`
}

// ResolvedObject is an object, here or at a peer. The type of a peer's is that peer's word.
type ResolvedObject struct {
	Size        int64  `json:"size"`
	ContentType string `json:"content_type"`
	CreatedMS   int64  `json:"created_ms,omitempty"`
	Local       bool   `json:"local"`
}

// ResolvedManifest is a manifest's content.
type ResolvedManifest struct {
	manifest.Summary
	Problem string           `json:"problem,omitempty"` // malformed, too_large
	Entries []manifest.Entry `json:"entries,omitempty"`
	Cursor  string           `json:"cursor,omitempty"`
}

// Provider is a node that has an object.
type Provider struct {
	NodeID string `json:"node_id"`
	Local  bool   `json:"local"`
}

// Providers are the nodes that have an object: this one, then the others, those that
// answered fastest first.
type Providers struct {
	Addr       string     `json:"addr"`
	Local      bool       `json:"local"`
	Providers  []Provider `json:"providers"`
	Incomplete []string   `json:"incomplete,omitempty"`
	Generation uint64     `json:"generation"`
}

// Routes implements macronode.Service.
func (s *Service) Routes() []macronode.Route {
	after := macronode.Param{Name: "after", Type: "integer", Text: "a generation: the answer holds it, or is refused with 412"}
	resolve := macronode.Binding{
		Op: "index.resolve", Service: Name, Method: "GET", Pattern: "/v1/resolve/{target}", OAP: macronode.AppIndex,
		Action: "index:read", Resource: macronode.NameResource, ResourceArg: "target",
		Class: macronode.CoreRead, Cost: 1, MaxBody: macronode.BodyNone,
		Doc: macronode.Doc{
			Summary: "Say what a name or an address stands for: the object, the version of the name, and what a manifest holds",
			Query: []macronode.Param{
				after,
				{Name: "path", Type: "string", Text: "of a manifest: the entry of this path"},
				{Name: "prefix", Type: "string", Text: "of a manifest: entries whose path begins so"},
				{Name: "limit", Type: "integer", Text: "of a manifest: how many entries to list, 0 to 1000; default none, with prefix or cursor 100"},
				{Name: "cursor", Type: "string", Text: "the last page's cursor"},
			},
			Response: Resolved{},
			Kinds:    []macronode.Kind{macronode.NotFound, macronode.Invalid, macronode.TooLarge, macronode.PreconditionFailed, macronode.Unavailable},
		},
	}
	providers := macronode.Binding{
		Op: "index.providers", Service: Name, Method: "GET", Pattern: "/v1/providers/{addr}", OAP: macronode.AppIndex,
		Action: "index:read", Resource: macronode.ObjectResource, ResourceArg: "addr",
		Class: macronode.CoreRead, Cost: 1, MaxBody: macronode.BodyNone,
		Doc: macronode.Doc{
			Summary: "Say which nodes have an object: this one, and those that announced it", Query: []macronode.Param{after}, Response: Providers{},
			Kinds: []macronode.Kind{macronode.NotFound, macronode.PreconditionFailed, macronode.Unavailable},
		},
	}
	return []macronode.Route{{Binding: resolve, Handler: s.resolve}, {Binding: providers, Handler: s.providers}}
}
