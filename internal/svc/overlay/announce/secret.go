// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package announce

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// Limits of the document of secrets.
const (
	MaxSecretBytes = 1 << 20 // of its text
	maxSecrets     = 8192
	secretBytes    = 32
)

// everyTenant stands for all tenants that have no line of their own.
const everyTenant = "*"

// purpose separates the keys made here from all others made of the same bytes.
const purpose = "macronode 2026-11-23 overlay tenant announcements v1"

// Tag is what an announcement says of an object.
type Tag uint64

// Proof shows that its maker knows the tenant's secret. It holds for one address
// between two nodes, in one direction.
type Proof [32]byte

// Key is a tenant's.
type Key [32]byte

// Secrets are what tenants' keys are derived from. They do not change.
type Secrets struct {
	every *[secretBytes]byte
	own   map[macronode.TenantID][secretBytes]byte
}

// ParseSecrets reads lines of "TENANT SECRET": a tenant's ULID, or * for every
// tenant that has no line, and 64 hex digits. Empty lines and such that begin with
// # do not count. An empty document is an error: it would switch off what somebody
// switched on. Errors name lines, never what stands in them.
func ParseSecrets(text []byte) (*Secrets, error) {
	if len(text) > MaxSecretBytes {
		return nil, fmt.Errorf("announcement secrets: more than %d bytes", MaxSecretBytes)
	}
	s := &Secrets{own: make(map[macronode.TenantID][secretBytes]byte)}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		if err := s.add(line); err != nil {
			return nil, fmt.Errorf("announcement secrets, line %d: %w", number, err)
		}
	}
	if s.every == nil && len(s.own) == 0 {
		return nil, errors.New("announcement secrets: there is none")
	}
	return s, nil
}

func (s *Secrets) add(line []byte) error {
	fields := bytes.Fields(line)
	if len(fields) != 2 || len(fields[1]) != 2*secretBytes {
		return errors.New("it is not TENANT and 64 hex digits")
	}
	var secret [secretBytes]byte
	if _, err := hex.Decode(secret[:], fields[1]); err != nil {
		return errors.New("the secret is not 64 hex digits")
	}
	if bytes.Count(secret[:], secret[:1]) == secretBytes {
		return errors.New("the secret is one byte repeated")
	}
	if string(fields[0]) == everyTenant {
		if s.every != nil {
			return errors.New("a second line for *")
		}
		s.every = &secret
		return nil
	}
	t, err := macronode.ParseTenantID(string(fields[0]))
	if err != nil {
		return errors.New("the tenant is not a ULID")
	}
	if _, twice := s.own[t]; twice {
		return errors.New("a second line for this tenant")
	}
	if len(s.own) == maxSecrets {
		return fmt.Errorf("more than %d tenants", maxSecrets)
	}
	s.own[t] = secret
	return nil
}

// Key returns the tenant's key; false where no secret covers it. A nil Secrets
// covers nobody.
func (s *Secrets) Key(t macronode.TenantID) (k Key, ok bool) {
	if s == nil || t.IsZero() {
		return k, false
	}
	secret, ok := s.own[t]
	if !ok {
		if s.every == nil {
			return k, false
		}
		secret = *s.every
	}
	blake3.DeriveKey(k[:], purpose, append(secret[:], t[:]...))
	return k, true
}

// What a tenant's key is used for.
const (
	useTag   = 1
	useProof = 2
)

// Tag is the address as the tenant's nodes announce it.
func (k *Key) Tag(addr b3.Addr) Tag {
	var in [1 + b3.Size]byte
	in[0] = useTag
	copy(in[1:], addr[:])
	return Tag(binary.BigEndian.Uint64(k.sum(in[:], 8)))
}

// Proof is what the node asker shows to the node holder when it asks for addr.
func (k *Key) Proof(asker, holder string, addr b3.Addr) (p Proof) {
	in := make([]byte, 0, 256)
	in = append(in, useProof)
	for _, name := range []string{asker, holder} {
		in = binary.BigEndian.AppendUint32(in, uint32(len(name)))
		in = append(in, name...)
	}
	copy(p[:], k.sum(append(in, addr[:]...), len(p)))
	return p
}

// Equal takes the same time whatever differs.
func (p *Proof) Equal(q *Proof) bool { return hmac.Equal(p[:], q[:]) }

func (k *Key) sum(in []byte, n int) []byte {
	h := blake3.New(n, k[:])
	_, _ = h.Write(in) // it does not fail
	return h.Sum(nil)
}
