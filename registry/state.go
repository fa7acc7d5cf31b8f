// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
)

// Refusals of Apply and of what is built on it. ErrStale and ErrRule are of a
// proposal, ErrQuorum of its approvals, ErrChain of an entry's place.
var (
	// ErrStale: what the proposal replaces is not there any more.
	ErrStale = errors.New("the proposal is about something that has changed")
	// ErrRule: the registry would not be whole after it.
	ErrRule = errors.New("the registry does not allow this")
	// ErrQuorum: too few of the signers in force have approved.
	ErrQuorum = errors.New("too few approvals")
	// ErrExpired: it was not committed in time.
	ErrExpired = errors.New("the proposal has expired")
	// ErrChain: the entry is not the one that follows.
	ErrChain = errors.New("the entry does not follow")
)

// Item is a descriptor that is registered.
type Item struct {
	Addr b3.Addr
	Seq  uint64 // of the entry that put it there
	Desc *Descriptor
}

// State is what the entries so far come to. It never changes: Apply makes another.
// What it gives out is shared and must not be changed.
type State struct {
	registry b3.Addr
	size     uint64
	head     b3.Addr
	tsMS     int64
	items    map[Key]Item
	signers  *Signers
	revoked  map[string]bool // node ids
	retired  map[string]bool // keys that were signers', by name and by hash
	marked   uint64          // size that the newest checkpoint vouches for
	markHead b3.Addr
	recent   [recentHashes]b3.Addr // of the last entries, by place modulo their number
}

// recentHashes is how far back a checkpoint may lie when it is committed.
const recentHashes = 256

// Begin is the state after the first entry, whose hash is the registry's id.
func Begin(genesis *Entry) (*State, error) { return (&State{}).Apply(genesis) }

// Registry is the registry's id.
func (s *State) Registry() b3.Addr { return s.registry }

// Size is how many entries there are.
func (s *State) Size() uint64 { return s.size }

// Head is the hash of the last entry.
func (s *State) Head() b3.Addr { return s.head }

// TSMS is when the last entry was committed.
func (s *State) TSMS() int64 { return s.tsMS }

// Signers is the set in force.
func (s *State) Signers() *Signers { return s.signers }

// SignersAddr is the address of its descriptor.
func (s *State) SignersAddr() b3.Addr { return s.items[Key{KindSigners, SignersName}].Addr }

// Writer is the id of the node that commits.
func (s *State) Writer() string { return s.signers.Writer }

// Get is the descriptor of that kind and name.
func (s *State) Get(k Key) (Item, bool) {
	it, ok := s.items[k]
	return it, ok
}

// Len is how many descriptors there are.
func (s *State) Len() int { return len(s.items) }

// Items lists the descriptors in the order of kind and name.
func (s *State) Items() []Item {
	list := make([]Item, 0, len(s.items))
	for _, k := range s.keys() {
		list = append(list, s.items[k])
	}
	return list
}

func (s *State) keys() []Key {
	return slices.SortedFunc(maps.Keys(s.items), func(a, b Key) int { return strings.Compare(a.String(), b.String()) })
}

// Revoked reports whether a node id is barred.
func (s *State) Revoked(nodeID string) bool { return s.revoked[nodeID] }

// RevokedNodes lists the barred node ids in order.
func (s *State) RevokedNodes() []string { return slices.Sorted(maps.Keys(s.revoked)) }

// Marked is the size that the newest checkpoint vouches for, and the hash of its
// last entry; 0 where there is none.
func (s *State) Marked() (uint64, b3.Addr) { return s.marked, s.markHead }

// Root names everything that the state says, so that two states with one root are
// the same. It is the BLAKE3 of
//
//	macronode registry state v1
//	KIND/NAME ADDRESS SEQ     of each descriptor
//	revoked NODE_ID           of each barred node
//	retired KEY               of each key that was a signer's
//	checkpoint SIZE HASH      where there is one
//
// each line with its newline, each kind of line in bytewise order.
func (s *State) Root() b3.Addr {
	var b strings.Builder
	b.WriteString("macronode registry state v1\n")
	for _, k := range s.keys() {
		it := s.items[k]
		fmt.Fprintf(&b, "%s %s %d\n", k, it.Addr, it.Seq)
	}
	for _, id := range s.RevokedNodes() {
		fmt.Fprintf(&b, "revoked %s\n", id)
	}
	for _, key := range slices.Sorted(maps.Keys(s.retired)) {
		fmt.Fprintf(&b, "retired %s\n", key)
	}
	if s.marked > 0 {
		fmt.Fprintf(&b, "checkpoint %d %s\n", s.marked, s.markHead)
	}
	return b3.Sum([]byte(b.String()))
}

