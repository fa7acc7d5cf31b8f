// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rustyonions/macronode/b3"
)

// Snapshot is a state, written down: what a chain goes on from whose older entries
// were dropped. It is believed where its root is the one of the entry that it
// follows, and where the signers vouched for that entry.
type Snapshot struct {
	Items   []SnapshotItem `json:"items"`
	Revoked []string       `json:"revoked"`
	Retired []string       `json:"retired"`
	Marked  uint64         `json:"marked"`
	Mark    string         `json:"mark,omitempty"`
}

// SnapshotItem is a descriptor and the entry that put it there.
type SnapshotItem struct {
	Seq        uint64      `json:"seq"`
	Descriptor *Descriptor `json:"descriptor"`
}

// Base is where a chain begins whose older entries were dropped.
type Base struct {
	// Entry is the last one that was dropped, canonical JSON.
	Entry json.RawMessage `json:"entry"`
	// State is the state after it.
	State Snapshot `json:"state"`
	// Leaves are those of the tree up to it, 32 bytes each.
	Leaves []byte `json:"leaves"`
	// Anchors are the dropped entries that changed the signers, but for the first
	// entry, in order: they prove, one from the other, whose word counts.
	Anchors []json.RawMessage `json:"anchors"`
}

// MaxAnchors bounds the entries that changed the signers.
const MaxAnchors = MaxRetired

// Snapshot writes s down.
func (s *State) Snapshot() Snapshot {
	out := Snapshot{Items: []SnapshotItem{}, Revoked: s.RevokedNodes(), Retired: slices.Sorted(maps.Keys(s.retired)), Marked: s.marked}
	if out.Revoked == nil {
		out.Revoked = []string{}
	}
	if out.Retired == nil {
		out.Retired = []string{}
	}
	if s.marked > 0 {
		out.Mark = s.markHead.String()
	}
	for _, it := range s.Items() {
		out.Items = append(out.Items, SnapshotItem{it.Seq, it.Desc})
	}
	return out
}

// Resume is the state that b describes, of the registry whose first entry genesis is.
// It verifies the anchors, and that the snapshot is the state that the base's entry
// says; not that anybody vouched for that entry: that the chain behind must say, and
// Vouched tells.
func Resume(genesis *Entry, b *Base) (*State, error) {
	start, err := Begin(genesis)
	if err != nil {
		return nil, err
	}
	last, err := ParseEntry(b.Entry)
	if err != nil {
		return nil, err
	}
	if len(b.Anchors) > MaxAnchors || len(b.State.Items) > MaxDescriptors || len(b.State.Revoked) > MaxRevoked || len(b.State.Retired) > MaxRetired {
		return nil, malformed("base: it is larger than a registry may be")
	}
	// A mark that the base brings along would vouch for itself.
	if b.State.Marked > last.Seq {
		return nil, malformed("base: it says that more was vouched for than could be")
	}
	signers, err := anchored(start, b.Anchors, last.Seq)
	if err != nil {
		return nil, err
	}
	s := &State{registry: start.registry, size: last.Seq + 1, tsMS: last.TSMS, items: map[Key]Item{}, revoked: map[string]bool{}, retired: map[string]bool{}, marked: b.State.Marked}
	for _, it := range b.State.Items {
		if it.Descriptor == nil {
			return nil, malformed("base: an item without its descriptor")
		}
		a, err := it.Descriptor.Addr()
		if err != nil {
			return nil, err
		}
		s.items[it.Descriptor.Key()] = Item{a, it.Seq, it.Descriptor}
		if it.Descriptor.Signers != nil {
			s.signers = it.Descriptor.Signers
		}
	}
	for _, id := range b.State.Revoked {
		s.revoked[id] = true
	}
	for _, k := range b.State.Retired {
		s.retired[k] = true
	}
	if b.State.Marked > 0 {
		if s.markHead, err = addr("mark", b.State.Mark); err != nil {
			return nil, err
		}
	}
	if err := s.whole(); err != nil {
		return nil, err
	}
	s.end(last.Seq, b3.Sum(b.Entry))
	if last.State != s.Root().String() {
		return nil, fmt.Errorf("%w: the base's state is not the one that its entry says", ErrChain)
	}
	if s.SignersAddr() != signers.SignersAddr() {
		return nil, fmt.Errorf("%w: the base has other signers than the entries that changed them", ErrChain)
	}
	s.registry = start.registry // where the base is the first entry itself, the same
	return s, nil
}

