// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/rustyonions/macronode/bundle"
)

// NewsType is the payload type of News. It is not that of a page, so that news of
// one revocation never pass for a list that has but one.
const NewsType = "application/vnd.macronode.revoked+json"

// keyHashBytes is the length of Item.KeyHash before it is written in hex.
const keyHashBytes = 16

// Item is one revocation as nodes tell each other. The name of a minting key
// ("v1") is a node's own, so an item with a KID says which key it means.
type Item struct {
	Entry
	// KeyHash is of the minting key that KID names, 32 hex digits. It tells
	// nothing of the key.
	KeyHash string `json:"key_hash,omitempty"`
}

// News are revocations that a node tells its peers of: any part of all that it
// holds. None takes another away, so old news do no harm.
type News struct {
	Format int    `json:"format"`
	NodeID string `json:"node_id"`
	Key    []byte `json:"key"` // the node's SubjectPublicKeyInfo, DER; its hash is NodeID
	Items  []Item `json:"revocations"`
	// Cursor is where who asked for them goes on; empty: there are no more.
	Cursor string `json:"cursor,omitempty"`
}

// SignNews makes news of at most MaxEntries items, canonical JSON in an envelope
// as JSON.
func SignNews(items []Item, cursor string, s Signer) ([]byte, error) {
	key, err := s.Public()
	if err != nil {
		return nil, err
	}
	n := News{Format: format, NodeID: NodeID(key), Key: key, Items: items, Cursor: cursor}
	if n.Items == nil {
		n.Items = []Item{}
	}
	if err := n.check(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	if text, err = bundle.CanonicalJSON(text); err != nil {
		return nil, err
	}
	sig, err := s.Sign(bundle.PAE(NewsType, text))
	if err != nil {
		return nil, err
	}
	e := bundle.Envelope{PayloadType: NewsType, Payload: text, Signatures: []bundle.Signature{{KeyID: s.KeyID(), Sig: sig}}}
	return e.Encode()
}

// ParseNews verifies news: the node that they name signed them. Whether that node
// is to be believed is the caller's to know. Every error wraps ErrNotVerified.
func ParseNews(text []byte) (*News, error) {
	e, err := bundle.Decode(text)
	if err != nil {
		return nil, notVerified("%v", err)
	}
	if e.PayloadType != NewsType {
		return nil, notVerified("it is signed as %q", e.PayloadType)
	}
	var n News
	dec := json.NewDecoder(bytes.NewReader(e.Payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&n); err != nil || dec.More() {
		return nil, notVerified("it is no news")
	}
	if len(n.Key) > maxKeyBytes || NodeID(n.Key) != n.NodeID {
		return nil, notVerified("its key is not that of the node that it names")
	}
	if err := goodSignature(e, n.Key); err != nil {
		return nil, err
	}
	if text, err := bundle.CanonicalJSON(e.Payload); err != nil || !bytes.Equal(text, e.Payload) {
		return nil, notVerified("its JSON is not canonical")
	}
	if err := n.check(); err != nil {
		return nil, notVerified("%v", err)
	}
	return &n, nil
}

// goodSignature reports whether a signature in e is good for key, DER.
func goodSignature(e *bundle.Envelope, key []byte) error {
	if err := e.SignedByNode(key); err != nil {
		return notVerified("%v", err)
	}
	return nil
}

func (n *News) check() error {
	switch {
	case n.Format != format:
		return fmt.Errorf("format %d is not known", n.Format)
	case len(n.Items) > MaxEntries:
		return fmt.Errorf("%d entries, at most %d are accepted", len(n.Items), MaxEntries)
	}
	if len(n.Cursor) > 2*maxTextBytes {
		return errors.New("the cursor is too long")
	}
	for i := range n.Items {
		if err := n.Items[i].check(); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

func (i *Item) check() error {
	if err := i.Entry.check(""); err != nil {
		return err
	}
	sum, err := hex.DecodeString(i.KeyHash)
	switch {
	case (i.KID != "") != (i.KeyHash != ""):
		return errors.New("a key id comes with the hash of its key, and nothing else does")
	case i.KID != "" && (err != nil || len(sum) != keyHashBytes || hex.EncodeToString(sum) != i.KeyHash):
		return errors.New("the hash of a key is 32 hex digits")
	}
	return nil
}
