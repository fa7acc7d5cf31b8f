// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"slices"

	"github.com/rustyonions/macronode"
)

// DropVersion ends one version of a key of purpose app or tls for good: its
// secret is wiped from memory and is no longer in the record. What it signed
// verifies no more by this node, what it wrapped opens no more, and its number
// is not used again. The newest version stays, and so does one of purpose tls
// that the newest version of a served chain is for: Conflict. A version that is
// not there is NotFound. When it returns nil the change is durable.
func (s *Store) DropVersion(ctx context.Context, name string, number uint64) (info KeyInfo, err error) {
	alg := noAlg
	defer func() { s.metrics.count(opDelete, alg, err) }()
	s.change.Lock()
	defer s.change.Unlock()
	old, err := s.get(name)
	if err != nil {
		return KeyInfo{}, err
	}
	alg = old.alg
	gone := old.find(number)
	switch {
	case old.purpose != PurposeApp && old.purpose != PurposeTLS:
		return KeyInfo{}, macronode.Errorf(macronode.Denied, "key %s has purpose %s: its versions are not dropped one by one", name, old.purpose)
	case number == 0 || gone == nil:
		return KeyInfo{}, macronode.Errorf(macronode.NotFound, "key %s has no version %d", name, number)
	case gone == old.newest():
		return KeyInfo{}, macronode.Errorf(macronode.Conflict, "version %d is the newest of key %s and stays; rotate first", number, name)
	}
	if err := s.unserved(old, gone); err != nil {
		return KeyInfo{}, err
	}
	if err := s.before(ctx, s.event(ctx, opDelete, name, attrs(alg, number))); err != nil {
		return KeyInfo{}, err
	}
	k := &key{name: old.name, alg: old.alg, purpose: old.purpose}
	k.versions = slices.DeleteFunc(slices.Clone(old.versions), func(v *version) bool { return v == gone })
	if err := s.save(k); err != nil {
		return KeyInfo{}, err
	}
	s.use.Lock()
	s.keys[name] = k
	gone.wipe()
	s.use.Unlock()
	s.published(alg)
	return k.info(), nil
}

// unserved refuses a version that a served certificate is for. It needs s.change.
func (s *Store) unserved(k *key, v *version) error {
	s.use.RLock()
	chains := s.chains
	s.use.RUnlock()
	if k.purpose != PurposeTLS || chains == nil {
		return nil
	}
	for object, name := range chains() {
		if name != k.name {
			continue
		}
		chain, _, err := s.Object(Ref{Kind: RefObject, Name: object})
		if err != nil {
			if macronode.KindOf(err) == macronode.NotFound {
				continue
			}
			return err
		}
		c, err := parseChain(chain)
		if err != nil {
			continue // it serves nothing
		}
		signer, err := s.certified(Ref{Kind: RefKey, Name: name, Version: v.number}, c.Leaf)
		if err != nil {
			return err
		}
		if signer != nil {
			return macronode.Errorf(macronode.Conflict, "the certificate in KMS:obj/%s is for version %d of key %s: put a chain for a newer version, and reload, first", object, v.number, name)
		}
	}
	return nil
}