// anchored is a state whose signers are those after the entries that changed them,
// each approved by the set before it.
func anchored(s *State, anchors []json.RawMessage, before uint64) (*State, error) {
	seq := uint64(0)
	for _, text := range anchors {
		e, err := ParseEntry(text)
		if err != nil {
			return nil, err
		}
		next := e.Proposal.signers()
		if next == nil || e.Seq <= seq || e.Seq > before {
			return nil, fmt.Errorf("%w: entry %d is none of those that changed the signers, in order", ErrChain, e.Seq)
		}
		if err := s.approved(e); err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Seq, err)
		}
		n := &State{registry: s.registry, signers: s.signers, retired: maps.Clone(s.retired), items: map[Key]Item{}}
		if err := n.rotate(next); err != nil {
			return nil, err
		}
		d := e.Proposal.Changes[slices.IndexFunc(e.Proposal.Changes, func(c Change) bool { return c.Key().Kind == KindSigners })].Descriptor
		a, err := d.Addr()
		if err != nil {
			return nil, err
		}
		n.items[d.Key()] = Item{a, e.Seq, d}
		s, seq = n, e.Seq
	}
	return s, nil
}

// Vouched reports whether the signers vouched for the first size entries of the chain
// that s follows from.
func (s *State) Vouched(size uint64) bool { return s.marked >= size }

// Leaf is the leaf of the entry at seq; false where there is none.
func (b *Base) Leaf(seq uint64) (l Leaf, ok bool) {
	if seq >= uint64(len(b.Leaves)/len(l)) {
		return l, false
	}
	copy(l[:], b.Leaves[seq*uint64(len(l)):])
	return l, true
}

// checkLeaves holds the leaves to the entries that are known.
func (b *Base) checkLeaves(genesis []byte, size uint64) error {
	if uint64(len(b.Leaves)) != size*uint64(len(Leaf{})) {
		return malformed("base: leaves of %d bytes for %d entries", len(b.Leaves), size)
	}
	first, _ := b.Leaf(0)
	last, _ := b.Leaf(size - 1)
	if first != LeafOf(genesis) || last != LeafOf(b.Entry) {
		return fmt.Errorf("%w: the base's leaves are not of its entries", ErrChain)
	}
	return nil
}

// Edge is the right side of a tree: enough to add to it and to know its root. The
// zero value is of an empty tree.
type Edge struct {
	size  uint64
	peaks []tlog.Hash
}

// Add adds the next entry's leaf.
func (e *Edge) Add(l Leaf) {
	h := tlog.Hash(l)
	for n := e.size; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(e.peaks[len(e.peaks)-1], h)
		e.peaks = e.peaks[:len(e.peaks)-1]
	}
	e.peaks = append(e.peaks, h)
	e.size++
}

// Root is the root of the tree; "" of an empty one.
func (e *Edge) Root() string {
	if e.size == 0 {
		return ""
	}
	h := e.peaks[len(e.peaks)-1]
	for i := len(e.peaks) - 2; i >= 0; i-- {
		h = tlog.NodeHash(e.peaks[i], h)
	}
	return rootText(h)
}

// An export is a whole chain in lines of JSON: a Line with the first entry, one with
// the base where older entries were dropped, one for each entry, and at last one
// with the signed head.

// Line is a line of an export; one member is set.
type Line struct {
	Entry json.RawMessage `json:"entry,omitempty"`
	Base  *Base           `json:"base,omitempty"`
	Head  json.RawMessage `json:"head,omitempty"` // the envelope
}

// MaxExportBytes bounds an export that is verified.
const MaxExportBytes = 1 << 30

// Verified is what an export proves.
type Verified struct {
	State *State
	Head  *Head  // nil: the export has none, so its end is nobody's word
	First uint64 // place of the first entry that was replayed
}

