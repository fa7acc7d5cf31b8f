// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/omnigate/form"
)

// The actions.
const (
	actRead    macronode.Action = "feed:read"
	actPublish macronode.Action = "feed:publish"
)

// The documents. A vertex is name/NAME, object/b3:HEX or id/TEXT.
type (
	// PublishRequest is a post to publish: an item, a text or both.
	PublishRequest struct {
		Author string `json:"author"`
		Item   string `json:"item,omitempty"` // a vertex that the post is about
		Text   string `json:"text,omitempty"` // at most 4096 bytes
	}

	// Published is the answer to a publication.
	Published struct {
		PostID string `json:"post_id"` // a ULID
		TS     string `json:"ts"`
	}

	// Post is one in a timeline.
	Post struct {
		PostID string `json:"post_id"`
		TS     string `json:"ts"`
		Author string `json:"author"`
		Item   string `json:"item,omitempty"`
		Text   string `json:"text,omitempty"`
	}

	// PostState is a post and how far it came.
	PostState struct {
		Post
		Delivered int  `json:"delivered"` // timelines that it came into
		Done      bool `json:"done"`      // those were all
	}

	// Page is posts, newest first. An empty cursor says that it is the last.
	Page struct {
		Posts  []Post `json:"posts"`
		Cursor string `json:"cursor"`
	}

	// Status is what the tenant keeps.
	Status struct {
		Posts      int64 `json:"posts"`
		Pending    int64 `json:"pending"` // on their way to followers, or from them
		MaxPosts   int64 `json:"max_posts"`
		MaxPending int64 `json:"max_pending"`
		MaxEntries int64 `json:"max_entries"` // of a timeline
	}
)

const (
	maxPublishBody = 32 << 10 // a text of escapes
	maxPageBytes   = 1 << 20
)

const vertexText = "name/NAME, object/b3:HEX or id/TEXT"

// Routes are the facet's, the same whether it runs or not.
func (f *Facet) Routes() []macronode.Route {
	read := func(op macronode.Op, pattern, summary string, answer any, h macronode.Handler, query ...macronode.Param) macronode.Route {
		return macronode.Route{Handler: h, Binding: macronode.Binding{Op: op, Method: "GET", Pattern: pattern, Action: actRead, MaxBody: macronode.BodyNone,
			Doc: macronode.Doc{Summary: summary, Query: query, Response: answer, Kinds: []macronode.Kind{macronode.Malformed}}}}
	}
	whose := macronode.Param{Name: "id", Type: "string", Text: "whose timeline: " + vertexText, Required: true}
	one := read("feed.post", "/v1/feed/posts/{post}", "Show a post, and how far it came", PostState{}, f.post)
	one.Doc.Kinds = append(one.Doc.Kinds, macronode.NotFound)
	watch := read("feed.watch", "/v1/feed/watch", "Watch what comes into a timeline, as server-sent events", nil, f.watch, whose)
	watch.LongRunning, watch.Doc.ResponseType = true, "text/event-stream"
	watch.Doc.Headers = []macronode.Param{{Name: "Last-Event-ID", Type: "string", Text: "post_id of the last one seen: what is newer comes first"}}
	idem := []macronode.Kind{macronode.Malformed, macronode.IdempotencyMismatch, macronode.IdempotencyRunning, macronode.DiskFull}
	publish := macronode.Route{Handler: f.idem.Wrap(f.publish), Binding: macronode.Binding{
		Op: "feed.publish", Method: "POST", Pattern: "/v1/feed/posts", Action: actPublish, MaxBody: maxPublishBody, Write: true, Cost: 2,
		Doc: macronode.Doc{Summary: "Publish a post to the followers of its author", Request: PublishRequest{}, Response: Published{}, Status: []int{201},
			Kinds: append([]macronode.Kind{macronode.QuotaObjects, macronode.QuotaDepth}, idem...)},
	}}
	unpublish := macronode.Route{Handler: f.idem.Wrap(f.unpublish), Binding: macronode.Binding{
		Op: "feed.unpublish", Method: "DELETE", Pattern: "/v1/feed/posts/{post}", Action: actPublish, MaxBody: macronode.BodyNone, Write: true, Cost: 2,
		Doc: macronode.Doc{Summary: "Take a post out of every timeline", Status: []int{204}, Kinds: append([]macronode.Kind{macronode.NotFound}, idem...)},
	}}
	routes := []macronode.Route{
		read("feed.status", "/v1/feed", "Show how many posts the tenant has, and may have", Status{}, f.status),
		read("feed.posts", "/v1/feed/posts", "List an author's posts, newest first", Page{}, f.posts,
			form.PageParams(macronode.Param{Name: "author", Type: "string", Text: vertexText, Required: true})...),
		one,
		read("feed.read", "/v1/feed/timeline", "Read a timeline, newest first", Page{}, f.read, form.PageParams(whose)...),
		watch, publish, unpublish,
	}
	for i := range routes {
		b := &routes[i].Binding
		b.OAP, b.Resource = macronode.AppFacet, macronode.FacetResource
	}
	return routes
}
