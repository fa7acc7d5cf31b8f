// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// MaxCheckpointBytes bounds a signed checkpoint: a hundred hybrid signatures.
	MaxCheckpointBytes = 1 << 19
	// MaxTreeSize is the most entries that a tree may have, 2^48: indexes of
	// stored hashes and tiles fit everywhere.
	MaxTreeSize = 1 << 48
)

// ErrCheckpoint: bytes that are no checkpoint, or one that no trusted key signed.
var ErrCheckpoint = errors.New("tlog: not a trusted checkpoint")

// Hash is a node of the Merkle tree: SHA-256 as RFC 6962 has it.
type Hash = tlog.Hash

// Checkpoint says what a log was at one moment: its tree's size and root hash.
type Checkpoint struct {
	Origin string // names the log
	Size   uint64
	Root   Hash
}

// Text is the body that is signed (C2SP tlog-checkpoint, without extensions).
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// ParseCheckpoint reads the body. Extension lines are allowed and ignored.
func ParseCheckpoint(text string) (Checkpoint, error) {
	var c Checkpoint
	origin, rest, _ := strings.Cut(text, "\n")
	size, rest, _ := strings.Cut(rest, "\n")
	root, rest, whole := strings.Cut(rest, "\n")
	if !whole || origin == "" || rest != "" && !strings.HasSuffix(rest, "\n") {
		return c, fmt.Errorf("%w: it has no three lines", ErrCheckpoint)
	}
	n, err := strconv.ParseUint(size, 10, 64)
	if err != nil || n > MaxTreeSize || strconv.FormatUint(n, 10) != size {
		return c, fmt.Errorf("%w: size %.30q", ErrCheckpoint, size)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(root)
	if err != nil || len(raw) != len(c.Root) {
		return c, fmt.Errorf("%w: root %.60q", ErrCheckpoint, root)
	}
	c.Origin, c.Size = origin, n
	copy(c.Root[:], raw)
	return c, nil
}

// Signed is a checkpoint with who vouches for it.
type Signed struct {
	Checkpoint
	Note []byte // as it was signed
	By   []Key  // the trusted keys whose signatures hold, in the note's order
}

// Has reports whether k is among the keys that signed.
func (s *Signed) Has(k Key) bool {
	for _, by := range s.By {
		if by.same(k) {
			return true
		}
	}
	return false
}

// Open reads a signed checkpoint. A signature by one of the keys must hold, none
// by any of them may be bad; those of others are ignored.
func Open(signed []byte, keys ...Key) (*Signed, error) {
	if len(signed) > MaxCheckpointBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrCheckpoint, len(signed))
	}
	verifiers := make([]note.Verifier, len(keys))
	for i := range keys {
		verifiers[i] = verifier{keys[i]}
	}
	n, err := note.Open(signed, note.VerifierList(verifiers...))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil {
		return nil, err
	}
	s := &Signed{Checkpoint: c, Note: signed}
	for _, sig := range n.Sigs {
		for _, k := range keys {
			if k.Name == sig.Name && k.ID() == sig.Hash {
				s.By = append(s.By, k)
			}
		}
	}
	return s, nil
}

// OpenLog is Open for a log's own checkpoint: its origin is the name of log's
// keys, and all of them signed.
func OpenLog(signed []byte, log []Key, others ...Key) (*Signed, error) {
	if len(log) == 0 {
		return nil, fmt.Errorf("%w: no key of the log is known", ErrCheckpoint)
	}
	s, err := Open(signed, append(append([]Key(nil), log...), others...)...)
	if err != nil {
		return nil, err
	}
	for _, k := range log {
		if s.Origin != k.Name {
			return nil, fmt.Errorf("%w: it is of %q, not of %q", ErrCheckpoint, s.Origin, k.Name)
		}
		if !s.Has(k) {
			return nil, fmt.Errorf("%w: the log's %s key did not sign", ErrCheckpoint, k.Type)
		}
	}
	return s, nil
}

// Line returns the signature line of k over a checkpoint's note.
func Line(k Key, signature []byte) string {
	id := k.ID()
	raw := append([]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}, signature...)
	return "— " + k.Name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
}
