// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms/locked"
	"github.com/rustyonions/macronode/internal/svc/kms/primitive"
)

// Spec says which key is wanted.
type Spec struct {
	Name    string
	Alg     Algorithm
	Purpose Purpose
	// Replay names the request, so that one that is repeated finds what it
	// made; zero: none.
	Replay [32]byte
}

// Validate says what of p could not be had, as Invalid.
func (p *Spec) Validate() error {
	switch {
	case !ValidName(p.Name):
		return macronode.Errorf(macronode.Invalid, "a key's name is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, the first a letter or digit")
	case algorithms[p.Alg].id == 0:
		return macronode.Errorf(macronode.Invalid, "unknown algorithm; the algorithms are %v", Algorithms())
	case purposeIDs[p.Purpose] == 0:
		return macronode.Errorf(macronode.Invalid, "unknown purpose; the purposes are %v", Purposes())
	case !p.Alg.Suits(p.Purpose):
		return macronode.Errorf(macronode.Invalid, "a key of algorithm %s cannot have purpose %s", p.Alg, p.Purpose)
	}
	return nil
}

// Create makes a key with version 1. Where there is one of the same algorithm
// and purpose it is returned as it is, and made is false; of another, Conflict.
// When it returns nil the key is durable.
func (s *Store) Create(ctx context.Context, p Spec) (info KeyInfo, made bool, err error) {
	defer func() { s.metrics.count(opCreate, p.Alg, err) }()
	if err := p.Validate(); err != nil {
		return KeyInfo{}, false, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	k, err := s.present(p)
	if err != nil {
		return KeyInfo{}, false, err
	}
	if k != nil {
		return k.info(), false, nil
	}
	if err := s.before(ctx, s.event(ctx, opCreate, p.Name, attrs(p.Alg, 1))); err != nil {
		return KeyInfo{}, false, err
	}
	secret, err := s.generate(p.Alg)
	if err != nil {
		return KeyInfo{}, false, macronode.Wrap(macronode.Internal, "", err)
	}
	k, err = s.add(p, nil, secret)
	if err != nil {
		return KeyInfo{}, false, err
	}
	return k.info(), true, nil
}

// present returns the key that p asks for, nil where the name is free.
func (s *Store) present(p Spec) (*key, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	k, err := s.lookup(p.Name, anyPurpose)
	switch {
	case err != nil && macronode.KindOf(err) == macronode.NotFound:
		return nil, nil
	case err != nil:
		return nil, err
	case k.alg != p.Alg || k.purpose != p.Purpose:
		return nil, macronode.Errorf(macronode.Conflict, "key %s is there already, with algorithm %s and purpose %s", p.Name, k.alg, k.purpose)
	}
	return k, nil
}

// MintVersions is how many versions of a minting key there are at most: the
// current one and the two before it, by which tokens are good. Older ones are
// dropped from the record and wiped when it rotates: no token needs them.
const MintVersions = 3

// Rotate adds a version to a key and returns it. Old versions go on verifying,
// unwrapping and serving by number. Where p.Replay is that of a version that is
// there, that one is returned and made is false. Only Name and Replay of p count.
func (s *Store) Rotate(ctx context.Context, p Spec) (info KeyInfo, number uint64, made bool, err error) {
	alg := noAlg
	defer func() { s.metrics.count(opRotate, alg, err) }()
	s.change.Lock()
	defer s.change.Unlock()
	k, err := s.get(p.Name)
	if err != nil {
		return KeyInfo{}, 0, false, err
	}
	alg = k.alg
	if p.Replay != ([32]byte{}) {
		for _, v := range k.versions {
			if v.replay == p.Replay {
				return k.info(), v.number, false, nil
			}
		}
	}
	if err := s.before(ctx, s.event(ctx, opRotate, p.Name, attrs(alg, k.newest().number+1))); err != nil {
		return KeyInfo{}, 0, false, err
	}
	secret, err := s.generate(alg)
	if err != nil {
		return KeyInfo{}, 0, false, macronode.Wrap(macronode.Internal, "", err)
	}
	p.Alg, p.Purpose = k.alg, k.purpose
	if k, err = s.add(p, k, secret); err != nil {
		return KeyInfo{}, 0, false, err
	}
	return k.info(), k.newest().number, true, nil
}

// Import makes a key, or a new version of one of the same algorithm and purpose,
// from a private key that came from elsewhere; material is wiped. It is PEM
// ("PRIVATE KEY", "EC PRIVATE KEY") for Ed25519 and P-256, or the raw 32 bytes:
// seed, scalar or symmetric key; of a hybrid both, 64 bytes, Ed25519 first.
// Where the key has a version of this material already, nothing is done.
func (s *Store) Import(ctx context.Context, p Spec, material []byte) (info KeyInfo, number uint64, err error) {
	defer func() { s.metrics.count(opImport, p.Alg, err) }()
	defer clear(material)
	if err := p.Validate(); err != nil {
		return KeyInfo{}, 0, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	k, err := s.present(p)
	if err != nil {
		return KeyInfo{}, 0, err
	}
	secret, err := s.material(p.Alg, material)
	if err != nil {
		return KeyInfo{}, 0, macronode.Errorf(macronode.Invalid, "not a private key of algorithm %s", p.Alg)
	}
	number = 1
	if k != nil {
		for _, v := range k.versions {
			if subtle.ConstantTimeCompare(v.secret.Bytes(), secret.Bytes()) == 1 {
				secret.Wipe()
				return k.info(), v.number, nil
			}
		}
		number = k.newest().number + 1
	}
	if err := s.before(ctx, s.event(ctx, opImport, p.Name, attrs(p.Alg, number))); err != nil {
		secret.Wipe()
		return KeyInfo{}, 0, err
	}
	if k, err = s.add(p, k, secret); err != nil {
		return KeyInfo{}, 0, err
	}
	return k.info(), number, nil
}

// Delete drops a key with all its versions, also a damaged one. NotFound where
// there is none. What its versions signed or wrapped cannot be checked or opened
// any more: it is for a purged tenant's minting key.
func (s *Store) Delete(ctx context.Context, name string) (err error) {
	alg := noAlg
	defer func() { s.metrics.count(opDelete, alg, err) }()
	s.change.Lock()
	defer s.change.Unlock()
	k, err := s.get(name)
	if err != nil && macronode.KindOf(err) != macronode.Integrity {
		return err
	}
	if k != nil {
		alg = k.alg
	}
	if err := s.before(ctx, s.event(ctx, opDelete, name, attrs(alg, 0))); err != nil {
		return err
	}
	if err := s.vault.Remove(keyPrefix + name); err != nil {
		return wrapVault(err)
	}
	s.use.Lock()
	delete(s.damaged, keyPrefix+name)
	if k != nil {
		delete(s.keys, name)
		for _, v := range k.versions {
			v.wipe()
		}
	}
	s.use.Unlock()
	s.published(alg)
	return nil
}

// get is lookup for changers.
func (s *Store) get(name string) (*key, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	return s.lookup(name, anyPurpose)
}

// add writes the record of old (nil: a new key) with one version more, and
// publishes it. It needs s.change and takes secret over.
func (s *Store) add(p Spec, old *key, secret *locked.Secret) (*key, error) {
	k := &key{name: p.Name, alg: p.Alg, purpose: p.Purpose}
	number := uint64(1)
	if old != nil {
		k.versions = slices.Clone(old.versions)
		number = old.newest().number + 1
	}
	if len(k.versions) >= MaxKeyVersions {
		secret.Wipe()
		return nil, macronode.Errorf(macronode.Invalid, "key %s has %d versions, and cannot have more", p.Name, MaxKeyVersions)
	}
	created := time.UnixMilli(max(s.now().UnixMilli(), 0)).UTC()
	v, err := newVersion(s.vault.Arena(), p.Alg, number, created, p.Replay, secret)
	if err != nil {
		return nil, macronode.Errorf(macronode.Invalid, "not a private key of algorithm %s", p.Alg)
	}
	k.versions = append(k.versions, v)
	var gone []*version
	if p.Purpose == PurposeMint && len(k.versions) > MintVersions {
		n := len(k.versions) - MintVersions
		gone, k.versions = k.versions[:n:n], k.versions[n:]
	}
	if err := s.save(k); err != nil {
		// The disk may have the new version all the same. Nobody was told of
		// it, and the next change writes over it.
		v.wipe()
		return nil, err
	}
	s.use.Lock()
	s.keys[k.name] = k
	for _, v := range gone {
		v.wipe()
	}
	s.use.Unlock()
	s.published(k.alg)
	return k, nil
}

// save writes the record of k. It needs s.change.
func (s *Store) save(k *key) error {
	raws := make([]rawVersion, len(k.versions))
	for i, v := range k.versions {
		raws[i] = v.raw()
	}
	record := encodeKey(s.vault.Arena(), k.alg, k.purpose, raws)
	defer record.Wipe()
	if err := s.vault.Save(keyPrefix+k.name, record.Bytes()); err != nil {
		return wrapVault(err)
	}
	return nil
}

// Made returns the key as the request that created it saw it, with version 1
// alone, and true, where replay names that request.
func (s *Store) Made(name string, replay [replayBytes]byte) (KeyInfo, bool) {
	k, err := s.get(name)
	if err != nil || replay == ([replayBytes]byte{}) || k.versions[0].number != 1 || k.versions[0].replay != replay {
		return KeyInfo{}, false
	}
	first := *k
	first.versions = k.versions[:1]
	return first.info(), true
}

// wrapVault turns a vault's error into what callers may see.
func wrapVault(err error) error {
	return macronode.Wrap(macronode.Unavailable, "the keystore could not be written", err)
}

func attrs(alg Algorithm, version uint64) map[string]any {
	m := map[string]any{"alg": string(alg)}
	if version != 0 {
		m["version"] = int64(version)
	}
	return m
}

// generate makes the secret of a new version.
func (s *Store) generate(alg Algorithm) (*locked.Secret, error) {
	comps := algorithms[alg].components
	secret := s.vault.Arena().Make(primitive.SeedBytes * len(comps))
	for {
		if _, err := rand.Read(secret.Bytes()); err != nil {
			secret.Wipe()
			return nil, err
		}
		// A scalar that is none comes once in 2^32.
		if alg != P256 || primitive.ValidScalar(secret.Bytes()) {
			return secret, nil
		}
	}
}

// scalar moves k's private scalar to dst and wipes k.
func scalar(dst []byte, k *ecdsa.PrivateKey) error {
	b, err := k.Bytes()
	if err != nil || len(b) != len(dst) {
		return primitive.ErrSecret
	}
	copy(dst, b)
	clear(b)
	//lint:ignore SA1019 the only way to reach the words
	clear(k.D.Bits())
	return nil
}

// maxMaterialBytes bounds what Import parses.
const maxMaterialBytes = 64 << 10

// material reads an imported secret.
func (s *Store) material(alg Algorithm, b []byte) (*locked.Secret, error) {
	want := primitive.SeedBytes * len(algorithms[alg].components)
	if len(b) == want {
		return s.vault.Arena().Copy(b), nil
	}
	if len(b) > maxMaterialBytes || (alg != Ed25519 && alg != P256) {
		return nil, primitive.ErrSecret
	}
	block, rest := pem.Decode(b)
	for block != nil && block.Type == "EC PARAMETERS" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, primitive.ErrSecret
	}
	defer clear(block.Bytes)
	var parsed any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, primitive.ErrSecret
	}
	if err != nil {
		return nil, primitive.ErrSecret // the cause may quote the key
	}
	switch k := parsed.(type) {
	case ed25519.PrivateKey:
		defer clear(k)
		if alg == Ed25519 {
			return s.vault.Arena().Copy(k.Seed()), nil
		}
	case *ecdsa.PrivateKey:
		if alg == P256 && k.Curve == elliptic.P256() {
			secret := s.vault.Arena().Make(primitive.SeedBytes)
			if err := scalar(secret.Bytes(), k); err != nil {
				secret.Wipe()
				return nil, err
			}
			return secret, nil
		}
	}
	return nil, primitive.ErrSecret
}

