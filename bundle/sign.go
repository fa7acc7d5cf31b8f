// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// Refusals of [Verify]. Errors wrap one of these or [ErrMalformed].
var (
	// ErrUnknownSigner: nobody who signed is a trust anchor.
	ErrUnknownSigner = errors.New("unknown signer")
	// ErrBadSignature: a signature under an anchor's key id does not verify.
	ErrBadSignature = errors.New("bad signature")
	// ErrThreshold: too few anchors signed, or a hybrid one with half its key.
	ErrThreshold = errors.New("too few signatures")
	// ErrWrongType: the envelope is for another kind of document.
	ErrWrongType = errors.New("wrong payload type")
)

// Signer makes one signature. The KMS implements it for each half of a key of
// purpose "bundle"; a hybrid key is two signers.
type Signer interface {
	// KeyID is "NAME#vN/ed25519" or "NAME#vN/ml-dsa-65"; see [KeyID].
	KeyID() string
	// Alg is the algorithm, the last part of KeyID.
	Alg() string
	// Sign signs message itself, without hashing it first: pure Ed25519, or pure
	// ML-DSA-65 with an empty context string.
	Sign(message []byte) ([]byte, error)
}

// Sign returns an envelope of payload with one signature by each signer, sorted
// by key id.
func Sign(payloadType string, payload []byte, signers ...Signer) (*Envelope, error) {
	if len(signers) == 0 {
		return nil, errors.New("no signer")
	}
	e := &Envelope{PayloadType: payloadType, Payload: slices.Clone(payload)}
	message := PAE(payloadType, payload)
	for _, s := range signers {
		sig, err := signature(s, message)
		if err != nil {
			return nil, err
		}
		e.Signatures = append(e.Signatures, sig)
	}
	if err := e.sorted(); err != nil {
		return nil, err
	}
	return e, nil
}

// Add returns e with one signature more by each signer, sorted by key id: how m of
// n sign one after the other. A signature that is there under a signer's key id
// is replaced. The others are kept as they are, verified by nobody.
func (e *Envelope) Add(signers ...Signer) (*Envelope, error) {
	added, err := Sign(e.PayloadType, e.Payload, signers...)
	if err != nil {
		return nil, err
	}
	for _, s := range e.Signatures {
		if !slices.ContainsFunc(added.Signatures, func(a Signature) bool { return a.KeyID == s.KeyID }) {
			added.Signatures = append(added.Signatures, s)
		}
	}
	if err := added.sorted(); err != nil {
		return nil, err
	}
	return added, nil
}

func signature(s Signer, message []byte) (Signature, error) {
	id, err := ParseKeyID(s.KeyID())
	if err != nil {
		return Signature{}, err
	}
	if id.Alg != s.Alg() {
		return Signature{}, malformed("key id: %s is not of algorithm %s", id, s.Alg())
	}
	sig, err := s.Sign(message)
	if err != nil {
		return Signature{}, fmt.Errorf("sign with %s: %w", id, err)
	}
	return Signature{KeyID: id.String(), Sig: sig}, nil
}

// sorted orders the signatures by key id and holds the envelope to the limits.
func (e *Envelope) sorted() error {
	slices.SortFunc(e.Signatures, func(a, b Signature) int {
		switch {
		case a.KeyID < b.KeyID:
			return -1
		case a.KeyID > b.KeyID:
			return 1
		}
		return 0
	})
	return e.check()
}

// Signed is an anchor whose every signature verified.
type Signed struct {
	Name    string
	Version uint64
	Hybrid  bool
}

// String returns "NAME#vN".
func (s Signed) String() string { return fmt.Sprintf("%s#v%d", s.Name, s.Version) }

