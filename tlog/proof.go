// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrProof: a proof that does not prove what it should.
var ErrProof = errors.New("tlog: the proof does not hold")

// maxProof bounds the hashes of a proof.
const maxProof = 2 * 64

// Path is the hashes of a proof, in JSON as base64.
type Path []Hash

// MarshalJSON writes an array of base64 texts.
func (p Path) MarshalJSON() ([]byte, error) {
	texts := make([]string, len(p))
	for i := range p {
		texts[i] = base64.StdEncoding.EncodeToString(p[i][:])
	}
	return json.Marshal(texts)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *Path) UnmarshalJSON(b []byte) error {
	var texts []string
	if err := json.Unmarshal(b, &texts); err != nil {
		return err
	}
	if len(texts) > maxProof {
		return fmt.Errorf("%w: %d hashes", ErrProof, len(texts))
	}
	*p = make(Path, len(texts))
	for i, s := range texts {
		raw, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || len(raw) != tlog.HashSize {
			return fmt.Errorf("%w: hash %d is no hash", ErrProof, i)
		}
		copy((*p)[i][:], raw)
	}
	return nil
}

// Inclusion is the proof that the entry with index Seq is in a tree of size Size.
type Inclusion struct {
	Seq  uint64 `json:"seq"`
	Size uint64 `json:"size"`
	Path Path   `json:"path"`
}

// ProveInclusion makes the proof from the tree's tiles.
func ProveInclusion(seq, size uint64, tiles Tiles) (Inclusion, error) {
	if seq >= size || size > MaxTreeSize {
		return Inclusion{}, fmt.Errorf("%w: entry %d is not in a tree of %d", ErrProof, seq, size)
	}
	p, err := tlog.ProveRecord(int64(size), int64(seq), newReader(size, tiles)) //nolint:gosec // within MaxTreeSize
	return Inclusion{seq, size, Path(p)}, err
}

// Check verifies that the entry is in the tree that c describes.
func (p Inclusion) Check(c Checkpoint, entry []byte) error {
	if p.Size != c.Size || p.Seq >= p.Size || p.Size > MaxTreeSize {
		return fmt.Errorf("%w: it is of entry %d in a tree of %d, the checkpoint of one of %d", ErrProof, p.Seq, p.Size, c.Size)
	}
	if err := tlog.CheckRecord(tlog.RecordProof(p.Path), int64(p.Size), c.Root, int64(p.Seq), LeafHash(entry)); err != nil { //nolint:gosec // within MaxTreeSize
		return fmt.Errorf("%w: entry %d", ErrProof, p.Seq)
	}
	return nil
}

// Consistency is the proof that the tree of size New begins with the one of size
// Old.
type Consistency struct {
	Old  uint64 `json:"old"`
	New  uint64 `json:"new"`
	Path Path   `json:"path"`
}

// ProveConsistency makes the proof from the newer tree's tiles.
func ProveConsistency(older, newer uint64, tiles Tiles) (Consistency, error) {
	if older > newer || newer > MaxTreeSize {
		return Consistency{}, fmt.Errorf("%w: a tree of %d does not begin with one of %d", ErrProof, newer, older)
	}
	c := Consistency{Old: older, New: newer, Path: Path{}}
	if older == 0 || older == newer {
		return c, nil // nothing to show
	}
	p, err := tlog.ProveTree(int64(newer), int64(older), newReader(newer, tiles)) //nolint:gosec // within MaxTreeSize
	c.Path = Path(p)
	return c, err
}

// Check verifies that newer extends older.
func (p Consistency) Check(older, newer Checkpoint) error {
	bad := fmt.Errorf("%w: the tree of %d does not extend the one of %d", ErrProof, newer.Size, older.Size)
	switch {
	case p.Old != older.Size || p.New != newer.Size || p.Old > p.New || p.New > MaxTreeSize:
		return fmt.Errorf("%w: it is of %d and %d, the checkpoints of %d and %d", ErrProof, p.Old, p.New, older.Size, newer.Size)
	case p.Old == 0:
		if older.Root != EmptyRoot || len(p.Path) != 0 {
			return bad
		}
		return nil
	case p.Old == p.New:
		if older.Root != newer.Root || len(p.Path) != 0 {
			return bad
		}
		return nil
	}
	if tlog.CheckTree(tlog.TreeProof(p.Path), int64(p.New), newer.Root, int64(p.Old), older.Root) != nil { //nolint:gosec // within MaxTreeSize
		return bad
	}
	return nil
}
