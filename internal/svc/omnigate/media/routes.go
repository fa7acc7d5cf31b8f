// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package media

import (
	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/omnigate"
)

// Routes implements omnigate.Facet.
func (f *Facet) Routes() []macronode.Route {
	conditions := []macronode.Param{
		{Name: "If-Match", Type: "string", Text: "ETags, one of which must be the object's"},
		{Name: "If-None-Match", Type: "string", Text: "ETags, none of which may be the object's"},
	}
	get := macronode.Binding{
		Op: "media.get", Method: "GET", Pattern: "/media/{addr}", Cost: 1, Streaming: true,
		Doc: macronode.Doc{
			Summary: "Stream an object under the type that its bytes have, whole or one range of it",
			Headers: append([]macronode.Param{
				{Name: "Range", Type: "string", Text: "bytes=…, one range; of several the whole is sent"},
				{Name: "If-Range", Type: "string", Text: "the ETag without which Range does not count"},
			}, conditions...),
			ResponseType: "application/octet-stream", Status: []int{200, 206, 304},
			Kinds: []macronode.Kind{macronode.NotFound, macronode.RangeNotSatisfiable, macronode.PreconditionFailed, macronode.Integrity, macronode.FacetDown},
		},
	}
	stat := get
	stat.Op, stat.Method = "media.stat", "HEAD"
	stat.Doc.Summary, stat.Doc.Headers, stat.Doc.Status = "Learn an object's size and the type that its bytes have", conditions, []int{200, 304}
	stat.Doc.Kinds = []macronode.Kind{macronode.NotFound, macronode.PreconditionFailed, macronode.FacetDown}
	info := macronode.Binding{
		Op: "media.info", Method: "GET", Pattern: "/media/{addr}/info", Cost: 4,
		Doc: macronode.Doc{
			Summary: "Say what the headers of an image, sound or film say: size, duration, tracks", Headers: conditions[1:], Response: Info{}, Status: []int{200, 304},
			Kinds: []macronode.Kind{macronode.NotFound, macronode.Invalid, macronode.TooLarge, macronode.Integrity, macronode.FacetDown},
		},
	}
	thumb := macronode.Binding{
		Op: "media.thumb", Method: "GET", Pattern: "/media/{addr}/thumb", Cost: 16,
		Doc: macronode.Doc{
			Summary: "Make a small picture of an image, upright, as JPEG or PNG",
			Query: []macronode.Param{
				{Name: "w", Type: "integer", Text: "width at most, 1 to 2048 pixels; without w and h both are 256"},
				{Name: "h", Type: "integer", Text: "height at most, 1 to 2048 pixels"},
				{Name: "fit", Type: "string", Text: "contain: all of the image is shown, the default; cover: it fills w and h, and is cut"},
			},
			Headers:      append([]macronode.Param{{Name: "Accept", Type: "string", Text: "image/jpeg or image/png; without it PNG where there is transparency"}}, conditions[1:]...),
			ResponseType: "image/jpeg", Status: []int{200, 304},
			Kinds: []macronode.Kind{macronode.NotFound, macronode.NotAcceptable, macronode.Invalid, macronode.TooLarge, macronode.UnsupportedMedia, macronode.Integrity, macronode.FacetDown},
		},
	}
	routes := []macronode.Route{{Binding: get, Handler: f.get}, {Binding: stat, Handler: f.stat}, {Binding: info, Handler: f.info}, {Binding: thumb, Handler: f.thumb}}
	for n := range routes {
		b := &routes[n].Binding
		b.Service, b.OAP, b.Action, b.Class, b.MaxBody = omnigate.Name, macronode.AppFacet, "media:read", macronode.Facet, macronode.BodyNone
		b.Resource, b.ResourceArg = macronode.ObjectResource, "addr"
	}
	return routes
}