// Verify checks that e is of payloadType and that enough anchors of that type's
// role signed it, and returns those that did, in the order of the trust document.
//
// A signature under a key id that is no anchor's is not an error by itself: while
// keys are rotated, a bundle may be signed by a key that this node does not know
// yet. It never counts. A signature under an anchor's key id that does not verify
// is refused even where enough others do.
func Verify(e *Envelope, payloadType string, trust *Trust) ([]Signed, error) {
	if e == nil || trust == nil {
		return nil, fmt.Errorf("%w: nothing is trusted", ErrUnknownSigner)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	role, ok := trust.Role(payloadType)
	if !ok || e.PayloadType != payloadType {
		return nil, fmt.Errorf("%w: want %s", ErrWrongType, payloadType)
	}
	if err := trust.Validate(); err != nil {
		return nil, err
	}
	byID := make(map[string][]byte, len(e.Signatures))
	for _, s := range e.Signatures {
		byID[s.KeyID] = s.Sig
	}
	message := PAE(e.PayloadType, e.Payload)
	var signed []Signed
	names, half := map[string]bool{}, ""
	used := 0
	for _, a := range role.Anchors {
		got, err := a.verify(message, byID)
		if err != nil {
			return nil, err
		}
		used += got
		switch {
		case got == a.signatures():
			signed = append(signed, Signed{Name: a.Name, Version: a.Version, Hybrid: a.Hybrid()})
			names[a.Name] = true
		case got > 0:
			half = a.Name
		}
	}
	if len(names) >= role.Threshold {
		return signed, nil
	}
	switch {
	case half != "":
		return nil, fmt.Errorf("%w: anchor %s is hybrid and needs both %s and %s", ErrThreshold, half, AlgEd25519, AlgMLDSA65)
	case used == 0:
		return nil, fmt.Errorf("%w: %q is no trust anchor", ErrUnknownSigner, e.Signatures[0].KeyID)
	}
	return nil, fmt.Errorf("%w: %d of %d anchors signed, %d needed", ErrThreshold, len(names), len(role.Anchors), role.Threshold)
}

// Signed verifies the anchor's signatures of message (see [PAE]) among those of
// others: nil where each that the anchor needs is there and good. [ErrUnknownSigner]
// says that there is none of its, [ErrThreshold] that it is hybrid and one is
// missing, [ErrBadSignature] that one does not verify.
func (a Anchor) Signed(message []byte, signatures []Signature) error {
	if err := a.validate("signer"); err != nil {
		return err
	}
	byID := make(map[string][]byte, len(signatures))
	for _, s := range signatures {
		byID[s.KeyID] = s.Sig
	}
	switch n, err := a.verify(message, byID); {
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("%w: nothing is signed by %s#v%d", ErrUnknownSigner, a.Name, a.Version)
	case n < a.signatures():
		return fmt.Errorf("%w: %s#v%d is hybrid and needs both %s and %s", ErrThreshold, a.Name, a.Version, AlgEd25519, AlgMLDSA65)
	}
	return nil
}

// signatures is how many the anchor must have made.
func (a Anchor) signatures() int {
	if a.Hybrid() {
		return 2
	}
	return 1
}

// verify returns how many of the anchor's signatures are there; each that is
// there must verify.
func (a Anchor) verify(message []byte, byID map[string][]byte) (int, error) {
	n := 0
	id := KeyID{Name: a.Name, Version: a.Version, Alg: AlgEd25519}.String()
	if sig, ok := byID[id]; ok {
		if len(sig) != ed25519.SignatureSize || !ed25519.Verify(a.Ed25519, message, sig) {
			return 0, fmt.Errorf("%w: by %s", ErrBadSignature, id)
		}
		n++
	}
	if !a.Hybrid() {
		return n, nil
	}
	id = KeyID{Name: a.Name, Version: a.Version, Alg: AlgMLDSA65}.String()
	if sig, ok := byID[id]; ok {
		var pub mldsa65.PublicKey
		if err := pub.UnmarshalBinary(a.MLDSA65); err != nil {
			return 0, malformed("trust document: anchor %s: ml_dsa_65 key", a.Name)
		}
		if len(sig) != mldsa65.SignatureSize || !mldsa65.Verify(&pub, message, nil, sig) {
			return 0, fmt.Errorf("%w: by %s", ErrBadSignature, id)
		}
		n++
	}
	return n, nil
}
