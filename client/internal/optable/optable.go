// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package optable says which operation of OAP/1 an HTTP method and path mean, and
// the other way round. Its routes are written from the node's own (routes.go), so
// that a program that speaks of paths can speak both wires.
package optable

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/rustyonions/macronode"
)

// Route is an operation that both wires have.
type Route struct {
	Op      macronode.Op
	App     uint16 // app_proto_id
	Method  string
	Pattern string
}

// Routes returns the operations by name, those of an op's aliases behind its own.
func Routes() []Route { return slices.Clone(routes) }

// Table finds routes. It is only read once made.
type Table struct {
	root *segment
	byOp map[macronode.Op]*Route
}

// segment is one position in a path.
type segment struct {
	static  map[string]*segment
	param   *segment
	name    string
	rest    bool // the parameter takes all that remains
	methods map[string]*Route
}

// New makes a table of routes; nil: those of the node.
func New(of []Route) *Table {
	if of == nil {
		of = routes
	}
	t := &Table{root: &segment{}, byOp: make(map[macronode.Op]*Route, len(of))}
	for i := range of {
		r := &of[i]
		if t.byOp[r.Op] == nil {
			t.byOp[r.Op] = r
		}
		t.root.grow(r)
	}
	return t
}

func (s *segment) grow(r *Route) {
	at := s
	for part := range strings.SplitSeq(strings.TrimPrefix(r.Pattern, "/"), "/") {
		name, isParam := strings.CutPrefix(part, "{")
		if isParam {
			name, rest := strings.CutSuffix(strings.TrimSuffix(name, "}"), "...")
			if at.param == nil {
				at.param = &segment{name: name, rest: rest}
			}
			at = at.param
			continue
		}
		if at.static == nil {
			at.static = map[string]*segment{}
		}
		if at.static[part] == nil {
			at.static[part] = &segment{}
		}
		at = at.static[part]
	}
	if at.methods == nil {
		at.methods = map[string]*Route{}
	}
	at.methods[r.Method] = r
}

// ErrNoOperation: OAP/1 has no operation for a method and path, as far as this
// program knows.
var ErrNoOperation = errors.New("this program knows no such operation over OAP/1")

// errTwice: arguments on OAP/1 have one value each.
var errTwice = errors.New("an argument stands twice")

// Lookup returns the route of a method and an escaped path with its arguments,
// those of the path first. A HEAD without a route of its own takes GET's.
func (t *Table) Lookup(method, path, query string) (*Route, []macronode.Arg, error) {
	at, args, err := t.find(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", method, err)
	}
	r := at.methods[method]
	if r == nil && method == "HEAD" {
		r = at.methods["GET"]
	}
	if r == nil {
		return nil, nil, fmt.Errorf("%s: %w", method, ErrNoOperation)
	}
	if query == "" {
		return r, args, nil
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return nil, nil, fmt.Errorf("query: %w", err)
	}
	for name, values := range q {
		taken := slices.ContainsFunc(args, func(a macronode.Arg) bool { return a.Name == name })
		if len(values) > 1 || taken {
			return nil, nil, fmt.Errorf("%.40q: %w", name, errTwice)
		}
		args = append(args, macronode.Arg{Name: name, Value: values[0]})
	}
	return r, args, nil
}

// find walks the path as the node's own table does: a static segment goes before
// a parameter, and there is no way back.
func (t *Table) find(path string) (at *segment, args []macronode.Arg, err error) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, nil, ErrNoOperation
	}
	at = t.root
	for more := true; more; {
		var part string
		whole := rest
		part, rest, more = strings.Cut(rest, "/")
		if next := at.static[part]; next != nil {
			at = next
			continue
		}
		if at = at.param; at == nil || part == "" {
			return nil, nil, ErrNoOperation
		}
		if at.rest {
			part, more = whole, false
		}
		value, err := url.PathUnescape(part)
		if err != nil {
			return nil, nil, err
		}
		args = append(args, macronode.Arg{Name: at.name, Value: value})
	}
	return at, args, nil
}

// Request is Lookup's way back: the method, the escaped path and the query of an
// operation with its arguments.
func (t *Table) Request(op macronode.Op, app uint16, args []macronode.Arg) (method, path, query string, err error) {
	r := t.byOp[op]
	if r == nil || r.App != app {
		return "", "", "", ErrNoOperation
	}
	var b strings.Builder
	used := 0
	for part := range strings.SplitSeq(strings.TrimPrefix(r.Pattern, "/"), "/") {
		b.WriteByte('/')
		name, isParam := strings.CutPrefix(part, "{")
		if !isParam {
			b.WriteString(part)
			continue
		}
		name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")
		i := slices.IndexFunc(args, func(a macronode.Arg) bool { return a.Name == name })
		if i < 0 || args[i].Value == "" {
			return "", "", "", fmt.Errorf("%s lacks its argument %s", op, name)
		}
		b.WriteString(url.PathEscape(args[i].Value))
		used++
	}
	if used < len(args) {
		q := make(url.Values, len(args))
		for _, a := range args {
			if !strings.Contains(r.Pattern, "{"+a.Name+"}") && !strings.Contains(r.Pattern, "{"+a.Name+"...}") {
				q.Set(a.Name, a.Value)
			}
		}
		query = q.Encode()
	}
	return r.Method, b.String(), query, nil
}
