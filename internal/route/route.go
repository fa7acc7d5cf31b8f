// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package route holds the table of everything the node can be asked to do. It
// is built once from the services' routes and only read afterwards.
package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rustyonions/macronode"
)

// Table answers which route a call means.
type Table struct {
	routes []*macronode.Route
	byOp   map[macronode.Op]operation
	apps   map[uint16]bool // the app_proto_ids that some route has
	root   *segment
}

// segment is one position in a path: what may follow the segments before it.
type segment struct {
	static  map[string]*segment
	param   *segment // any one segment
	name    string   // of the parameter that led here
	rest    bool     // the parameter takes all that remains
	methods []bound
}

// bound is one method at one path. Aliases may name their parameters otherwise
// than the pattern, so the names are kept with the route.
type bound struct {
	method string
	route  *macronode.Route
}

// New builds the table, reporting every fault of every route at once.
func New(routes []macronode.Route) (*Table, error) {
	t := &Table{byOp: make(map[macronode.Op]operation), apps: make(map[uint16]bool), root: &segment{}}
	var errs []error
	for i := range routes {
		r := routes[i]
		if err := check(&r); err != nil {
			errs = append(errs, err)
			continue
		}
		if t.byOp[r.Op].route != nil {
			errs = append(errs, fmt.Errorf("route %s: op registered twice", r.Op))
			continue
		}
		t.byOp[r.Op] = operation{&r, paramsOf(r.Pattern)}
		t.apps[r.OAP] = true
		t.routes = append(t.routes, &r)
		for _, form := range append([]string{r.Label()}, r.Aliases...) {
			method, pattern, _ := strings.Cut(form, " ")
			if err := t.add(method, pattern, &r); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return t, errors.Join(errs...)
}

func check(r *macronode.Route) error {
	switch {
	case r.Op == "" || r.Service == "" || r.Handler == nil:
		return fmt.Errorf("route %q %s: op, service and handler are required", r.Op, r.Label())
	case r.Public != (r.Action == ""):
		return fmt.Errorf("route %s: exactly the public routes have no action", r.Op)
	case r.Public && r.Class != macronode.Control:
		return fmt.Errorf("route %s: a public route is control", r.Op)
	case int(r.Class) >= macronode.NumClasses:
		return fmt.Errorf("route %s: unknown class", r.Op)
	case r.NeedsKey && !r.Write:
		return fmt.Errorf("route %s: needs a key but writes nothing", r.Op)
	case r.ResourceArg != "" && r.ResourceID != "":
		return fmt.Errorf("route %s: its resource is an argument's or a fixed one, not both", r.Op)
	case r.ResourceArg != "" && !hasParam(r.Pattern, r.ResourceArg) && !hasQuery(r, r.ResourceArg):
		return fmt.Errorf("route %s: resource argument %q is no argument", r.Op, r.ResourceArg)
	}
	return nil
}

func hasParam(pattern, name string) bool {
	return strings.Contains(pattern, "{"+name+"}") || strings.Contains(pattern, "{"+name+"...}")
}

func hasQuery(r *macronode.Route, name string) bool {
	return slices.ContainsFunc(r.Doc.Query, func(p macronode.Param) bool { return p.Name == name })
}

func (t *Table) add(method, pattern string, r *macronode.Route) error {
	if method == "" || !strings.HasPrefix(pattern, "/") {
		return fmt.Errorf("route %s: %q is not METHOD /pattern", r.Op, method+" "+pattern)
	}
	at, params := t.root, 0
	rest := pattern[1:]
	for more := true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		name, isParam := strings.CutPrefix(part, "{")
		if !isParam {
			if at.static == nil {
				at.static = make(map[string]*segment)
			}
			if at.static[part] == nil {
				at.static[part] = &segment{}
			}
			at = at.static[part]
			continue
		}
		name, ok := strings.CutSuffix(name, "}")
		name, takesRest := strings.CutSuffix(name, "...")
		if params++; !ok || name == "" || (takesRest && more) || params > 4 {
			return fmt.Errorf("route %s: bad pattern %q", r.Op, pattern)
		}
		if at.param == nil {
			at.param = &segment{name: name, rest: takesRest}
		}
		if at = at.param; at.name != name || at.rest != takesRest {
			return fmt.Errorf("route %s: %q names a parameter otherwise than another route at that place (%q)", r.Op, pattern, at.name)
		}
	}
	if slices.ContainsFunc(at.methods, func(b bound) bool { return b.method == method }) {
		return fmt.Errorf("route %s: %s %s is taken", r.Op, method, pattern)
	}
	at.methods = append(at.methods, bound{method, r})
	return nil
}

// Lookup returns the route that c means and records its path parameters in c.
// It has no other effect. A HEAD without a route of its own takes GET's.
func (t *Table) Lookup(c *macronode.Call) (*macronode.Route, error) {
	c.ResetParams()
	if c.Wire == macronode.WireOAP {
		return t.lookupOp(c)
	}
	at := t.find(c)
	if at == nil {
		return nil, macronode.Errorf(macronode.NotFound, "no such route")
	}
	var get *macronode.Route
	for i := range at.methods {
		if at.methods[i].method == c.Method {
			return at.methods[i].route, nil
		}
		if at.methods[i].method == "GET" {
			get = at.methods[i].route
		}
	}
	if c.Method == "HEAD" && get != nil {
		return get, nil
	}
	return nil, notAllowed(at)
}

// find walks the path. A static segment goes before a parameter; patterns that
// need backtracking are not used, and New's tests hold that.
func (t *Table) find(c *macronode.Call) *segment {
	if c.Path == "" || c.Path[0] != '/' {
		return nil
	}
	at, rest := t.root, c.Path[1:]
	for more := true; more; {
		if p := at.param; p != nil && p.rest && at.static[first(rest)] == nil {
			c.AddParam(p.name, rest)
			return withMethods(p)
		}
		var part string
		part, rest, more = strings.Cut(rest, "/")
		if next := at.static[part]; next != nil {
			at = next
			continue
		}
		if at = at.param; at == nil || part == "" {
			return nil
		}
		c.AddParam(at.name, part)
	}
	return withMethods(at)
}

func first(path string) string {
	part, _, _ := strings.Cut(path, "/")
	return part
}

func withMethods(s *segment) *segment {
	if len(s.methods) == 0 {
		return nil
	}
	return s
}

func notAllowed(at *segment) error {
	var allow []string
	for _, b := range at.methods {
		allow = append(allow, b.method)
		if b.method == "GET" {
			allow = append(allow, "HEAD")
		}
	}
	slices.Sort(allow)
	list := strings.Join(slices.Compact(allow), ", ")
	e := macronode.Errorf(macronode.MethodNotAllowed, "allowed here: %s", list)
	e.Header = macronode.Header{"Allow": {list}}
	return e
}

// Bindings returns every route's shape, sorted by pattern and method.
func (t *Table) Bindings() []*macronode.Binding {
	out := make([]*macronode.Binding, 0, len(t.routes))
	for _, r := range t.routes {
		out = append(out, &r.Binding)
	}
	slices.SortFunc(out, func(a, b *macronode.Binding) int {
		return strings.Compare(a.Pattern+" "+a.Method, b.Pattern+" "+b.Method)
	})
	return out
}