// Apply is the state after e, which it verifies whole: that it follows, that enough
// of the signers in force approved it, that every signature counts, that it leaves
// the registry whole, and that it says what comes of it.
func (s *State) Apply(e *Entry) (*State, error) {
	text, err := e.Encode()
	if err != nil {
		return nil, err
	}
	next, err := s.apply(e)
	if err != nil {
		return nil, err
	}
	if e.State != next.Root().String() {
		return nil, fmt.Errorf("%w: entry %d says another state than it leads to", ErrChain, e.Seq)
	}
	next.end(e.Seq, b3.Sum(text))
	return next, nil
}

// end says what the hash of the last entry is.
func (s *State) end(seq uint64, hash b3.Addr) {
	s.head = hash
	s.recent[seq%recentHashes] = hash
	if seq == 0 {
		s.registry = hash
	}
}

// apply is Apply without the hash of e and the state that it says.
func (s *State) apply(e *Entry) (*State, error) {
	switch {
	case e.Seq != s.size:
		return nil, fmt.Errorf("%w: it is entry %d, and %d is next", ErrChain, e.Seq, s.size)
	case e.Prev != s.head.String():
		return nil, fmt.Errorf("%w: entry %d names another entry before it", ErrChain, e.Seq)
	case e.TSMS < s.tsMS:
		return nil, fmt.Errorf("%w: entry %d is older than the one before it", ErrChain, e.Seq)
	case e.Seq == 0 && len(e.Signatures) > 0:
		return nil, fmt.Errorf("%w: the first entry has no signatures", ErrChain)
	}
	if e.Seq > 0 {
		if err := s.approved(e); err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Seq, err)
		}
	}
	next, err := s.changed(&e.Proposal, e.Seq)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	next.size, next.tsMS = e.Seq+1, e.TSMS
	return next, nil
}

// approved verifies that e has the approvals that it needs, and nothing else.
func (s *State) approved(e *Entry) error {
	if e.Proposal.Registry != s.registry.String() {
		return fmt.Errorf("%w: the proposal is another registry's", ErrChain)
	}
	if e.TSMS > e.Proposal.ExpiresMS {
		return ErrExpired
	}
	t, err := s.Count(&e.Proposal, Approve, e.Signatures)
	switch {
	case err != nil:
		return err
	case !t.Done():
		return fmt.Errorf("%w: %d of %d, %d needed; new keys that have not signed: %d", ErrQuorum, len(t.Names), t.Of, t.Threshold, len(t.Missing))
	case len(t.Counted) != len(e.Signatures):
		return fmt.Errorf("%w: it carries a signature that does not count", ErrQuorum)
	}
	return nil
}

// Try reports whether p applies to the state, whoever approved it: ErrStale,
// ErrRule, or nil.
func (s *State) Try(p *Proposal) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if p.Registry != s.registry.String() {
		return fmt.Errorf("%w: the proposal is for another registry", ErrRule)
	}
	_, err := s.changed(p, s.size)
	return err
}

// Next makes the entry that commits p with these signatures, and the state after it.
// Signatures that do not count are left out.
func (s *State) Next(p *Proposal, list []Signature, tsMS int64) (*Entry, *State, error) {
	t, err := s.Count(p, Approve, list)
	if err != nil {
		return nil, nil, err
	}
	e := &Entry{V: format, Seq: s.size, Prev: s.head.String(), TSMS: max(tsMS, s.tsMS), Proposal: *p, Signatures: t.Counted, State: b3.Addr{}.String()}
	if e.Signatures == nil {
		e.Signatures = []Signature{}
	}
	next, err := s.apply(e)
	if err != nil {
		return nil, nil, err
	}
	e.State = next.Root().String()
	hash, err := e.Hash()
	if err != nil {
		return nil, nil, err
	}
	next.end(e.Seq, hash)
	return e, next, nil
}

// changed is the state with p's changes made, and none of the entry's members.
func (s *State) changed(p *Proposal, seq uint64) (*State, error) {
	n := &State{registry: s.registry, head: s.head, size: s.size, tsMS: s.tsMS, items: maps.Clone(s.items), signers: s.signers,
		revoked: maps.Clone(s.revoked), retired: maps.Clone(s.retired), marked: s.marked, markHead: s.markHead, recent: s.recent}
	if n.items == nil {
		n.items, n.revoked, n.retired = map[Key]Item{}, map[string]bool{}, map[string]bool{}
	}
	for i := range p.Changes {
		if err := n.change(&p.Changes[i], seq); err != nil {
			return nil, err
		}
	}
	return n, n.whole()
}

