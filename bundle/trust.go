// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// Limits on a trust document.
const (
	MaxTrustBytes = 1 << 20
	MaxAnchors    = 64 // a purpose
	trustFormat   = 1
)

// Trust says who may sign what: DIR/trust.json. It is written by init, changed
// only on the machine, and read before any bundle is believed.
type Trust struct {
	// V is the format version, 1.
	V int `json:"v"`
	// Config signs node config bundles, Policy signs policy bundles. A key that
	// stands under one purpose says nothing under the other.
	Config Role `json:"config"`
	Policy Role `json:"policy"`
}

// Role is one purpose: the anchors that count for it, and how many distinct ones
// must have signed.
type Role struct {
	// Threshold is m of n, counted in key names: two versions of one key are one
	// signer. At least 1.
	Threshold int `json:"threshold"`
	// Anchors are the keys, at most [MaxAnchors]. Several versions of one name
	// may stand side by side while a key is rotated.
	Anchors []Anchor `json:"anchors"`
}

// Anchor is one trusted public key. With MLDSA65 it is hybrid, and counts only
// where both signatures are there and verify.
type Anchor struct {
	Name    string `json:"name"`
	Version uint64 `json:"version"`
	Ed25519 []byte `json:"ed25519"`             // 32 bytes, base64
	MLDSA65 []byte `json:"ml_dsa_65,omitempty"` // 1952 bytes, base64; absent: not hybrid
}

// Hybrid reports whether the anchor needs both signatures.
func (a Anchor) Hybrid() bool { return len(a.MLDSA65) > 0 }

// Role returns the role that signs documents of payloadType; false where none
// does.
func (t *Trust) Role(payloadType string) (*Role, bool) {
	switch payloadType {
	case ConfigType:
		return &t.Config, true
	case PolicyType:
		return &t.Policy, true
	}
	return nil, false
}

// ParseTrust reads a trust document. Unknown members, duplicate members and keys
// of the wrong form are refused: a trust document that is read wrongly trusts the
// wrong people. Errors wrap [ErrMalformed].
func ParseTrust(text []byte) (*Trust, error) {
	if len(text) > MaxTrustBytes {
		return nil, malformed("trust document: %d bytes, at most %d are accepted", len(text), MaxTrustBytes)
	}
	if err := checkJSON(text, true); err != nil {
		return nil, malformed("trust document: %v", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var t Trust
	if err := dec.Decode(&t); err != nil {
		return nil, malformed("trust document: %v", err)
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return &t, nil
}

// Encode returns the document's JSON text, ending in a newline.
func (t *Trust) Encode() ([]byte, error) {
	c := *t
	c.V = trustFormat
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// Validate reports the first thing wrong with t. No purpose may be empty: who
// trusts nobody must say so by having no trust document.
func (t *Trust) Validate() error {
	if t.V != trustFormat {
		return malformed("trust document: format %d, this version reads %d", t.V, trustFormat)
	}
	if err := t.Config.Validate("config"); err != nil {
		return err
	}
	return t.Policy.Validate("policy")
}

// Validate reports the first thing wrong with r, whose purpose the error names.
func (r *Role) Validate(purpose string) error {
	if len(r.Anchors) == 0 || len(r.Anchors) > MaxAnchors {
		return malformed("trust document: %s: %d anchors, 1 to %d are accepted", purpose, len(r.Anchors), MaxAnchors)
	}
	names := map[string]bool{}
	ids := map[KeyID]bool{}
	owner := map[string]string{} // public key -> name
	for _, a := range r.Anchors {
		if err := a.validate(purpose); err != nil {
			return err
		}
		id := KeyID{Name: a.Name, Version: a.Version}
		if ids[id] {
			return malformed("trust document: %s: anchor %s#v%d stands twice", purpose, a.Name, a.Version)
		}
		ids[id], names[a.Name] = true, true
		// One key under two names would count as two signers.
		for _, pub := range [][]byte{a.Ed25519, a.MLDSA65} {
			if other, ok := owner[string(pub)]; ok && len(pub) > 0 && other != a.Name {
				return malformed("trust document: %s: anchors %s and %s are one public key", purpose, other, a.Name)
			}
			owner[string(pub)] = a.Name
		}
	}
	if r.Threshold < 1 || r.Threshold > len(names) {
		return malformed("trust document: %s: threshold %d, 1 to %d (the anchors' names) is accepted", purpose, r.Threshold, len(names))
	}
	return nil
}

func (a Anchor) validate(purpose string) error {
	switch {
	case !ValidName(a.Name):
		return malformed("trust document: %s: an anchor's name is 1 to 64 of a-z, 0-9, dot, underscore and hyphen", purpose)
	case a.Version < 1 || a.Version > MaxInteger:
		return malformed("trust document: %s: anchor %s: version must be 1 to 2^53-1", purpose, a.Name)
	case len(a.Ed25519) != ed25519.PublicKeySize:
		return malformed("trust document: %s: anchor %s: ed25519 key of %d bytes, want %d", purpose, a.Name, len(a.Ed25519), ed25519.PublicKeySize)
	case a.Hybrid() && len(a.MLDSA65) != mldsa65.PublicKeySize:
		return malformed("trust document: %s: anchor %s: ml_dsa_65 key of %d bytes, want %d", purpose, a.Name, len(a.MLDSA65), mldsa65.PublicKeySize)
	}
	return nil
}
