// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package document is the signed document of a tenant's names that a node gives out,
// and how anyone verifies it offline with nothing but the node's id.
//
// A document comes in pages. Each is a DSSE envelope of payload type Type around the
// canonical JSON (RFC 8785) of a Page, signed with the node's key (ECDSA P-256 over
// SHA-256). The page carries that key; a node's id is its hash, so who knows the id
// knows the key. Pages join by their cursors, and all say the same revision, which
// grows with each change of a name of the tenant: so a whole document is the names of
// one moment, and neither a page nor a name can be left out, added or put in
// another's place.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/name"
)

// Type is the payload type of a page.
const Type = "application/vnd.macronode.names+json"

// Limits of a page and of a document.
const (
	MaxEntries   = 1000
	MaxPages     = 100_000
	maxKeyBytes  = 256
	maxTextBytes = 2048
)

const format = 1

// Entry is one name.
type Entry struct {
	Name      string            `json:"name"`
	Addr      b3.Addr           `json:"addr"`
	Version   uint64            `json:"version"`
	TTL       uint32            `json:"ttl_s"`
	Meta      map[string]string `json:"meta,omitempty"`
	CreatedMS int64             `json:"created_ms"` // unix milliseconds
	UpdatedMS int64             `json:"updated_ms"`
}

// Page is a part of a document.
type Page struct {
	Format   int    `json:"format"`
	NodeID   string `json:"node_id"`
	Key      []byte `json:"key"` // the node's SubjectPublicKeyInfo, DER; its hash is NodeID
	IssuedMS int64  `json:"issued_ms"`
	Tenant   string `json:"tenant"`           // whose names these are: a ULID
	Revision uint64 `json:"revision"`         // of all of the tenant's names
	After    string `json:"after,omitempty"`  // the cursor of the page before
	Cursor   string `json:"cursor,omitempty"` // of the next page; empty: the last
	// Names are in the order of their bytes.
	Names []Entry `json:"names"`
}

// ErrNotVerified: the document is not what the node of that id signed, or not whole.
var ErrNotVerified = errors.New("the document of names does not verify")

func notVerified(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotVerified, fmt.Sprintf(format, args...))
}

// Signer signs with the node's key.
type Signer = bundle.NodeSigner

// Sign fills in the page's format, node and key, and signs it.
func Sign(p *Page, s Signer) (*bundle.Envelope, error) {
	key, err := s.Public()
	if err != nil {
		return nil, err
	}
	p.Format, p.NodeID, p.Key = format, bundle.NodeID(key), key
	if p.Names == nil {
		p.Names = []Entry{}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	if text, err = bundle.CanonicalJSON(text); err != nil {
		return nil, err
	}
	return bundle.SignAsNode(Type, text, s)
}

// Verify returns the page in an envelope that the node of that id signed. Every
// error wraps ErrNotVerified.
func Verify(e *bundle.Envelope, nodeID string) (*Page, error) {
	if e.PayloadType != Type {
		return nil, notVerified("it is signed as %q", e.PayloadType)
	}
	dec := json.NewDecoder(bytes.NewReader(e.Payload))
	dec.DisallowUnknownFields()
	var p Page
	if err := dec.Decode(&p); err != nil {
		return nil, notVerified("it is no page")
	}
	// The form is checked after the signature, but for what that needs.
	if len(p.Key) > maxKeyBytes || bundle.NodeID(p.Key) != nodeID || p.NodeID != nodeID {
		return nil, notVerified("its key is not that of %s", nodeID)
	}
	if err := e.SignedByNode(p.Key); err != nil {
		return nil, notVerified("%v", err)
	}
	if text, err := bundle.CanonicalJSON(e.Payload); err != nil || !bytes.Equal(text, e.Payload) {
		return nil, notVerified("its JSON is not canonical")
	}
	if err := p.check(); err != nil {
		return nil, notVerified("%v", err)
	}
	return &p, nil
}

// Parse is Verify of an envelope's JSON text.
func Parse(text []byte, nodeID string) (*Page, error) {
	e, err := bundle.Decode(text)
	if err != nil {
		return nil, notVerified("%v", err)
	}
	return Verify(e, nodeID)
}

func (p *Page) check() error {
	_, err := macronode.ParseTenantID(p.Tenant)
	switch {
	case p.Format != format:
		return fmt.Errorf("format %d is not known", p.Format)
	case err != nil:
		return err
	case len(p.Names) > MaxEntries:
		return fmt.Errorf("%d names, at most %d are accepted", len(p.Names), MaxEntries)
	case len(p.After) > maxTextBytes || len(p.Cursor) > maxTextBytes:
		return errors.New("a cursor is too long")
	case p.Revision > bundle.MaxInteger || p.IssuedMS < 0:
		return errors.New("its revision or time is out of range")
	}
	for i := range p.Names {
		e := &p.Names[i]
		switch {
		case !name.Valid(e.Name):
			return fmt.Errorf("entry %d is no name in its normal form", i)
		case i > 0 && e.Name <= p.Names[i-1].Name:
			return fmt.Errorf("entry %d is not in order", i)
		case e.Version == 0 || e.Version > bundle.MaxInteger || e.CreatedMS < 0 || e.UpdatedMS < 0:
			return fmt.Errorf("entry %d: its version or times are out of range", i)
		}
	}
	return nil
}

// Read verifies a whole document: its pages, as JSON envelopes one after the other,
// all of the node of that id, of one tenant and one revision. Every error but r's
// wraps ErrNotVerified.
func Read(r io.Reader, nodeID string) (list []Page, err error) {
	dec := json.NewDecoder(r)
	for {
		var text json.RawMessage
		if err := dec.Decode(&text); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, notVerified("page %d: it is no JSON", len(list)+1)
		}
		if len(list) == MaxPages {
			return nil, notVerified("it has more than %d pages", MaxPages)
		}
		p, err := Parse(text, nodeID)
		if err != nil {
			return nil, fmt.Errorf("page %d: %w", len(list)+1, err)
		}
		if err := follows(list, p); err != nil {
			return nil, notVerified("page %d: %v", len(list)+1, err)
		}
		list = append(list, *p)
	}
	if len(list) == 0 || list[len(list)-1].Cursor != "" {
		return nil, notVerified("pages are missing at its end")
	}
	return list, nil
}

// follows says why p cannot come after the pages of list.
func follows(list []Page, p *Page) error {
	if len(list) == 0 {
		if p.After != "" {
			return errors.New("pages are missing before it")
		}
		return nil
	}
	last := &list[len(list)-1]
	switch {
	case last.Cursor == "" || p.After != last.Cursor:
		return errors.New("it does not follow the one before")
	case p.Tenant != last.Tenant:
		return errors.New("it is of another tenant")
	case p.Revision != last.Revision:
		return errors.New("names changed after the page before: read the document again")
	case len(p.Names) > 0 && len(last.Names) > 0 && p.Names[0].Name <= last.Names[len(last.Names)-1].Name:
		return errors.New("its names are not in order")
	}
	return nil
}
