// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
)

// HeadType is the payload type under which heads are signed.
const HeadType = "application/vnd.macronode.registry-head+json"

// MaxHeadBytes bounds a signed head.
const MaxHeadBytes = 4 << 10

const maxKeyBytes = 256

// Head says where a chain ends. The writer signs it: a checkpoint of the chain, by
// which others know that they have all of it and in its order. What is in the chain
// holds by the signers' word, not by this one.
type Head struct {
	V        int    `json:"v"` // 1
	Registry string `json:"registry"`
	Size     uint64 `json:"size"`    // entries
	Head     string `json:"head"`    // hash of the last one
	State    string `json:"state"`   // root of the state after it
	Signers  string `json:"signers"` // address of the set in force
	// Tree is the root of the RFC 6962 tree over the entries, "sha256:" and 64 hex
	// digits; see Tree.
	Tree   string `json:"tree"`
	TSMS   int64  `json:"ts_ms"` // of the last entry
	NodeID string `json:"node_id"`
	Key    []byte `json:"key"` // of the node: SubjectPublicKeyInfo, DER; its hash is NodeID
}

// HeadOf is the head of a state and the tree over its entries, not signed.
func HeadOf(s *State, t *Tree) Head {
	return Head{V: format, Registry: s.registry.String(), Size: s.size, Head: s.head.String(), State: s.Root().String(),
		Signers: s.SignersAddr().String(), Tree: t.Root(), TSMS: s.tsMS}
}

// Same reports whether h and o say the same of the chain, whoever signed.
func (h *Head) Same(o *Head) bool {
	return h.Registry == o.Registry && h.Size == o.Size && h.Head == o.Head && h.State == o.State && h.Signers == o.Signers && h.Tree == o.Tree
}

// NodeSigner signs with the node's key.
type NodeSigner interface {
	KeyID() string // "NAME#vN/ALG"
	// Public is the key's SubjectPublicKeyInfo, DER.
	Public() ([]byte, error)
	// Sign makes an ASN.1 ECDSA signature of the SHA-256 of message.
	Sign(message []byte) ([]byte, error)
}

// SignHead fills in the node and signs: canonical JSON in an envelope as JSON.
func SignHead(h Head, s NodeSigner) ([]byte, error) {
	key, err := s.Public()
	if err != nil {
		return nil, err
	}
	h.V, h.NodeID, h.Key = format, b3.Sum(key).String(), key
	if err := h.validate(); err != nil {
		return nil, err
	}
	payload, err := encode(h)
	if err != nil {
		return nil, err
	}
	sig, err := s.Sign(bundle.PAE(HeadType, payload))
	if err != nil {
		return nil, err
	}
	e := bundle.Envelope{PayloadType: HeadType, Payload: payload, Signatures: []bundle.Signature{{KeyID: s.KeyID(), Sig: sig}}}
	text, err := e.Encode()
	if err == nil && len(text) > MaxHeadBytes {
		err = malformed("head of %d bytes, at most %d are accepted", len(text), MaxHeadBytes)
	}
	return text, err
}

// ErrHead says that a head is not what the node that it names signed.
var ErrHead = errors.New("the head does not verify")

// ParseHead verifies a signed head: the node that it names signed it. Whether that
// is the registry's writer is the caller's to know.
func ParseHead(text []byte) (*Head, error) {
	if len(text) > MaxHeadBytes {
		return nil, malformed("head of %d bytes, at most %d are accepted", len(text), MaxHeadBytes)
	}
	e, err := bundle.Decode(text)
	if err != nil {
		return nil, malformed("head: %v", err)
	}
	if e.PayloadType != HeadType || len(e.Signatures) != 1 {
		return nil, fmt.Errorf("%w: it is no head with one signature", ErrHead)
	}
	var h Head
	canonical, err := decode(e.Payload, MaxHeadBytes, "head", &h)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(canonical, e.Payload) {
		return nil, malformed("head: its JSON is not canonical")
	}
	if err := h.validate(); err != nil {
		return nil, err
	}
	if b3.Sum(h.Key).String() != h.NodeID {
		return nil, fmt.Errorf("%w: its key is not that of the node that it names", ErrHead)
	}
	parsed, err := x509.ParsePKIXPublicKey(h.Key)
	public, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok || public.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: its key is no ECDSA P-256 key", ErrHead)
	}
	sum := sha256.Sum256(bundle.PAE(HeadType, e.Payload))
	if !ecdsa.VerifyASN1(public, sum[:], e.Signatures[0].Sig) {
		return nil, fmt.Errorf("%w: the signature is not good", ErrHead)
	}
	return &h, nil
}

func (h *Head) validate() error {
	if h.V != format {
		return malformed("head: format %d, this version reads %d", h.V, format)
	}
	if h.Size == 0 || h.Size > MaxSize || h.TSMS < 0 || h.TSMS > bundle.MaxInteger || len(h.Key) > maxKeyBytes {
		return malformed("head: its size, time or key is out of range")
	}
	for what, s := range map[string]string{"registry": h.Registry, "head": h.Head, "state": h.State, "signers": h.Signers, "node_id": h.NodeID} {
		if _, err := addr(what, s); err != nil {
			return err
		}
	}
	_, err := parseRoot(h.Tree)
	return err
}