// Verify reads an export and believes nothing of it: every entry is replayed, the
// base, where there is one, must be vouched for by the signers, and the head must be
// the chain's and signed by its writer. registry is the id that is known from
// elsewhere.
func Verify(r io.Reader, registry b3.Addr) (*Verified, error) { return verify(r, &registry) }

// VerifyAny is Verify for who knows no id: a stranger's registry verifies too.
func VerifyAny(r io.Reader) (*Verified, error) { return verify(r, nil) }

func verify(r io.Reader, registry *b3.Addr) (*Verified, error) {
	v := &verifier{}
	dec := json.NewDecoder(io.LimitReader(r, MaxExportBytes))
	dec.DisallowUnknownFields()
	for n := 1; ; n++ {
		var l Line
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, malformed("line %d: it is no line of an export", n)
		}
		if err := v.line(&l); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if v.genesis != nil && registry != nil && v.state.Registry() != *registry {
			return nil, fmt.Errorf("%w: this is the registry %s", ErrChain, v.state.Registry())
		}
	}
	switch {
	case v.state == nil:
		return nil, malformed("the export is empty")
	case v.out.First > 0 && !v.state.Vouched(v.out.First):
		return nil, fmt.Errorf("%w: the first %d entries were dropped, and the signers have not vouched for them", ErrChain, v.out.First)
	}
	v.out.State = v.state
	return &v.out, nil
}

type verifier struct {
	genesis *Entry
	state   *State
	edge    Edge
	out     Verified
}

func (v *verifier) line(l *Line) error {
	switch {
	case v.out.Head != nil:
		return fmt.Errorf("%w: something follows the head", ErrChain)
	case l.Entry != nil && l.Base == nil && l.Head == nil:
		return v.entry(l.Entry)
	case l.Base != nil && l.Entry == nil && l.Head == nil:
		return v.base(l.Base)
	case l.Head != nil && l.Entry == nil && l.Base == nil:
		return v.head(l.Head)
	}
	return malformed("one of entry, base and head stands in a line")
}

func (v *verifier) entry(text []byte) error {
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return malformed("entry: not JSON")
	}
	e, err := ParseEntry(compact.Bytes())
	if err != nil {
		return err
	}
	if v.state == nil {
		v.genesis = e
		v.state, err = Begin(e)
	} else {
		v.state, err = v.state.Apply(e)
	}
	v.edge.Add(LeafOf(compact.Bytes()))
	return err
}

func (v *verifier) base(b *Base) error {
	if v.genesis == nil || v.state.Size() != 1 {
		return fmt.Errorf("%w: a base stands behind the first entry", ErrChain)
	}
	var err error
	if v.state, err = Resume(v.genesis, b); err != nil {
		return err
	}
	genesis, err := v.genesis.Encode()
	if err != nil {
		return err
	}
	size := v.state.Size()
	if err := b.checkLeaves(genesis, size); err != nil {
		return err
	}
	v.edge, v.out.First = Edge{}, size
	for seq := range size {
		l, _ := b.Leaf(seq)
		v.edge.Add(l)
	}
	return nil
}

func (v *verifier) head(text []byte) error {
	h, err := ParseHead(text)
	if err != nil {
		return err
	}
	if v.state == nil {
		return fmt.Errorf("%w: a head without a chain", ErrChain)
	}
	if err := v.state.Ends(h, v.edge.Root()); err != nil {
		return err
	}
	v.out.Head = h
	return nil
}

// Ends verifies that h is the head of the chain that s follows from, whose tree has
// that root, by its writer.
func (s *State) Ends(h *Head, root string) error {
	want := Head{Registry: s.registry.String(), Size: s.size, Head: s.head.String(), State: s.Root().String(), Signers: s.SignersAddr().String(), Tree: root}
	switch {
	case !h.Same(&want):
		return fmt.Errorf("%w: the head is of another chain, or of another part of it", ErrHead)
	case h.NodeID != s.Writer():
		return fmt.Errorf("%w: it is signed by %s, and the writer is %s", ErrHead, h.NodeID, s.Writer())
	}
	return nil
}
