// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/kms/primitive"
	"lukechampine.com/blake3"
)

// KeyInfo describes a key without its secrets. It is the JSON of the API and of
// the public document.
type KeyInfo struct {
	Name     string        `json:"name"`
	Alg      Algorithm     `json:"alg"`
	Purpose  Purpose       `json:"purpose"`
	Versions []VersionInfo `json:"versions"` // ascending
}

// VersionInfo describes one version.
type VersionInfo struct {
	Version   uint64      `json:"version"`
	CreatedMS int64       `json:"created_ms"`
	Public    []PublicKey `json:"public,omitempty"` // none of symmetric keys
}

// PublicKey is one public key; a hybrid has two.
type PublicKey struct {
	KeyID string `json:"keyid"` // NAME#vN/ALG
	Alg   string `json:"alg"`
	// Raw is the key as its standard has it: 32 bytes of Ed25519 (RFC 8032), the
	// uncompressed point of P-256, FIPS 204's encoding of ML-DSA.
	Raw     []byte `json:"raw"`
	SPKIPEM string `json:"spki_pem"`
}

// Newest is the last version.
func (k *KeyInfo) Newest() *VersionInfo { return &k.Versions[len(k.Versions)-1] }

// Find returns a version; 0 is the newest; nil where there is none.
func (k *KeyInfo) Find(n uint64) *VersionInfo {
	if n == 0 && len(k.Versions) > 0 {
		return k.Newest()
	}
	for i := range k.Versions {
		if k.Versions[i].Version == n {
			return &k.Versions[i]
		}
	}
	return nil
}

// keyID is the text that names one half of one version.
func keyID(name string, version uint64, c primitive.Kind) string {
	return fmt.Sprintf("%s#v%d/%s", name, version, c)
}

// info describes k. It reads public halves only, so it needs no lock.
func (k *key) info() KeyInfo {
	out := KeyInfo{Name: k.name, Alg: k.alg, Purpose: k.purpose, Versions: make([]VersionInfo, 0, len(k.versions))}
	for _, v := range k.versions {
		i := VersionInfo{Version: v.number, CreatedMS: v.created.UnixMilli()}
		for _, h := range v.halves {
			if !h.Kind.Public() {
				continue
			}
			i.Public = append(i.Public, PublicKey{
				KeyID: keyID(k.name, v.number, h.Kind), Alg: h.Kind.String(), Raw: bytes.Clone(h.Pub),
				SPKIPEM: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: h.DER})),
			})
		}
		out.Versions = append(out.Versions, i)
	}
	return out
}

// PublicDocument is what anyone may read of a keystore: its public keys, without
// root or lock. Symmetric keys are not in it.
type PublicDocument struct {
	Format int       `json:"format"`            // 1
	NodeID string    `json:"node_id,omitempty"` // of key "node", where there is one
	Keys   []KeyInfo `json:"keys"`
}

const publicFormat = 1

// ErrPublic says that a public document cannot be read.
var ErrPublic = errors.New("kms: not a public document of this format")

// ParsePublic reads a public document.
func ParsePublic(b []byte) (*PublicDocument, error) {
	var d PublicDocument
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrPublic, err)
	}
	if d.Format != publicFormat || dec.More() {
		return nil, ErrPublic
	}
	for i := range d.Keys {
		if !ValidName(d.Keys[i].Name) || len(d.Keys[i].Versions) == 0 {
			return nil, ErrPublic
		}
	}
	return &d, nil
}

// Key finds a key by name; nil where there is none.
func (d *PublicDocument) Key(name string) *KeyInfo {
	for i := range d.Keys {
		if d.Keys[i].Name == name {
			return &d.Keys[i]
		}
	}
	return nil
}

// published brings the public document up to date after a change of a key of
// algorithm alg. Failing that, the change stands, and the next one, or the next
// Open, tries again. It needs s.change.
func (s *Store) published(alg Algorithm) {
	s.use.RLock()
	stale := s.publicStale
	s.use.RUnlock()
	if alg.Signs() || alg == noAlg || stale {
		s.publish()
	}
}

func (s *Store) publish() {
	s.use.RLock()
	d := PublicDocument{Format: publicFormat, Keys: []KeyInfo{}}
	d.NodeID, _ = s.nodeID()
	for _, name := range slices.Sorted(maps.Keys(s.keys)) {
		if s.keys[name].alg.Signs() {
			d.Keys = append(d.Keys, s.keys[name].info())
		}
	}
	s.use.RUnlock()
	b, err := json.MarshalIndent(&d, "", "  ")
	if err == nil {
		b = append(b, '\n')
		if old, _ := s.vault.Public(); !bytes.Equal(old, b) {
			err = s.vault.SavePublic(b)
		}
	}
	if err != nil {
		s.log.Warn("the public keys' file was not written", "event", "kms_public_failed", "reason", err.Error())
	}
	s.use.Lock()
	s.publicStale = err != nil
	s.use.Unlock()
}

// NodeKey is the name of the key that is the node's identity.
const NodeKey = "node"

// NodeID is "b3:" and the BLAKE3 of the SubjectPublicKeyInfo of the newest
// version of key "node"; NotFound where there is none.
func (s *Store) NodeID() (string, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	if err := s.ready(); err != nil {
		return "", err
	}
	return s.nodeID()
}

func (s *Store) nodeID() (string, error) {
	k, ok := s.keys[NodeKey]
	if !ok || k.purpose != PurposeNode {
		return "", macronode.Errorf(macronode.NotFound, "there is no key %s of purpose %s", NodeKey, PurposeNode)
	}
	return NodeIDOf(k.newest().halves[0].DER), nil
}

// NodeIDOf is the node_id of a DER SubjectPublicKeyInfo.
func NodeIDOf(der []byte) string { return b3.Addr(blake3.Sum256(der)).String() }
