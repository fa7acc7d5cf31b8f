// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package route

import (
	"strings"
	"unicode/utf8"

	"github.com/rustyonions/macronode"
)

// operation is a route as OAP/1 names it: by its op, with the parameters of its
// path as arguments.
type operation struct {
	route  *macronode.Route
	params []param
}

// param is a parameter of a route's path.
type param struct {
	name string
	rest bool // it takes all that remains of the path
}

// paramsOf lists the parameters of a pattern in order. Malformed patterns are
// reported by add.
func paramsOf(pattern string) []param {
	var list []param
	for part := range strings.SplitSeq(pattern, "/") {
		name, ok := strings.CutPrefix(part, "{")
		if !ok {
			continue
		}
		name, rest := strings.CutSuffix(strings.TrimSuffix(name, "}"), "...")
		list = append(list, param{name, rest})
	}
	return list
}

// lookupOp finds the route of an OAP/1 call. Of its arguments those that the
// route has in its path become path parameters, under the rules that hold for a
// path on HTTP, so that whoever reads them finds the same on both wires.
func (t *Table) lookupOp(c *macronode.Call) (*macronode.Route, error) {
	if c.AppID == macronode.AppControl || !t.apps[c.AppID] {
		return nil, macronode.Errorf(macronode.Unimplemented, "this node serves no operations of app_proto_id %d", c.AppID)
	}
	op := t.byOp[c.Op]
	if op.route == nil || op.route.OAP != c.AppID {
		return nil, macronode.Errorf(macronode.NotFound, "app_proto_id %d has no such operation", c.AppID)
	}
	for i := range op.params {
		if err := op.params[i].take(c); err != nil {
			return nil, err
		}
	}
	return op.route, nil
}

// take moves the argument that p names to c's path parameters.
func (p *param) take(c *macronode.Call) error {
	kept, found := c.Args[:0], false
	var value string
	for _, a := range c.Args {
		switch {
		case a.Name != p.name:
			kept = append(kept, a)
		case found:
			return macronode.Errorf(macronode.Malformed, "more than one argument %s", p.name)
		default:
			value, found = a.Value, true
		}
	}
	c.Args = kept
	if value == "" {
		return macronode.Errorf(macronode.Malformed, "the argument %s is missing", p.name)
	}
	if !p.fits(value) {
		return macronode.Errorf(macronode.Malformed, "the argument %s cannot stand in a path", p.name)
	}
	c.AddParam(p.name, value)
	return nil
}

// fits reports whether a path on HTTP could have value in p's place.
func (p *param) fits(value string) bool {
	if !utf8.ValidString(value) || (!p.rest && strings.Contains(value, "/")) {
		return false
	}
	for i := range len(value) {
		if value[i] < ' ' || value[i] == 0x7f {
			return false
		}
	}
	for part := range strings.SplitSeq(value, "/") {
		if part == "." || part == ".." {
			return false
		}
	}
	return true
}
