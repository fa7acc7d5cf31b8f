// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package locked keeps secrets out of the Go heap, out of swap and out of core
// dumps. An Arena hands out small pieces of pages that are locked into memory
// (mlock) and excluded from dumps, and wipes them when they are given back.
//
// Pages are shared by many secrets because the kernel grants a process only a
// few MiB of locked memory (RLIMIT_MEMLOCK): one page a secret would spend it on
// a node with a few thousand tenants. Where the kernel refuses to lock, the
// arena goes on with pages that are merely off the heap, wiped and not dumped,
// and says so once through its Warn function: a node must not fail to start for
// want of a limit.
//
// The memory is not Go's: a slice of a Secret must not be used after the Secret
// was wiped or the Arena closed (the pages are gone then, and touching them ends
// the process). Owners guard that with their own lock.
package locked

import (
	"fmt"
	"sync"

	"github.com/awnumar/memcall"
)

const (
	// chunkBytes is what is locked at a time for small secrets.
	chunkBytes = 64 << 10
	// grain rounds sizes, so that freed pieces fit later secrets.
	grain = 32
	// largeBytes and more get pages of their own, freed when wiped.
	largeBytes = chunkBytes / 4
	// MaxBytes bounds one secret.
	MaxBytes = 64 << 20
)

// Arena is a set of locked pages. It may be used from any goroutine.
type Arena struct {
	warn func(error)
	lock func([]byte) error // memcall.Lock; tests refuse

	mu       sync.Mutex
	closed   bool
	warned   bool
	unlocked int64 // bytes of pages that could not be locked
	held     int64 // bytes of all pages
	chunks   []pages
	free     []byte           // rest of the newest chunk
	spare    map[int][][]byte // wiped pieces by size
	large    map[*byte]pages  // by their first byte
}

// pages is one mapping.
type pages struct {
	b      []byte
	locked bool
}

// New returns an empty arena. Warn is called at most once, with the reason, when
// pages cannot be locked; it may be nil.
func New(warn func(error)) *Arena {
	return &Arena{warn: warn, lock: memcall.Lock, spare: make(map[int][][]byte), large: make(map[*byte]pages)}
}

// Secret is a piece of an arena's memory.
type Secret struct {
	a *Arena
	b []byte // length as asked for, capacity as rounded
}

// Bytes is the secret itself, not a copy. It must not be used after Wipe.
func (s *Secret) Bytes() []byte { return s.b }

// Len is the secret's length in bytes.
func (s *Secret) Len() int { return len(s.b) }

// String keeps secrets out of formatted output.
func (s *Secret) String() string { return "[secret]" }

// GoString keeps secrets out of formatted output.
func (s *Secret) GoString() string { return "[secret]" }

// Format keeps secrets out of formatted output, whatever the verb.
func (s *Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// Make returns n zero bytes. It panics where n is not in 1..MaxBytes or the
// arena is closed, which is the caller's mistake, and where the system has no
// memory at all, as any allocation does.
func (a *Arena) Make(n int) *Secret {
	if n < 1 || n > MaxBytes {
		panic("locked: size out of range")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		panic("locked: arena is closed")
	}
	size := (n + grain - 1) / grain * grain
	if size >= largeBytes {
		p := a.mapPages(size)
		a.large[&p.b[0]] = p
		return &Secret{a, p.b[:n]}
	}
	if s := a.spare[size]; len(s) > 0 {
		b := s[len(s)-1]
		a.spare[size] = s[:len(s)-1]
		return &Secret{a, b[:n]}
	}
	if len(a.free) < size {
		// What is left of the old chunk stays unused until Close: at most a quarter.
		p := a.mapPages(chunkBytes)
		a.chunks = append(a.chunks, p)
		a.free = p.b
	}
	b := a.free[:n:size]
	a.free = a.free[size:]
	return &Secret{a, b}
}

// Take moves src into the arena: src is wiped.
func (a *Arena) Take(src []byte) *Secret {
	s := a.Make(len(src))
	copy(s.b, src)
	clear(src)
	return s
}

// Copy returns a second copy of src, which stays as it is.
func (a *Arena) Copy(src []byte) *Secret {
	s := a.Make(len(src))
	copy(s.b, src)
	return s
}

// Wipe overwrites the secret and gives its memory back. Wiping a wiped or nil
// secret, or one whose arena was closed, does nothing.
func (s *Secret) Wipe() {
	if s == nil || s.b == nil {
		return
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	b := s.b
	s.b = nil
	if s.a.closed {
		return
	}
	b = b[:cap(b)]
	if p, ok := s.a.large[&b[0]]; ok {
		delete(s.a.large, &b[0])
		s.a.unmap(p)
		return
	}
	clear(b)
	s.a.spare[len(b)] = append(s.a.spare[len(b)], b)
}

// Close wipes and frees everything. No secret of the arena may be in use.
func (a *Arena) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.closed = true
	for _, p := range a.chunks {
		a.unmap(p)
	}
	for _, p := range a.large {
		a.unmap(p)
	}
	a.chunks, a.large, a.spare, a.free = nil, nil, nil, nil
}

// Stats reports the bytes held and how many of them the kernel did not lock.
func (a *Arena) Stats() (held, unlocked int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held, a.unlocked
}

// mapPages needs a.mu.
func (a *Arena) mapPages(n int) pages {
	b, err := memcall.Alloc(n)
	if err != nil {
		panic("locked: out of memory: " + err.Error())
	}
	p := pages{b: b, locked: true}
	a.held += int64(n)
	if err := a.lockPages(b); err != nil {
		p.locked = false
		a.unlocked += int64(n)
		if !a.warned && a.warn != nil {
			a.warned = true
			a.warn(err)
		}
	}
	return p
}

// unmap needs a.mu. It wipes: memcall.Free overwrites before it unmaps.
func (a *Arena) unmap(p pages) {
	a.held -= int64(len(p.b))
	clear(p.b)
	if p.locked {
		_ = memcall.Unlock(p.b) // unmapping unlocks too
	} else {
		a.unlocked -= int64(len(p.b))
	}
	_ = memcall.Free(p.b)
}

// lockPages tells a refusal without the address that memcall puts in its error.
func (a *Arena) lockPages(b []byte) error {
	if err := a.lock(b); err != nil {
		return fmt.Errorf("the kernel refuses to lock %d more bytes of memory (RLIMIT_MEMLOCK)", len(b))
	}
	return nil
}
