// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms/primitive"
)

// Signature is what Sign returns, taken apart. Its bytes are, integers big-endian:
//
//	format u8 = 1 | key version u64 | halves u8 | per half:
//	component u8, length u16, signature
//
// Components: 1 Ed25519, 2 P-256 (ASN.1 over the SHA-256), 3 ML-DSA-44,
// 4 ML-DSA-65 (pure, empty context), 5 MAC. Every half signs the message itself,
// so each verifies with any tool; only all together are the key's signature.
type Signature struct {
	Version uint64
	Halves  []HalfSignature
}

// HalfSignature is one component's signature.
type HalfSignature struct {
	Component uint8
	Sig       []byte
}

// KeyID is "NAME#vN/ALG" of the half that made h with version v of a key.
func (h *HalfSignature) KeyID(name string, v uint64) string {
	return keyID(name, v, primitive.Kind(h.Component))
}

const (
	signatureFormat = 1
	maxHalves       = 2
	signatureHead   = 1 + 8 + 1
)

// ErrSignature says that bytes are not a signature in the form of Signature.
var ErrSignature = errors.New("kms: not a signature of this format")

// Bytes encodes s.
func (s *Signature) Bytes() []byte {
	b := []byte{signatureFormat}
	b = binary.BigEndian.AppendUint64(b, s.Version)
	b = append(b, uint8(len(s.Halves)))
	for _, h := range s.Halves {
		b = append(b, h.Component)
		b = binary.BigEndian.AppendUint16(b, uint16(len(h.Sig)))
		b = append(b, h.Sig...)
	}
	return b
}

// ParseSignature accepts only what Bytes writes; the halves are parts of b.
func ParseSignature(b []byte) (Signature, error) {
	if len(b) < signatureHead || b[0] != signatureFormat {
		return Signature{}, ErrSignature
	}
	s := Signature{Version: binary.BigEndian.Uint64(b[1:])}
	n := int(b[signatureHead-1])
	if s.Version == 0 || s.Version > MaxVersion || n == 0 || n > maxHalves {
		return Signature{}, ErrSignature
	}
	b = b[signatureHead:]
	s.Halves = make([]HalfSignature, 0, n)
	for range n {
		if len(b) < 3 {
			return Signature{}, ErrSignature
		}
		l := int(binary.BigEndian.Uint16(b[1:]))
		if l == 0 || l > primitive.MaxSignatureBytes || len(b) < 3+l {
			return Signature{}, ErrSignature
		}
		s.Halves = append(s.Halves, HalfSignature{Component: b[0], Sig: b[3 : 3+l]})
		b = b[3+l:]
	}
	if len(b) != 0 {
		return Signature{}, ErrSignature
	}
	return s, nil
}

// Sign signs message with the newest version of a key of the given purpose; of a
// hybrid with both halves. Keys that encrypt are Denied.
func (s *Store) Sign(ctx context.Context, name string, p Purpose, message []byte) (Signature, error) {
	sig, alg, err := s.sign(name, p, message)
	if err = s.used(ctx, err, opSign, name, alg, sig.Version); err != nil {
		return Signature{}, err
	}
	return sig, nil
}

func (s *Store) sign(name string, p Purpose, message []byte) (Signature, Algorithm, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	k, err := s.lookup(name, p)
	if err != nil {
		return Signature{}, noAlg, err
	}
	if k.alg.Wraps() {
		return Signature{}, k.alg, macronode.Errorf(macronode.Denied, "key %s does not sign: it wraps", name)
	}
	v := k.newest()
	out := Signature{Version: v.number, Halves: make([]HalfSignature, 0, len(v.halves))}
	for _, h := range v.halves {
		sig, err := h.Sign(message)
		if err != nil {
			return Signature{}, k.alg, macronode.Wrap(macronode.Internal, "", err)
		}
		out.Halves = append(out.Halves, HalfSignature{uint8(h.Kind), sig})
	}
	return out, k.alg, nil
}

