// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
)

// Decision is what a signer says to a proposal.
type Decision string

// The decisions.
const (
	Approve Decision = "approve"
	Reject  Decision = "reject"
)

// StatementType is the payload type under which statements are signed.
const StatementType = "application/vnd.macronode.registry-decision+json"

// Statement is what a signer signs.
type Statement struct {
	V        int      `json:"v"`
	Registry string   `json:"registry"`
	Proposal string   `json:"proposal"`
	Decision Decision `json:"decision"`
}

// Message is the bytes that a signer of registry id signs to decide so on the
// proposal of that address.
func Message(id, proposal b3.Addr, d Decision) ([]byte, error) {
	if d != Approve && d != Reject {
		return nil, malformed("decision: approve or reject")
	}
	text, err := encode(Statement{format, id.String(), proposal.String(), d})
	if err != nil {
		return nil, err
	}
	return bundle.PAE(StatementType, text), nil
}

// Signature is one half of a signer's signature: KeyID is "NAME#vN/ALG".
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// maxSignatures is of both halves of all signers, before and after a change.
const maxSignatures = 4 * MaxSigners

// maxSigBytes bounds one half; ML-DSA-65 has 3309.
const maxSigBytes = 4096

// checkSignatures holds a list to its limits and order: by key id, each once.
func checkSignatures(list []Signature) error {
	if len(list) > maxSignatures {
		return malformed("%d signatures, at most %d are accepted", len(list), maxSignatures)
	}
	for i, s := range list {
		if _, err := bundle.ParseKeyID(s.KeyID); err != nil {
			return malformed("signature %d: %v", i+1, err)
		}
		if len(s.Sig) == 0 || len(s.Sig) > maxSigBytes {
			return malformed("signature %d: %d bytes, 1 to %d are accepted", i+1, len(s.Sig), maxSigBytes)
		}
		if i > 0 && list[i-1].KeyID >= s.KeyID {
			return malformed("signatures stand in the order of their key ids, each once")
		}
	}
	return nil
}

func forms(list []Signature) []bundle.Signature {
	out := make([]bundle.Signature, len(list))
	for i, s := range list {
		out[i] = bundle.Signature(s)
	}
	return out
}

// Sign makes the signatures of one signer, each half of its key one.
func Sign(id, proposal b3.Addr, d Decision, halves ...bundle.Signer) ([]Signature, error) {
	message, err := Message(id, proposal, d)
	if err != nil {
		return nil, err
	}
	if len(halves) == 0 {
		return nil, errors.New("no key to sign with")
	}
	list := make([]Signature, 0, len(halves))
	for _, h := range halves {
		sig, err := h.Sign(message)
		if err != nil {
			return nil, fmt.Errorf("sign with %s: %w", h.KeyID(), err)
		}
		list = append(list, Signature{h.KeyID(), sig})
	}
	SortSignatures(list)
	return list, checkSignatures(list)
}

// SortSignatures puts a list in the order in which it is accepted.
func SortSignatures(list []Signature) {
	slices.SortFunc(list, func(a, b Signature) int {
		switch {
		case a.KeyID < b.KeyID:
			return -1
		case a.KeyID > b.KeyID:
			return 1
		}
		return 0
	})
}

// KeyName is "NAME#vN" of an anchor.
func KeyName(a *bundle.Anchor) string { return a.Name + "#v" + strconv.FormatUint(a.Version, 10) }

// Tally is how far a proposal's approvals, or rejections, have come.
type Tally struct {
	// Names are the registered signers that signed, in order.
	Names []string
	// Keys are the keys that signed, "NAME#vN": the signers', and new ones that
	// have shown that they are held.
	Keys []string
	// Missing are new keys that have not signed.
	Missing   []string
	Threshold int // names needed
	Of        int // names there are
	// Counted are the signatures that all this rests on.
	Counted []Signature
}

// Done reports whether it is enough to commit.
func (t *Tally) Done() bool { return len(t.Names) >= t.Threshold && len(t.Missing) == 0 }

// Blocked reports whether, counting rejections, the others are too few to approve.
func (t *Tally) Blocked() bool { return t.Of-len(t.Names) < t.Threshold }

// ErrSignature says that a signature under a key that counts does not verify.
var ErrSignature = errors.New("a signature does not verify")

// Count says who of the signers in force, and which of the keys that p would
// register, signed. A signature under a key that is neither is passed over: it
// never counts. One that does not verify is ErrSignature.
func (s *State) Count(p *Proposal, d Decision, list []Signature) (*Tally, error) {
	id, err := p.Addr()
	if err != nil {
		return nil, err
	}
	message, err := Message(s.registry, id, d)
	if err != nil {
		return nil, err
	}
	if err := checkSignatures(list); err != nil {
		return nil, err
	}
	t := &Tally{Threshold: s.signers.Threshold}
	all := forms(list)
	used := make(map[string]bool)
	signed := func(a *bundle.Anchor) (bool, error) {
		switch err := a.Signed(message, all); {
		case err == nil:
			t.Keys = append(t.Keys, KeyName(a))
			for _, alg := range []string{bundle.AlgEd25519, bundle.AlgMLDSA65} {
				used[bundle.KeyID{Name: a.Name, Version: a.Version, Alg: alg}.String()] = true
			}
			return true, nil
		case errors.Is(err, bundle.ErrUnknownSigner), errors.Is(err, bundle.ErrThreshold):
			return false, nil
		default:
			return false, fmt.Errorf("%w: %w", ErrSignature, err)
		}
	}
	names := make(map[string]bool)
	for i := range s.signers.Signers {
		a := &s.signers.Signers[i]
		ok, err := signed(a)
		if err != nil {
			return nil, err
		}
		names[a.Name] = names[a.Name] || ok
	}
	t.Of = len(names)
	for name, ok := range names {
		if ok {
			t.Names = append(t.Names, name)
		}
	}
	slices.Sort(t.Names)
	if next := p.signers(); next != nil && d == Approve {
		for i := range next.Signers {
			a := &next.Signers[i]
			if s.hasKey(a) {
				continue
			}
			ok, err := signed(a)
			if err != nil {
				return nil, err
			}
			if !ok {
				t.Missing = append(t.Missing, KeyName(a))
			}
		}
	}
	for _, sig := range list {
		if used[sig.KeyID] {
			t.Counted = append(t.Counted, sig)
		}
	}
	return t, nil
}

// hasKey reports whether a is a key of the set in force.
func (s *State) hasKey(a *bundle.Anchor) bool {
	return slices.ContainsFunc(s.signers.Signers, func(b bundle.Anchor) bool { return sameKey(a, &b) })
}

func sameKey(a, b *bundle.Anchor) bool {
	return a.Name == b.Name && a.Version == b.Version && slices.Equal(a.Ed25519, b.Ed25519) && slices.Equal(a.MLDSA65, b.MLDSA65)
}
