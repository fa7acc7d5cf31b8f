// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package why remembers recent refusals and says, when it is asked, why each was
// made and what would have let it pass. Remembering costs a store into a ring;
// explaining, which may look at every policy, is left to who asks.
package why

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

// How many refusals are kept: of callers who were known, and of strangers, who
// must not be able to push the others out.
const (
	KeptKnown     = 3072
	KeptStrangers = 1024
	// maxAnswers bounds those of one id, which its caller chose.
	maxAnswers = 16
)

// Config is what explanations need; all is required.
type Config struct {
	Policies func() *policy.Set // in force; nil: none
	// Pin is the hash of the bundle in force: another pointer for another bundle.
	Pin func() *[32]byte
	// Places is how many calls the node may serve at once.
	Places func() int64
	// MaxBody is the bound of a binding's body in bytes.
	MaxBody func(*macronode.Binding) int64
}

// Log is the refusals of late. Its methods may be called from any goroutine.
type Log struct {
	cfg       Config
	known     ring
	strangers ring
}

var _ wall.Refusals = (*Log)(nil)

// New returns an empty log.
func New(cfg Config) *Log {
	return &Log{cfg: cfg, known: ring{slots: make([]slot, KeptKnown)}, strangers: ring{slots: make([]slot, KeptStrangers)}}
}

// noted is a refusal with the bundle that was in force.
type noted struct {
	*wall.Refusal
	pin *[32]byte
	seq uint64
}

type slot = atomic.Pointer[noted]

// ring keeps the last refusals. Writers meet in one atomic addition.
type ring struct {
	next  atomic.Uint64
	slots []slot
}

func (r *ring) put(n *noted) {
	n.seq = r.next.Add(1)
	r.slots[n.seq%uint64(len(r.slots))].Store(n)
}

// each calls f with every refusal kept, newest first, until it returns false.
func (r *ring) each(f func(*noted) bool) {
	last, size := r.next.Load(), uint64(len(r.slots))
	for seq := last; seq > 0 && last-seq < size; seq-- {
		n := r.slots[seq%size].Load()
		if n != nil && !f(n) {
			return
		}
	}
}

// Note implements wall.Refusals.
func (l *Log) Note(r *wall.Refusal) {
	n := &noted{Refusal: r, pin: l.cfg.Pin()}
	if r.Tenant == nil || r.Principal.Kind == macronode.Anonymous {
		l.strangers.put(n)
		return
	}
	l.known.put(n)
}

// find returns the refusals with this id, newest first.
func (l *Log) find(corrID string) (found []*noted) {
	for _, r := range []*ring{&l.known, &l.strangers} {
		r.each(func(n *noted) bool {
			if n.CorrID == corrID {
				found = append(found, n)
			}
			return len(found) < maxAnswers
		})
	}
	return found
}

// span says in words how far the memory reaches.
func (l *Log) span() string {
	text := ""
	for _, r := range []struct {
		who  string
		ring *ring
	}{{"known callers", &l.known}, {"strangers", &l.strangers}} {
		count := 0
		var oldest, newest time.Time
		r.ring.each(func(n *noted) bool {
			if count == 0 {
				newest = n.Time
			}
			oldest = n.Time
			count++
			return true
		})
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%d of %s", count, r.who)
		if count > 0 {
			text += fmt.Sprintf(" from %s to %s", oldest.UTC().Format(time.RFC3339), newest.UTC().Format(time.RFC3339))
		}
	}
	return text
}

// Why returns a Report on the refusals with this id, or NotFound, which says how
// far the memory reaches.
func (l *Log) Why(corrID string) (any, error) {
	found := l.find(corrID)
	if len(found) == 0 {
		return nil, macronode.Errorf(macronode.NotFound, "no refusal with this corr_id is remembered: it was none, or is forgotten; there are %s", l.span())
	}
	out := Report{Refusals: make([]Entry, len(found))}
	for i, n := range found {
		out.Refusals[i] = l.explain(n)
	}
	return out, nil
}

// Answer is a Report for those who describe documents.
func (l *Log) Answer() any { return Report{} }
