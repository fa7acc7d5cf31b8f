// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package room

import (
	"errors"
	"io"
	"sync"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/head"
)

// Snapshots is what is known of the snapshots on disk: they say which segments stay.
type Snapshots struct {
	// Wake holds one: look whether one is due.
	Wake chan struct{}

	mu    sync.Mutex
	older store.Pos // where the tail of the one before the latest begins; 0 unknown
	last  store.Pos // where that of the latest does
	bytes int64     // size of the latest
}

// Loaded notes the snapshot that a start was made from, and where the tail of the
// one before it begins; 0 where that is not known: then the log is kept until there
// are two new ones.
func (s *Snapshots) Loaded(from, older store.Pos) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.older = from, older
}

// Saved notes a new one.
func (s *Snapshots) Saved(from store.Pos, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.older, s.last, s.bytes = s.last, from, bytes
}

// Needed is the place from which on the log may be needed by a snapshot.
func (s *Snapshots) Needed() store.Pos {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.older
}

// Last tells where the tail of the latest begins, and its size.
func (s *Snapshots) Last() (from store.Pos, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.bytes
}

var errNotThis = errors.New("not this one")

// Older is where the tail of the snapshot before the latest begins, 0 where there is
// none that can be read: so a start on a full disk can give room back at once. load
// offers snapshots, newest first, until its function takes one.
func Older(load func(func(io.Reader) error) (int, error)) (from store.Pos) {
	latest := true
	_, _ = load(func(r io.Reader) error { // what cannot be read keeps the log as it is
		if latest {
			latest = false
			return errNotThis
		}
		h, err := head.Read(r)
		if err == nil {
			from = h.From
		}
		return err
	})
	return from
}

// Since is how many bytes of log there are from a place on.
func Since(log store.Log, from store.Pos) int64 {
	end := log.Staged()
	var n int64
	for _, s := range log.Segments() {
		switch {
		case s.ID < from.Segment():
		case s.ID == end.Segment():
			n += end.Offset()
		case !s.Active:
			n += s.Bytes
		}
	}
	return n - from.Offset()
}

// Counted counts what is written to another.
type Counted struct {
	To io.Writer
	N  int64
}

// Write implements io.Writer.
func (c *Counted) Write(p []byte) (int, error) {
	n, err := c.To.Write(p)
	c.N += int64(n)
	return n, err
}
