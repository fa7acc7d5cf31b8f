// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package document

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/rustyonions/macronode/bundle"
)

// Hash returns the hash that meta.bundle_hash must have: of the whole document
// without that key.
func Hash(root *Node) (bundle.Digest, error) {
	doc, ok := root.Value().(map[string]any)
	if !ok {
		return bundle.Digest{}, errors.New("the document is no table")
	}
	if meta, ok := doc["meta"].(map[string]any); ok {
		delete(meta, "bundle_hash")
	}
	return bundle.Hash(doc)
}

// Meta is what a bundle's [meta] says, as far as it can be read.
type Meta struct {
	Version uint64
	Hash    bundle.Digest // zero where it is missing or no hash yet
	Signer  string
	// Document is the hash that Hash should have.
	Document bundle.Digest
}

// ReadMeta reads [meta] and the document's own hash, whatever else the text
// holds. Its error is an [Error].
func ReadMeta(text []byte, file string) (Meta, error) {
	root, err := read(text, file)
	if err != nil {
		return Meta{}, err
	}
	meta := root.Get("meta")
	var m Meta
	if v := meta.Get("version"); v != nil && v.Kind == Number && v.Number > 0 {
		m.Version = uint64(v.Number)
	}
	if v := meta.Get("bundle_hash"); v != nil && v.Kind == Text {
		if d, err := bundle.ParseDigest(v.Text); err == nil {
			m.Hash = d
		}
	}
	if v := meta.Get("signer"); v != nil && v.Kind == Text {
		m.Signer = v.Text
	}
	if m.Document, err = Hash(root); err != nil {
		return Meta{}, err
	}
	return m, nil
}

func read(text []byte, file string) (*Node, error) {
	ps := NewProblems(file)
	root := Read(text, ps)
	if root != nil {
		refuseUnusable(root, "", ps)
	}
	return root, ps.Err()
}

// refuseUnusable reports what a signed document cannot hold, for readers that do
// not know the schema.
func refuseUnusable(n *Node, path string, ps *Problems) {
	if n.Kind == Unusable {
		ps.Bad(n.Line, path, "found %s; a signed document cannot hold it", n.What())
	}
	for name, e := range n.Table {
		refuseUnusable(e.Val, join(path, name), ps)
	}
	for i, e := range n.List {
		refuseUnusable(e, path+"["+strconv.Itoa(i)+"]", ps)
	}
}

// Seal writes meta.version (0: leaves it), meta.signer (empty: leaves it) and the
// meta.bundle_hash that follows into a bundle's text, and returns the new text.
// Only those values change: order, comments and white space stay. A key that is
// missing is added below the [meta] header. Sealing twice changes nothing.
func Seal(text []byte, version uint64, signer string) ([]byte, error) {
	if version > bundle.MaxInteger {
		return nil, errors.New("seal: version beyond 2^53-1")
	}
	var edits []edit
	if version > 0 {
		edits = append(edits, edit{"version", strconv.FormatUint(version, 10)})
	}
	if signer != "" {
		if _, err := bundle.ParseRef(signer); err != nil {
			return nil, fmt.Errorf("seal: signer: %w", err)
		}
		edits = append(edits, edit{"signer", strconv.Quote(signer)})
	}
	var err error
	for _, e := range edits {
		if text, err = setMeta(text, e); err != nil {
			return nil, err
		}
	}
	root, err := read(text, "")
	if err != nil {
		return nil, err
	}
	hash, err := Hash(root)
	if err != nil {
		return nil, err
	}
	return setMeta(text, edit{"bundle_hash", strconv.Quote(hash.String())})
}

// edit is a new value, as TOML, for a key of [meta].
type edit struct{ name, value string }

func setMeta(text []byte, e edit) ([]byte, error) {
	root, err := read(text, "")
	if err != nil {
		return nil, err
	}
	meta := root.Get("meta")
	if meta == nil || meta.Kind != Table {
		return nil, errors.New("seal: the bundle has no [meta] section")
	}
	if old := meta.Get(e.name); old != nil {
		if old.End == 0 {
			return nil, fmt.Errorf("seal: meta.%s is neither text nor a number", e.name)
		}
		if old.Kind == Text && e.value == string(text[old.Start:old.End]) {
			return slices.Clone(text), nil
		}
		return slices.Concat(text[:old.Start], []byte(e.value), text[old.End:]), nil
	}
	if meta.form != headed {
		return nil, fmt.Errorf("seal: meta.%s is missing, and [meta] has no header of its own to add it below", e.name)
	}
	at := lineEnd(text, meta.Line)
	line := e.name + " = " + e.value + newline(text)
	if at > 0 && text[at-1] != '\n' {
		line = newline(text) + line
	}
	return slices.Concat(text[:at], []byte(line), text[at:]), nil
}

// newline is the line end that the text uses.
func newline(text []byte) string {
	if bytes.Contains(text, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// lineEnd returns the offset just behind the line, its line end included.
func lineEnd(text []byte, line int) int {
	at := 0
	for range line {
		i := bytes.IndexByte(text[at:], '\n')
		if i < 0 {
			return len(text)
		}
		at += i + 1
	}
	return at
}