// Verify reports whether sig is a signature of message by the version of the key
// that it names, old ones too; of a hybrid both halves must be good. An error
// means that the question could not be asked.
func (s *Store) Verify(ctx context.Context, name string, p Purpose, message []byte, sig Signature) (bool, error) {
	ok, alg, err := s.verify(name, p, message, &sig)
	counted := err
	if err == nil && !ok {
		counted = errNotVerified
	}
	s.metrics.count(opVerify, alg, counted)
	if err == nil {
		valid := "no"
		if ok {
			valid = "yes"
		}
		s.after(ctx, opVerify, name, alg, sig.Version, "valid", valid)
	}
	return ok, err
}

// errNotVerified counts as refused.
var errNotVerified = &macronode.Error{Kind: macronode.Invalid}

func (s *Store) verify(name string, p Purpose, message []byte, sig *Signature) (bool, Algorithm, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	k, err := s.lookup(name, p)
	if err != nil {
		return false, noAlg, err
	}
	if k.alg.Wraps() {
		return false, k.alg, macronode.Errorf(macronode.Denied, "key %s does not sign: it wraps", name)
	}
	if sig.Version == 0 { // as a look-up it would mean the newest
		return false, k.alg, nil
	}
	v := k.find(sig.Version)
	if v == nil || v.wiped || len(v.halves) != len(sig.Halves) {
		return false, k.alg, nil
	}
	for i, h := range v.halves {
		if uint8(h.Kind) != sig.Halves[i].Component || !h.Verify(message, sig.Halves[i].Sig) {
			return false, k.alg, nil
		}
	}
	return true, k.alg, nil
}

// Signer signs with one half of one version of a key. It is a bundle.Signer.
type Signer struct {
	store *Store
	key   *key
	v     *version
	half  *primitive.Key
}

// Signers returns a signer for each half of the referenced key, the newest
// version where the reference names none. The key must have purpose p. What they
// sign is recorded in audit for purposes bundle and registry alone: the audit log's own
// checkpoints cannot be records of it.
func (s *Store) Signers(ref Ref, p Purpose) ([]*Signer, error) {
	if ref.Kind != RefKey {
		return nil, macronode.Errorf(macronode.Invalid, "%s is not a key's reference", ref)
	}
	s.use.RLock()
	defer s.use.RUnlock()
	k, err := s.lookup(ref.Name, p)
	if err != nil {
		return nil, err
	}
	if !k.alg.Signs() {
		return nil, macronode.Errorf(macronode.Denied, "key %s does not sign", ref.Name)
	}
	v, err := k.versionOf(ref.Version)
	if err != nil {
		return nil, err
	}
	out := make([]*Signer, len(v.halves))
	for i, h := range v.halves {
		out[i] = &Signer{s, k, v, h}
	}
	return out, nil
}

// KeyID is "NAME#vN/ALG".
func (g *Signer) KeyID() string { return keyID(g.key.name, g.v.number, g.half.Kind) }

// Alg is the algorithm of this half.
func (g *Signer) Alg() string { return g.half.Kind.String() }

// Public is the raw public key of this half.
func (g *Signer) Public() []byte { return append([]byte(nil), g.half.Pub...) }

// Sign signs message itself, without hashing it first.
func (g *Signer) Sign(message []byte) ([]byte, error) {
	sig, err := g.sign(message)
	g.store.metrics.count(opSign, g.key.alg, err)
	if err == nil && (g.key.purpose == PurposeBundle || g.key.purpose == PurposeRegistry) {
		g.store.after(context.Background(), opSign, g.key.name, g.key.alg, g.v.number)
	}
	return sig, err
}

func (g *Signer) sign(message []byte) ([]byte, error) {
	g.store.use.RLock()
	defer g.store.use.RUnlock()
	if err := g.store.ready(); err != nil {
		return nil, err
	}
	if g.v.wiped {
		return nil, macronode.Errorf(macronode.NotFound, "key %s was deleted", g.key.name)
	}
	sig, err := g.half.Sign(message)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return sig, nil
}