// List describes every key, by name; never a secret.
func (s *Store) List(ctx context.Context) (out []KeyInfo, err error) {
	out, err = s.list()
	s.metrics.count(opList, noAlg, err)
	if err == nil {
		s.after(ctx, opList, "", noAlg, 0)
	}
	return out, err
}

func (s *Store) list() ([]KeyInfo, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	if err := s.ready(); err != nil {
		return nil, err
	}
	out := make([]KeyInfo, 0, len(s.keys))
	for _, name := range slices.Sorted(maps.Keys(s.keys)) {
		out = append(out, s.keys[name].info())
	}
	return out, nil
}

// Key describes one key.
func (s *Store) Key(name string) (KeyInfo, error) {
	k, err := s.get(name)
	if err != nil {
		return KeyInfo{}, err
	}
	return k.info(), nil
}

// WithSecret calls f with the 32 bytes of a symmetric key that has the given
// purpose; version 0 is the newest. The bytes are the key itself: f must not
// keep, change or show them, and must not call the Store. Asymmetric keys are
// Denied. It is cheap enough for every request.
func (s *Store) WithSecret(name string, version uint64, p Purpose, f func(secret []byte) error) error {
	s.use.RLock()
	defer s.use.RUnlock()
	k, err := s.lookup(name, p)
	if err != nil {
		s.metrics.count(opSecret, noAlg, err)
		return err
	}
	if k.alg != MAC256 {
		err = macronode.Errorf(macronode.Denied, "key %s is not a MAC key", name)
		s.metrics.count(opSecret, k.alg, err)
		return err
	}
	v, err := k.versionOf(version)
	s.metrics.count(opSecret, k.alg, err)
	if err != nil {
		return err
	}
	locked.Scrub(func() { err = f(v.secret.Bytes()) })
	return err
}
