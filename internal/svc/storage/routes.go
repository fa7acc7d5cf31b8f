// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import "github.com/rustyonions/macronode"

// Put is the answer to a put.
type Put struct {
	Addr    string `json:"addr"`
	Size    int64  `json:"size"`
	Existed bool   `json:"existed"`
}

// Entry is one object in a list.
type Entry struct {
	Addr        string `json:"addr"`
	Size        int64  `json:"size"`
	ContentType string `json:"content_type"`
	CreatedMS   int64  `json:"created_ms"`
}

// List is a page of a tenant's objects, in the order of their addresses. An
// empty cursor says that it is the last.
type List struct {
	Objects []Entry `json:"objects"`
	Cursor  string  `json:"cursor"`
}

// Routes implements macronode.Service.
func (s *Service) Routes() []macronode.Route {
	put := macronode.Binding{
		Op: "object.put", Service: Name, Method: "PUT", Pattern: "/o/{addr}", OAP: macronode.AppObject,
		Action: "object:put", Resource: macronode.ObjectResource, ResourceArg: "addr",
		Class: macronode.CoreWrite, Cost: 2, MaxBody: macronode.BodyObject, Streaming: true, Write: true,
		Doc: macronode.Doc{
			Summary: "Store an object whose bytes must have the address",
			Headers: []macronode.Param{
				{Name: "Content-Type", Type: "string", Text: "kept with this tenant's reference; application/octet-stream where missing"},
				{Name: "Content-Encoding", Type: "string", Text: "gzip or zstd: decoded before it is stored"},
			},
			RequestType: "application/octet-stream", Response: Put{}, Status: []int{201, 200},
			Kinds: []macronode.Kind{
				macronode.BadDigest, macronode.TooLarge, macronode.DecompressLimit, macronode.UnsupportedMedia,
				macronode.QuotaBytes, macronode.QuotaObjects, macronode.DiskFull,
				macronode.IdempotencyMismatch, macronode.IdempotencyRunning,
			},
		},
	}
	post := put
	post.Op, post.Method, post.Pattern, post.ResourceArg = "object.post", "POST", "/o", ""
	post.Aliases = []string{"POST /put"}
	post.Doc.Summary = "Store an object and learn its address"

	get := macronode.Binding{
		Op: "object.get", Service: Name, Method: "GET", Pattern: "/o/{addr}", OAP: macronode.AppObject,
		Action: "object:get", Resource: macronode.ObjectResource, ResourceArg: "addr",
		Class: macronode.CoreRead, Cost: 1, MaxBody: macronode.BodyNone, Streaming: true,
		Doc: macronode.Doc{
			Summary: "Read an object, whole or in ranges",
			Headers: []macronode.Param{
				{Name: "Accept", Type: "string", Text: "application/vnd.bao;group=4 or group=0: a Bao slice of the one range asked for, which verifies by itself"},
				{Name: "Range", Type: "string", Text: "bytes=…, up to 16 ranges; overlapping ones are merged"},
				{Name: "If-Range", Type: "string", Text: "the ETag without which Range does not count"},
				{Name: "If-Match", Type: "string", Text: "ETags, one of which must be the object's"},
				{Name: "If-None-Match", Type: "string", Text: "ETags, none of which may be the object's"},
			},
			ResponseType: "application/octet-stream", Status: []int{200, 206, 304},
			Kinds: []macronode.Kind{macronode.NotFound, macronode.RangeNotSatisfiable, macronode.PreconditionFailed, macronode.Integrity},
		},
	}
	stat := get
	stat.Op, stat.Method = "object.stat", "HEAD"
	stat.Doc.Summary = "Learn an object's size and type"
	stat.Doc.Headers = get.Doc.Headers[3:]
	stat.Doc.Status = []int{200, 304}
	stat.Doc.Kinds = []macronode.Kind{macronode.NotFound, macronode.PreconditionFailed}

	drop := macronode.Binding{
		Op: "object.delete", Service: Name, Method: "DELETE", Pattern: "/o/{addr}", OAP: macronode.AppObject,
		Action: "object:delete", Resource: macronode.ObjectResource, ResourceArg: "addr",
		Class: macronode.CoreWrite, Cost: 1, MaxBody: macronode.BodyNone, Write: true,
		Doc: macronode.Doc{
			Summary: "Drop the tenant's reference to an object", Status: []int{204},
			Kinds: []macronode.Kind{macronode.NotFound, macronode.IdempotencyMismatch, macronode.IdempotencyRunning},
		},
	}
	list := macronode.Binding{
		Op: "object.list", Service: Name, Method: "GET", Pattern: "/v1/objects", OAP: macronode.AppObject,
		Action: "object:list", Resource: macronode.ObjectResource,
		Class: macronode.CoreRead, Cost: 2, MaxBody: macronode.BodyNone,
		Doc: macronode.Doc{
			Summary: "List the tenant's objects by address",
			Query: []macronode.Param{
				{Name: "prefix", Type: "string", Text: "beginning of the addresses wanted, such as b3:0f"},
				{Name: "cursor", Type: "string", Text: "the last page's cursor"},
				{Name: "limit", Type: "integer", Text: "1 to 1000, default 100"},
			},
			Response: List{},
		},
	}
	return append(s.adminRoutes(), []macronode.Route{
		{Binding: put, Handler: s.put},
		{Binding: post, Handler: s.post},
		{Binding: get, Handler: s.get},
		{Binding: stat, Handler: s.stat},
		{Binding: drop, Handler: s.drop},
		{Binding: list, Handler: s.list},
	}...)
}
