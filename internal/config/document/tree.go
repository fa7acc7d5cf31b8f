// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package document

import (
	"errors"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/rustyonions/macronode/bundle"
)

// Limits on a config bundle's text.
const (
	MaxTextBytes = 256 << 10
	maxDepth     = 16 // nesting of tables and lists
)

// Kind is the type of a value in a document.
type Kind uint8

// The kinds.
const (
	Table Kind = iota
	List
	Text
	Number
	Bool
	Unusable // something that a signed document cannot hold; Text says what
)

func (k Kind) String() string {
	return [...]string{"a table", "a list", "text", "a whole number", "true or false", "an Unusable value"}[k]
}

// tableForm says how a table came to be; TOML lets only some be added to.
type tableForm uint8

const (
	implied tableForm = iota // only named on the way to another: [a.b] implies a
	headed                   // by its own header
	dotted                   // by a dotted key
	sealed                   // inline
)

// Node is a value of the document with its place.
type Node struct {
	Kind       Kind
	Line       int
	Start, End int // the value's bytes in the text, for scalars; else 0
	Text       string
	Number     int64
	Truth      bool
	Table      map[string]*Entry
	List       []*Node
	form       tableForm
	tables     bool // the list is an array of tables, [[a]]
}

// Entry is a key of a table.
type Entry struct {
	Line int
	Val  *Node
}

func newTable(line int, form tableForm) *Node {
	return &Node{Kind: Table, Line: line, form: form, Table: map[string]*Entry{}}
}

// Get returns the value under a key; nil where there is none.
func (n *Node) Get(name string) *Node {
	if n == nil || n.Kind != Table || n.Table[name] == nil {
		return nil
	}
	return n.Table[name].Val
}

// Value returns the node as a document of package bundle's types.
func (n *Node) Value() any {
	switch n.Kind {
	case Table:
		m := make(map[string]any, len(n.Table))
		for k, e := range n.Table {
			m[k] = e.Val.Value()
		}
		return m
	case List:
		l := make([]any, 0, len(n.List))
		for _, e := range n.List {
			l = append(l, e.Value())
		}
		return l
	case Number:
		return n.Number
	case Bool:
		return n.Truth
	}
	if n.Kind == Unusable {
		return struct{}{} // which has no canonical form
	}
	return n.Text
}

// What says what the value is, for errors.
func (n *Node) What() string {
	if n.Kind == Unusable {
		return n.Text
	}
	return n.Kind.String()
}

// reader turns TOML text into nodes.
type reader struct {
	*Problems
	parser unstable.Parser
	lines  []int // offset of each line's first byte
}

// Read reads a whole document. Syntax errors end it; duplicates and values
// that a signed document cannot hold are collected. The tree is nil only after a
// syntax error.
func Read(text []byte, ps *Problems) *Node {
	if len(text) > MaxTextBytes {
		ps.Bad(0, "", "the file has %d bytes; at most %d are accepted", len(text), MaxTextBytes)
		return nil
	}
	r := &reader{Problems: ps, lines: []int{0}}
	for i, c := range text {
		if c == '\n' {
			r.lines = append(r.lines, i+1)
		}
	}
	found := ps.Len()
	root := newTable(1, headed)
	at, path := root, "" // where key = value lines go; nil after a header that failed
	r.parser.Reset(text)
	for r.parser.NextExpression() {
		e := r.parser.Expression()
		switch e.Kind {
		case unstable.Table:
			at, path = r.header(root, e, false)
		case unstable.ArrayTable:
			at, path = r.header(root, e, true)
		case unstable.KeyValue:
			if at != nil {
				r.keyValue(at, e, path, 0)
			}
		}
	}
	if r.parser.Error() == nil && ps.Len() > found {
		return root
	}
	// go-toml's own decoder is the second opinion: what it refuses is refused. It
	// also knows the line of a syntax error.
	var whole map[string]any
	err := toml.Unmarshal(text, &whole)
	if err == nil && r.parser.Error() == nil {
		return root
	}
	line := 0
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, _ = de.Position()
	}
	if err == nil {
		err = r.parser.Error()
	}
	ps.Bad(line, "", "not TOML: %s", Shorten(strings.TrimPrefix(err.Error(), "toml: ")))
	return nil
}

// lineOf returns the line of an offset.
func (r *reader) lineOf(offset uint32) int {
	return sort.SearchInts(r.lines, int(offset)+1)
}

