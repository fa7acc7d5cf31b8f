// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"fmt"
	"strings"

	"github.com/rustyonions/macronode/b3"
)

// MaxStreams bounds how many streams one Chain follows.
const MaxStreams = 1 << 20

// Chain verifies records in the order of their log. The zero value begins at
// the genesis of every stream and takes what one writer's export of some of its
// streams may look like: seq rises, and each stream is unbroken.
type Chain struct {
	// Whole says that the records are a writer's full log, so that seq also
	// has no gap. It is set before the first Add.
	Whole bool

	writer  string
	next    uint64 // the least seq that may come
	records uint64
	heads   map[string]*b3.Addr // the keys are the chain's own: what is verified is not held by them
}

// Resume lets the chain begin inside a log: with the given next seq and the
// hash of the newest record of each stream. It is called before the first Add.
func (c *Chain) Resume(writer string, next uint64, heads map[string]b3.Addr) {
	c.writer, c.next = writer, next
	c.heads = make(map[string]*b3.Addr, len(heads))
	for s, h := range heads {
		c.heads[s] = &h
	}
}

// Add checks that r has its own hash and follows what was added before. On an
// error, which wraps ErrHash, ErrChain or ErrInvalid, the chain is unchanged.
func (c *Chain) Add(r *Record) error {
	if err := r.Check(); err != nil {
		return err
	}
	return c.follow(r)
}

// follow is Add of a record whose hash was just checked.
func (c *Chain) follow(r *Record) error {
	head, known := c.heads[r.Stream]
	var prev b3.Addr
	if known {
		prev = *head
	}
	switch {
	case (c.records > 0 || c.writer != "") && r.Writer != c.writer:
		return fmt.Errorf("%w: seq %d is by another writer", ErrChain, r.Seq)
	case c.Whole && r.Seq != c.next:
		return fmt.Errorf("%w: seq %d where %d was due", ErrChain, r.Seq, c.next)
	case r.Seq < c.next:
		return fmt.Errorf("%w: seq %d after %d", ErrChain, r.Seq, c.next-1)
	case r.Prev != prev:
		return fmt.Errorf("%w: seq %d of stream %q does not follow %s", ErrChain, r.Seq, r.Stream, prev)
	}
	if !known && len(c.heads) >= MaxStreams {
		return fmt.Errorf("%w: more than %d streams", ErrInvalid, MaxStreams)
	}
	if c.heads == nil {
		c.heads = map[string]*b3.Addr{}
	}
	if !known {
		head = new(b3.Addr)
		c.heads[strings.Clone(r.Stream)] = head
	}
	*head = r.Hash
	if c.writer == "" {
		c.writer = strings.Clone(r.Writer)
	}
	c.next = r.Seq + 1
	c.records++
	return nil
}

// Head is the hash of the newest record of a stream, Genesis where there is none.
func (c *Chain) Head(stream string) b3.Addr {
	if h := c.heads[stream]; h != nil {
		return *h
	}
	return Genesis
}

// all are the newest records' hashes, a copy.
func (c *Chain) all() map[string]b3.Addr {
	out := make(map[string]b3.Addr, len(c.heads))
	for s, h := range c.heads {
		out[s] = *h
	}
	return out
}

// Records is how many records were added.
func (c *Chain) Records() uint64 { return c.records }
