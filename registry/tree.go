// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rustyonions/macronode/b3"
)

// Leaf is the hash of an entry in the tree: SHA-256 of a zero byte and the entry.
type Leaf [tlog.HashSize]byte

// LeafOf is the leaf of an entry's canonical JSON.
func LeafOf(entry []byte) Leaf { return Leaf(tlog.RecordHash(entry)) }

// Tree is the RFC 6962 tree over the entries of a chain: what proves a range of them
// without the others. It has 64 bytes an entry. One goroutine at a time may add.
type Tree struct {
	size   int64
	hashes []tlog.Hash
}

// Add adds the next entry's leaf.
func (t *Tree) Add(l Leaf) error {
	more, err := tlog.StoredHashesForRecordHash(t.size, tlog.Hash(l), t.reader())
	if err != nil {
		return err
	}
	t.hashes = append(t.hashes, more...)
	t.size++
	return nil
}

// Size is how many entries were added.
func (t *Tree) Size() uint64 { return uint64(t.size) } //nolint:gosec // not negative

func (t *Tree) reader() tlog.HashReaderFunc {
	return func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			if x < 0 || x >= int64(len(t.hashes)) {
				return nil, errors.New("registry: a hash outside of the tree")
			}
			out[i] = t.hashes[x]
		}
		return out, nil
	}
}

const rootPrefix = "sha256:"

func rootText(h tlog.Hash) string { return rootPrefix + hex.EncodeToString(h[:]) }

func parseRoot(s string) (h tlog.Hash, err error) {
	digits, ok := strings.CutPrefix(s, rootPrefix)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(h) || hex.EncodeToString(b) != digits {
		return h, malformed("tree is sha256: and 64 lower-case hex digits")
	}
	return tlog.Hash(b), nil
}

// Root is the root of the tree.
func (t *Tree) Root() string {
	h, err := tlog.TreeHash(t.size, t.reader())
	if err != nil {
		return "" // every hash of a tree made by Add is there
	}
	return rootText(h)
}

// Range is a part of a chain with what proves that a head's chain has it there: the
// entries are linked by their hashes, and the last one's place is proven by Path.
type Range struct {
	From    uint64            `json:"from"` // place of the first entry
	Size    uint64            `json:"size"` // of the head that it is proven against
	Entries []json.RawMessage `json:"entries"`
	// Path are hashes of RFC 6962's inclusion proof of the last entry, in base64.
	Path []string `json:"path"`
}

// maxPath is of a tree of MaxSize.
const maxPath = 2 * 32

// Limits of a range.
const (
	MaxRange      = 256
	MaxRangeBytes = 1 << 20
)

// Prove makes the path of a Range whose last entry is at seq, in the tree over the
// first size entries.
func (t *Tree) Prove(seq, size uint64) ([]string, error) {
	if seq >= size || size > t.Size() {
		return nil, errors.New("registry: an entry outside of the tree")
	}
	p, err := tlog.ProveRecord(int64(size), int64(seq), t.reader()) //nolint:gosec // within MaxSize
	if err != nil {
		return nil, err
	}
	path := make([]string, len(p))
	for i := range p {
		path[i] = base64.StdEncoding.EncodeToString(p[i][:])
	}
	return path, nil
}

// ErrProof says that a range is not part of the head's chain.
var ErrProof = errors.New("the proof does not hold")

// Check verifies that the range is of the chain that ends with h, at the places that
// it says, and returns its entries. It verifies places, not approvals: those need
// the whole chain.
func (r *Range) Check(h *Head) ([]Entry, error) {
	n := uint64(len(r.Entries))
	if n == 0 || n > MaxRange || r.Size != h.Size || r.From >= h.Size || n > h.Size-r.From || len(r.Path) > maxPath {
		return nil, fmt.Errorf("%w: it is not of %d entries", ErrProof, h.Size)
	}
	root, err := parseRoot(h.Tree)
	if err != nil {
		return nil, err
	}
	path := make(tlog.RecordProof, len(r.Path))
	for i, s := range r.Path {
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || len(b) != tlog.HashSize {
			return nil, fmt.Errorf("%w: hash %d is no hash", ErrProof, i)
		}
		path[i] = tlog.Hash(b)
	}
	list := make([]Entry, 0, n)
	prev := ""
	for i, text := range r.Entries {
		e, err := ParseEntry(text)
		if err != nil {
			return nil, err
		}
		if e.Seq != r.From+uint64(i) || i > 0 && e.Prev != prev { //nolint:gosec // not negative
			return nil, fmt.Errorf("%w: entry %d does not follow the one before", ErrProof, i)
		}
		prev = b3.Sum(text).String()
		list = append(list, *e)
	}
	last := r.From + n - 1
	if tlog.CheckRecord(path, int64(h.Size), root, int64(last), tlog.RecordHash(r.Entries[n-1])) != nil { //nolint:gosec // within MaxSize
		return nil, fmt.Errorf("%w: entry %d is not in the head's tree", ErrProof, last)
	}
	return list, nil
}

// Clone is a copy that grows by itself.
func (t *Tree) Clone() *Tree { return &Tree{t.size, slices.Clip(t.hashes)} }
