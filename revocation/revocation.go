// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package revocation is the signed list of revoked capabilities that a node
// gives out, and how anyone verifies it offline with nothing but the node's id.
//
// A list comes in pages. Each is a DSSE envelope of payload type Type around the
// canonical JSON (RFC 8785) of a Page, signed with the node's key (ECDSA P-256
// over SHA-256). The page carries that key; a node's id is its hash, so who
// knows the id knows the key. Pages join by their cursors: a whole list begins
// with an empty After, goes on with each page's Cursor, and ends with an empty
// one, so that no page can be left out.
package revocation

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
)

// Type is the payload type of a page.
const Type = "application/vnd.macronode.revocations+json"

// Limits of a page and of a list.
const (
	MaxEntries   = 1000
	MaxPages     = 10_000
	maxKeyBytes  = 256
	maxTextBytes = 128
)

const format = 1

// Entry is one revocation: of a capability's link and all that was narrowed from
// it (ID), or of all capabilities that a tenant's minting key made (KID).
type Entry struct {
	ID  string `json:"id,omitempty"`  // 32 hex digits
	KID string `json:"kid,omitempty"` // with Tenant
	// Tenant is whose capabilities it binds; empty: everyone's.
	Tenant    string `json:"tenant,omitempty"`
	RevokedMS int64  `json:"revoked_ms"` // unix milliseconds
	By        string `json:"by"`         // who revoked, in audit form
}

// Page is a part of a list.
type Page struct {
	Format   int    `json:"format"`
	NodeID   string `json:"node_id"`
	Key      []byte `json:"key"` // the node's SubjectPublicKeyInfo, DER; its hash is NodeID
	IssuedMS int64  `json:"issued_ms"`
	// Scope is the tenant whose revocations these are; empty: all of the node.
	Scope   string  `json:"scope,omitempty"`
	After   string  `json:"after,omitempty"`  // the cursor of the page before
	Cursor  string  `json:"cursor,omitempty"` // of the next page; empty: the last
	Entries []Entry `json:"revocations"`
}

// ErrNotVerified: the list is not what the node of that id signed, or not whole.
var ErrNotVerified = errors.New("the list of revocations does not verify")

func notVerified(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotVerified, fmt.Sprintf(format, args...))
}

// NodeID is the id of the node whose key, DER SubjectPublicKeyInfo, is given.
func NodeID(key []byte) string { return bundle.NodeID(key) }

// Signer signs with the node's key.
type Signer = bundle.NodeSigner

// Sign fills in the page's format, node and key, and signs it.
func Sign(p *Page, s Signer) (*bundle.Envelope, error) {
	key, err := s.Public()
	if err != nil {
		return nil, err
	}
	p.Format, p.NodeID, p.Key = format, NodeID(key), key
	if p.Entries == nil {
		p.Entries = []Entry{}
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
	if len(p.Key) > maxKeyBytes || NodeID(p.Key) != nodeID || p.NodeID != nodeID {
		return nil, notVerified("its key is not that of %s", nodeID)
	}
	if err := goodSignature(e, p.Key); err != nil {
		return nil, err
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
	switch {
	case p.Format != format:
		return fmt.Errorf("format %d is not known", p.Format)
	case len(p.Entries) > MaxEntries:
		return fmt.Errorf("%d entries, at most %d are accepted", len(p.Entries), MaxEntries)
	case len(p.After) > 2*maxTextBytes || len(p.Cursor) > 2*maxTextBytes:
		return errors.New("a cursor is too long")
	case p.Scope != "" && !isTenant(p.Scope):
		return errors.New("the scope is no tenant's id")
	}
	for i := range p.Entries {
		if err := p.Entries[i].check(p.Scope); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

func (e *Entry) check(scope string) error {
	switch id, err := hex.DecodeString(e.ID); {
	case (e.ID == "") == (e.KID == ""):
		return errors.New("it names an id or a key id")
	case e.ID != "" && (err != nil || len(id) != 16 || hex.EncodeToString(id) != e.ID):
		return errors.New("an id is 32 hex digits")
	case e.KID != "" && (e.Tenant == "" || len(e.KID) > 64):
		return errors.New("a key id is a tenant's")
	case e.Tenant != "" && !isTenant(e.Tenant):
		return errors.New("the tenant is no id")
	case scope != "" && e.Tenant != scope:
		return errors.New("it is outside of the list's scope")
	case e.RevokedMS < 0 || len(e.By) > maxTextBytes:
		return errors.New("its time or author is out of range")
	}
	return nil
}

func isTenant(s string) bool {
	_, err := macronode.ParseTenantID(s)
	return err == nil
}

// Read verifies a whole list: its pages, as JSON envelopes one after the other,
// all of the node of that id and of one scope. Every error but r's wraps
// ErrNotVerified.
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
		if after := cursorOf(list); p.After != after || len(list) > 0 && (after == "" || p.Scope != list[0].Scope) {
			return nil, notVerified("page %d does not follow the one before", len(list)+1)
		}
		list = append(list, *p)
	}
	if len(list) == 0 || cursorOf(list) != "" {
		return nil, notVerified("pages are missing at its end")
	}
	return list, nil
}

func cursorOf(list []Page) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1].Cursor
}
