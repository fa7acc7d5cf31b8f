// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package announce

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// maxPending is how many changes wait to be sent. Beyond it an epoch begins, and
// the others ask for the whole.
const maxPending = 16 * MaxChanges

// lookFactor bounds how many objects Rebuild looks at: so many times what it can
// keep.
const lookFactor = 4

// Book is what this node announces. When it is full, the oldest of the tenant with
// the most objects in it makes room: no tenant crowds out another. Its methods may
// be called from any goroutine.
type Book struct {
	max int

	mu      sync.Mutex
	secrets *Secrets
	shelves map[macronode.TenantID]*shelf
	count   int
	epoch   uint64
	at      uint64   // changes of the epoch, sent or pending
	pending []change // not yet taken by Next
	begun   bool     // the epoch began and nobody was told
	changed chan struct{}
	fresh   *Book // what a look through everything has found so far
}

// shelf is a tenant's part of the book.
type shelf struct {
	key  Key
	tags map[Tag]struct{}
	// queue has every tag in tags at least once, oldest first, and ones that
	// are gone.
	queue []Tag
}

// NewBook returns a Book that announces nothing; max 0 is MaxTags.
func NewBook(s *Secrets, limit int) *Book {
	if limit <= 0 || limit > MaxTags {
		limit = MaxTags
	}
	return &Book{max: limit, secrets: s, shelves: make(map[macronode.TenantID]*shelf), epoch: newEpoch(), changed: make(chan struct{}, 1)}
}

func newEpoch() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return binary.BigEndian.Uint64(b[:])
}

// Stored announces the object, if the tenant has a key.
func (b *Book) Stored(t macronode.TenantID, addr b3.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(t, addr)
	if b.fresh != nil {
		b.fresh.put(t, addr)
	}
	b.wake()
}

// Dropped takes the object back.
func (b *Book) Dropped(t macronode.TenantID, addr b3.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(t, addr)
	if b.fresh != nil {
		b.fresh.drop(t, addr)
	}
	b.wake()
}

func (b *Book) shelf(t macronode.TenantID) *shelf {
	s := b.shelves[t]
	if s == nil {
		key, ok := b.secrets.Key(t)
		if !ok {
			return nil
		}
		s = &shelf{key: key, tags: make(map[Tag]struct{})}
		b.shelves[t] = s
	}
	return s
}

func (b *Book) put(t macronode.TenantID, addr b3.Addr) {
	s := b.shelf(t)
	if s == nil {
		return
	}
	tag := s.key.Tag(addr)
	if _, there := s.tags[tag]; there {
		return
	}
	if b.count == b.max {
		b.evict()
	}
	s.tags[tag] = struct{}{}
	s.queue = append(s.queue, tag)
	b.count++
	b.note(change{tag: tag})
}

func (b *Book) drop(t macronode.TenantID, addr b3.Addr) {
	s := b.shelves[t]
	if s == nil {
		return
	}
	tag := s.key.Tag(addr)
	if _, there := s.tags[tag]; !there {
		return
	}
	b.remove(s, tag)
	if len(s.queue) > 2*len(s.tags)+64 {
		s.compact()
	}
	if len(s.tags) == 0 {
		delete(b.shelves, t)
	}
}

func (b *Book) remove(s *shelf, tag Tag) {
	delete(s.tags, tag)
	b.count--
	b.note(change{tag: tag, gone: true})
}

// evict makes room for one.
func (b *Book) evict() {
	var most *shelf
	for _, s := range b.shelves {
		if most == nil || len(s.tags) > len(most.tags) {
			most = s
		}
	}
	for {
		tag := most.queue[0]
		most.queue = most.queue[1:]
		if _, there := most.tags[tag]; there {
			b.remove(most, tag)
			return
		}
	}
}

// compact forgets what is gone, and what stands in the queue twice.
func (s *shelf) compact() {
	queue, seen := make([]Tag, 0, len(s.tags)), make(map[Tag]struct{}, len(s.tags))
	for i := len(s.queue) - 1; i >= 0; i-- { // the last place of each counts
		t := s.queue[i]
		if _, there := s.tags[t]; !there {
			continue
		}
		if _, twice := seen[t]; !twice {
			seen[t] = struct{}{}
			queue = append(queue, t)
		}
	}
	for i, j := 0, len(queue)-1; i < j; i, j = i+1, j-1 {
		queue[i], queue[j] = queue[j], queue[i]
	}
	s.queue = queue
}

// note remembers a change to be sent.
func (b *Book) note(c change) {
	if b.changed == nil { // only what a look through everything has found
		return
	}
	b.at++
	if len(b.pending) == maxPending {
		b.begin()
		return
	}
	b.pending = append(b.pending, c)
}

// begin begins an epoch: the others have to ask for the whole.
func (b *Book) begin() {
	b.epoch, b.at, b.pending, b.begun = newEpoch(), 0, nil, true
}

func (b *Book) wake() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Next waits until there is something to tell, and then as long as gather for more
// to go with it, and returns it as one message. An epoch that began is told by a
// message without changes.
func (b *Book) Next(ctx context.Context, gather time.Duration) ([]byte, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-b.changed:
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(gather):
		}
		if m, more := b.take(); m != nil {
			if more {
				b.wake()
			}
			return m, nil
		}
	}
}

func (b *Book) take() (m []byte, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.pending), MaxChanges)
	if n == 0 && !b.begun {
		return nil, false
	}
	b.begun = false
	out := message{epoch: b.epoch, at: b.at - uint64(len(b.pending)), changes: b.pending[:n]}
	m = out.append(make([]byte, 0, messageHead+n*changeBytes))
	b.pending = b.pending[n:]
	if len(b.pending) == 0 {
		b.pending = nil
	}
	return m, len(b.pending) > 0
}

// Summary is all that is announced now.
func (b *Book) Summary() *Summary {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &Summary{epoch: b.epoch, at: b.at, tags: make([]Tag, 0, b.count)}
	for _, sh := range b.shelves {
		for t := range sh.tags {
			s.tags = append(s.tags, t)
		}
	}
	return s
}

// Len is how many objects are announced.
func (b *Book) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// Rebuild makes the book what each finds, which calls its argument with every
// object until that returns false, under the secrets given. What is stored and dropped meanwhile counts.
// Where each fails, nothing changes.
func (b *Book) Rebuild(s *Secrets, each func(func(macronode.TenantID, b3.Addr) bool) error) error {
	b.mu.Lock()
	mine := &Book{max: b.max, secrets: s, shelves: make(map[macronode.TenantID]*shelf)}
	b.fresh = mine
	b.mu.Unlock()
	looked := 0
	err := each(func(t macronode.TenantID, addr b3.Addr) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		mine.put(t, addr)
		looked++
		return b.fresh == mine && looked < lookFactor*b.max
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fresh != mine { // another look began
		return err
	}
	if b.fresh = nil; err != nil {
		return err
	}
	same := b.secrets == s && b.count == mine.count && b.covers(mine)
	b.secrets, b.shelves, b.count = s, mine.shelves, mine.count
	if !same {
		b.begin()
		b.wake()
	}
	return nil
}

// covers reports whether everything in o is in b.
func (b *Book) covers(o *Book) bool {
	for t, s := range o.shelves {
		mine := b.shelves[t]
		if mine == nil || len(mine.tags) != len(s.tags) {
			return false
		}
		for tag := range s.tags {
			if _, there := mine.tags[tag]; !there {
				return false
			}
		}
	}
	return true
}