func (s *State) change(c *Change, seq uint64) error {
	if c.Op == OpCheckpoint {
		return s.mark(c)
	}
	key := c.Key()
	old, there := s.items[key]
	if was := old.Addr.String(); there && c.Prev != was || !there && c.Prev != "" {
		return fmt.Errorf("%w: %s", ErrStale, key)
	}
	switch c.Op {
	case OpPut:
		a, err := c.Descriptor.Addr()
		if err != nil {
			return err
		}
		if there && a == old.Addr {
			return fmt.Errorf("%w: %s is that already", ErrRule, key)
		}
		if c.Descriptor.Kind == KindSigners {
			if err := s.rotate(c.Descriptor.Signers); err != nil {
				return err
			}
		}
		s.items[key] = Item{a, seq, c.Descriptor}
	case OpRevoke:
		s.revoked[old.Desc.Node.NodeID] = true
		delete(s.items, key)
	case OpRemove:
		delete(s.items, key)
	}
	return nil
}

// mark takes a checkpoint, which vouches for the entries as this chain has them.
func (s *State) mark(c *Change) error {
	if c.Size > s.size || c.Size <= s.marked || c.Size+recentHashes <= s.size {
		return fmt.Errorf("%w: a checkpoint of %d entries, where there are %d and %d are marked", ErrStale, c.Size, s.size, s.marked)
	}
	if c.Head != s.recent[(c.Size-1)%recentHashes].String() {
		return fmt.Errorf("%w: the checkpoint is of another chain", ErrRule)
	}
	s.marked, s.markHead = c.Size, s.recent[(c.Size-1)%recentHashes]
	return nil
}

// keyMarks name a signer's key by name and version, and by the hash of each half.
func keyMarks(a *bundle.Anchor) []string {
	marks := []string{KeyName(a), b3.Sum(a.Ed25519).String()}
	if a.Hybrid() {
		marks = append(marks, b3.Sum(a.MLDSA65).String())
	}
	return marks
}

// rotate puts the new set in force. What leaves it is retired: an approval that a
// signer made before it was taken out must not count after its key came back.
func (s *State) rotate(next *Signers) error {
	if s.signers != nil {
		for i := range s.signers.Signers {
			a := &s.signers.Signers[i]
			if slices.ContainsFunc(next.Signers, func(b bundle.Anchor) bool { return sameKey(a, &b) }) {
				continue
			}
			for _, m := range keyMarks(a) {
				s.retired[m] = true
			}
		}
	}
	for i := range next.Signers {
		for _, m := range keyMarks(&next.Signers[i]) {
			if s.retired[m] {
				return fmt.Errorf("%w: the key %s was a signer's before, or has a name and version that another had", ErrRule, KeyName(&next.Signers[i]))
			}
		}
	}
	s.signers = next
	return nil
}

// whole holds the state to its limits, and what descriptors name to what there is.
func (s *State) whole() error {
	switch {
	case s.signers == nil:
		return fmt.Errorf("%w: there are no signers", ErrRule)
	case len(s.items) > MaxDescriptors:
		return fmt.Errorf("%w: more than %d descriptors", ErrRule, MaxDescriptors)
	case len(s.revoked) > MaxRevoked || len(s.retired) > MaxRetired:
		return fmt.Errorf("%w: more than %d nodes revoked or %d keys retired", ErrRule, MaxRevoked, MaxRetired)
	}
	nodes := make(map[string]Key)
	for k, it := range s.items {
		switch {
		case it.Desc.Node != nil:
			n := it.Desc.Node
			if other, ok := nodes[n.NodeID]; ok {
				return fmt.Errorf("%w: %s and %s are one node", ErrRule, min(k.Name, other.Name), max(k.Name, other.Name))
			}
			nodes[n.NodeID] = k
			if s.revoked[n.NodeID] {
				return fmt.Errorf("%w: the node id of %s was revoked", ErrRule, k)
			}
			if _, ok := s.items[Key{KindRegion, n.Region}]; n.Region != "" && !ok {
				return fmt.Errorf("%w: %s is in a region that is not there", ErrRule, k)
			}
		case it.Desc.Service != nil:
			for _, name := range it.Desc.Service.Nodes {
				if _, ok := s.items[Key{KindNode, name}]; !ok {
					return fmt.Errorf("%w: %s names a node that is not there", ErrRule, k)
				}
			}
		}
	}
	return nil
}

func hexOf(b [nonceBytes]byte) string { return hex.EncodeToString(b[:]) }
