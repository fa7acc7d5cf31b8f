// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package mark remembers how far the policy of a node has come, so that an older
// bundle, though validly signed and pinned, is not put in force again.
//
// A mark is the highest version that was in force, its hash, and the hashes of
// those before it. It has several witnesses: the data directory's own mark, the
// one in a snapshot that is restored, and the checkpoint of another party. The
// highest counts, and one rule, [Judge], holds at a reload, at a cold start and
// after a restore. The package does no I/O; who keeps a mark is its [Source].
package mark

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

// Limits of a mark's document.
const (
	// MaxChain bounds the hashes that a mark remembers, its own included.
	MaxChain = 64
	// MaxBytes bounds the document, checked before it is parsed.
	MaxBytes = 16 << 10

	maxVersion = 1<<53 - 1 // what a payload can carry
)

// Refusals of [Judge]. Each is a matter of trust.
var (
	// ErrLower: the version is below one that was in force.
	ErrLower = errors.New("an older policy")
	// ErrForked: the version was in force with other content.
	ErrForked = errors.New("another policy of the same version")
	// ErrChain: the bundle does not follow one that was in force here.
	ErrChain = errors.New("a policy that does not follow the one in force")
	// ErrUnmarked: nothing says how far this directory's policy had come.
	ErrUnmarked = errors.New("no mark of the policy in force")
	// ErrMalformed: a mark cannot be read. It is never taken for none.
	ErrMalformed = errors.New("malformed policy mark")
)

// Mark is how far the policy has come. The zero Mark says that nothing is known.
type Mark struct {
	Version int64  `json:"version"`
	Hash    string `json:"bundle_hash"` // "blake3:HEX" of the payload
	// Chain holds the hashes that were in force, the newest last; it ends in Hash
	// but where an exception was made.
	Chain []string `json:"chain"`
	// Exception is a bundle below Version that an operator allowed by name and
	// that may stay in force; Version does not go down for it.
	Exception *Bundle `json:"exception,omitempty"`
}

// Bundle is what the rule looks at.
type Bundle struct {
	Version  int64  `json:"version"`
	Hash     string `json:"bundle_hash"`
	Previous string `json:"previous,omitempty"` // "": none
}

// String returns "VERSION@HASH".
func (b Bundle) String() string { return fmt.Sprintf("%d@%s", b.Version, b.Hash) }

// IsZero reports whether the mark says nothing.
func (m Mark) IsZero() bool { return m.Version == 0 }

// Judge refuses a bundle that would take the policy back or sideways. What is in
// force already is always accepted.
func (m Mark) Judge(b Bundle) error {
	switch {
	case m.IsZero():
		return fmt.Errorf("%w: it cannot be told whether version %d is older than what was in force", ErrUnmarked, b.Version)
	case m.Exception != nil && m.Exception.Version == b.Version && m.Exception.Hash == b.Hash:
		return nil
	case b.Version < m.Version:
		return fmt.Errorf("%w: version %d, while version %d was in force", ErrLower, b.Version, m.Version)
	case b.Version == m.Version && b.Hash == m.Hash:
		return nil
	case b.Version == m.Version:
		return fmt.Errorf("%w: version %d was in force as %s", ErrForked, b.Version, m.Hash)
	case b.Previous == "":
		return fmt.Errorf("%w: version %d names no previous bundle, want %s", ErrChain, b.Version, m.Hash)
	case !slices.Contains(m.Chain, b.Previous):
		return fmt.Errorf("%w: version %d follows %s, which was never in force here; in force is %s", ErrChain, b.Version, b.Previous, m.Hash)
	}
	return nil
}

// Advance returns the mark once b is in force. With allowed b may stand below m:
// then the mark keeps its height and notes the exception.
func (m Mark) Advance(b Bundle, allowed bool) (Mark, error) {
	err := m.Judge(b)
	if err != nil && !allowed {
		return m, err
	}
	next := Mark{Version: b.Version, Hash: b.Hash, Chain: slices.Clone(m.Chain)}
	if b.Version <= m.Version && b.Hash != m.Hash {
		next.Version, next.Hash = m.Version, m.Hash // the height stays
		next.Exception = &Bundle{Version: b.Version, Hash: b.Hash}
	}
	if i := slices.Index(next.Chain, b.Hash); i >= 0 {
		next.Chain = slices.Delete(next.Chain, i, i+1)
	}
	next.Chain = append(next.Chain, b.Hash)
	next.Chain = next.Chain[max(0, len(next.Chain)-MaxChain):]
	return next, nil
}

// InForce is the bundle that the mark was last advanced to: the exception where
// there is one.
func (m Mark) InForce() Bundle {
	if m.Exception != nil {
		return *m.Exception
	}
	return Bundle{Version: m.Version, Hash: m.Hash}
}

// Encode returns the mark's document, ending in a newline.
func (m Mark) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// Decode reads what Encode wrote, and no other form of it. Errors wrap
// [ErrMalformed].
func Decode(text []byte) (Mark, error) {
	if len(text) > MaxBytes {
		return Mark{}, fmt.Errorf("%w: %d bytes, at most %d are accepted", ErrMalformed, len(text), MaxBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var m Mark
	if err := dec.Decode(&m); err != nil {
		return Mark{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	again, err := m.Encode()
	if err != nil {
		return Mark{}, err
	}
	if !bytes.Equal(again, text) {
		return Mark{}, fmt.Errorf("%w: not as it was written", ErrMalformed)
	}
	return m, nil
}

func (m Mark) check() error {
	bad := func(why string) error { return fmt.Errorf("%w: %s", ErrMalformed, why) }
	switch {
	case m.Version < 1 || m.Version > maxVersion:
		return bad("version")
	case !payload.IsHash(m.Hash):
		return bad("bundle_hash")
	case len(m.Chain) == 0 || len(m.Chain) > MaxChain:
		return bad("chain")
	case m.Chain[len(m.Chain)-1] != m.InForce().Hash:
		return bad("the chain does not end in what is in force")
	}
	for _, h := range m.Chain {
		if !payload.IsHash(h) {
			return bad("chain")
		}
	}
	if e := m.Exception; e != nil && (e.Version < 1 || e.Version > m.Version || !payload.IsHash(e.Hash) || e.Previous != "") {
		return bad("exception")
	}
	return nil
}

// Source knows a mark. The data directory is one; a snapshot that is being
// restored and a witnessed checkpoint are the others.
type Source interface {
	// Name is for messages: "the data directory".
	Name() string
	// Mark returns what the source knows, the zero Mark where it never knew one.
	// An error means that it cannot be told, and nothing is put in force.
	Mark() (Mark, error)
}

// Highest is the one mark that counts among what the sources know. Two that were
// at the same version with different content are ErrForked: one of them lies.
// The chain is the highest one's.
func Highest(sources ...Source) (Mark, error) {
	var top Mark
	from := ""
	for _, s := range sources {
		m, err := s.Mark()
		if err != nil {
			return Mark{}, fmt.Errorf("policy mark of %s: %w", s.Name(), err)
		}
		switch {
		case m.IsZero():
			continue
		case m.Version == top.Version && m.Hash != top.Hash:
			return Mark{}, fmt.Errorf("%w: version %d is %s by %s, and %s by %s", ErrForked, m.Version, short(top.Hash), from, short(m.Hash), s.Name())
		case m.Version > top.Version:
			top, from = m, s.Name()
		}
	}
	return top, nil
}

// short is enough of a hash to tell it by.
func short(hash string) string { return strings.TrimPrefix(hash, "blake3:")[:16] }