// header opens the table of a [header] or [[header]] line, and returns it with
// its path; nil where it cannot be opened.
func (r *reader) header(root *Node, e *unstable.Node, array bool) (table *Node, path string) {
	names, line := r.keyParts(e)
	if len(names) > maxDepth {
		r.Bad(line, strings.Join(names, "."), "nested deeper than %d", maxDepth)
		return nil, ""
	}
	at := root
	for i, name := range names {
		last := i == len(names)-1
		path = join(path, name)
		old := at.Table[name]
		switch {
		case old == nil && last && array:
			element := newTable(line, headed)
			at.Table[name] = &Entry{line, &Node{Kind: List, Line: line, List: []*Node{element}, tables: true}}
			at, path = element, path+"[0]"
		case old == nil && last:
			at.Table[name] = &Entry{line, newTable(line, headed)}
			at = at.Table[name].Val
		case old == nil:
			at.Table[name] = &Entry{line, newTable(line, implied)}
			at = at.Table[name].Val
		case old.Val.tables && last && array:
			element := newTable(line, headed)
			path += "[" + strconv.Itoa(len(old.Val.List)) + "]"
			old.Val.List = append(old.Val.List, element)
			at = element
		case old.Val.tables && !last:
			path += "[" + strconv.Itoa(len(old.Val.List)-1) + "]"
			at = old.Val.List[len(old.Val.List)-1]
		case last && !array && old.Val.Kind == Table && old.Val.form == implied:
			old.Val.form, old.Val.Line, old.Line = headed, line, line
			at = old.Val
		case !last && old.Val.Kind == Table && old.Val.form != sealed:
			at = old.Val
		default:
			r.Bad(line, path, "duplicate: it already stands on line %d", old.Line)
			return nil, ""
		}
	}
	return at, path
}

// keyValue puts a key = value line, or a pair of an inline table, into a table.
func (r *reader) keyValue(at *Node, e *unstable.Node, path string, depth int) {
	names, line := r.keyParts(e)
	if depth+len(names) > maxDepth {
		r.Bad(line, strings.Join(names, "."), "nested deeper than %d", maxDepth)
		return
	}
	for i, name := range names[:len(names)-1] {
		old := at.Table[name]
		if old == nil {
			old = &Entry{line, newTable(line, dotted)}
			at.Table[name] = old
		} else if old.Val.Kind != Table || old.Val.form != dotted {
			r.Bad(line, join(path, strings.Join(names[:i+1], ".")), "duplicate: it already stands on line %d", old.Line)
			return
		}
		at = old.Val
	}
	name := names[len(names)-1]
	key := join(path, strings.Join(names, "."))
	if old := at.Table[name]; old != nil {
		r.Bad(line, key, "duplicate: it already stands on line %d", old.Line)
		return
	}
	at.Table[name] = &Entry{line, r.nodeOf(e.Value(), line, key, depth+len(names))}
}

// keyParts returns the parts of a key or header, and its line.
func (r *reader) keyParts(e *unstable.Node) (names []string, line int) {
	it := e.Key()
	for it.Next() {
		if names = append(names, string(it.Node().Data)); line == 0 {
			line = r.lineOf(it.Node().Raw.Offset)
		}
	}
	return names, line
}

// nodeOf turns a parsed value into a node.
func (r *reader) nodeOf(v *unstable.Node, line int, key string, depth int) *Node {
	n := &Node{Line: line}
	if v.Raw.Length > 0 {
		n.Line = r.lineOf(v.Raw.Offset)
		n.Start, n.End = int(v.Raw.Offset), int(v.Raw.Offset+v.Raw.Length)
	}
	if depth > maxDepth {
		n.Kind, n.Text = Unusable, "a value nested deeper than "+strconv.Itoa(maxDepth)
		return n
	}
	var ok bool
	switch v.Kind {
	case unstable.String:
		n.Kind, n.Text = Text, string(v.Data)
	case unstable.Bool:
		n.Kind, n.Truth = Bool, v.Data[0] == 't'
	case unstable.Integer:
		n.Kind = Number
		if n.Number, ok = integer(string(v.Data)); !ok {
			n.Kind, n.Text = Unusable, "a number beyond 2^53-1"
		}
	case unstable.Array:
		n.Kind = List
		for it := v.Children(); it.Next(); {
			if c := it.Node(); c.Kind != unstable.Comment {
				n.List = append(n.List, r.nodeOf(c, n.Line, key+"["+strconv.Itoa(len(n.List))+"]", depth+1))
			}
		}
	case unstable.InlineTable:
		n.Kind, n.form, n.Table = Table, sealed, map[string]*Entry{}
		for it := v.Children(); it.Next(); {
			if c := it.Node(); c.Kind == unstable.KeyValue {
				r.keyValue(n, c, key, depth)
			}
		}
		sealAll(n)
	case unstable.Float:
		n.Kind, n.Text = Unusable, "a float"
	default:
		n.Kind, n.Text = Unusable, "a TOML date or time"
	}
	return n
}

// sealAll closes the tables that dotted keys opened inside an inline table.
func sealAll(n *Node) {
	n.form = sealed
	for _, e := range n.Table {
		if e.Val.Kind == Table && e.Val.form == dotted {
			sealAll(e.Val)
		}
	}
}

// integer reads a TOML integer, whose grammar was checked by the parser; false
// where it is beyond 2^53-1 either way.
func integer(s string) (int64, bool) {
	digits, base := strings.ReplaceAll(s, "_", ""), 10
	for prefix, b := range map[string]int{"0x": 16, "0o": 8, "0b": 2} {
		if rest, ok := strings.CutPrefix(digits, prefix); ok {
			digits, base = rest, b
		}
	}
	i, err := strconv.ParseInt(digits, base, 64)
	return i, err == nil && i <= bundle.MaxInteger && i >= -bundle.MaxInteger
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
