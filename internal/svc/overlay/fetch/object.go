// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"io"
	"sync"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// Object is an object that another node has, its length proven.
type Object struct {
	f     *Fetcher
	t     target
	size  int64
	ctype string
	small []byte
	peer  string

	mu    sync.Mutex
	first *source // came with the answer; nil: taken, or given up
}

// Size is the object's length.
func (o *Object) Size() int64 { return o.size }

// ContentType is the object's, by the word of the node that has it.
func (o *Object) ContentType() string { return o.ctype }

// Close gives up what came with the answer and was not opened.
func (o *Object) Close() error {
	if s := o.take(nil); s != nil {
		s.close()
	}
	return nil
}

// take returns what came with the answer, where it is w or w is nil.
func (o *Object) take(w *Want) *source {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.first
	if s != nil && w != nil && s.want != *w {
		return nil
	}
	o.first = nil
	return s
}

// Open returns a stream of w, cut to the object, once its first leaf is verified.
// ctx ends the stream.
func (o *Object) Open(ctx context.Context, w Want) (macronode.Stream, error) {
	w = w.of(o.size)
	if o.small != nil {
		return &memory{b: o.small, w: w}, nil
	}
	if w.N <= 0 || w.Off < 0 {
		return nil, macronode.Errorf(macronode.Invalid, "there is nothing to be read")
	}
	s := &stream{o: o, ctx: ctx, w: w, at: w.Off, tried: make(map[string]bool)}
	if s.src = o.take(&w); s.src == nil {
		if err := s.search(); err != nil {
			return nil, err
		}
	}
	s.watch()
	return s, nil
}

// memory is the stream of a small object.
type memory struct {
	b []byte
	w Want
}

// Size, ReadAt and Parent make it a b3.SliceSource: of one group, which has no
// parents.
func (m *memory) Size() int64 { return int64(len(m.b)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off >= m.Size() {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) Parent(int64, int64) (p [b3.ParentBytes]byte, err error) { return p, store.ErrRange }

// WriteTo implements macronode.Stream.
func (m *memory) WriteTo(w io.Writer) (int64, error) {
	if m.w.Group != Plain {
		return b3.WriteSlice(w, m, m.w.Group, m.w.Off, m.w.N)
	}
	n, err := w.Write(m.b[m.w.Off : m.w.Off+m.w.N])
	return int64(n), err
}

// Close implements macronode.Stream.
func (m *memory) Close() error { return nil }

// stream is verified bytes, from as many peers as it takes.
type stream struct {
	o     *Object
	ctx   context.Context // of the reader
	w     Want
	src   *source // its leaf is verified and not yet written; nil: closed
	at    int64   // in the object: written so far
	out   int64   // written so far, trees included
	skip  int64   // of a slice that goes on where another broke off: bytes that were written
	tried map[string]bool
	stop  func() bool
}

// search gets a source for what is still to come.
func (s *stream) search() error {
	rest := Want{Off: s.at, N: s.w.Off + s.w.N - s.at, Group: s.w.Group}
	src, err := s.o.f.search(s.ctx, s.o.t, rest, s.tried)
	if err != nil {
		return err
	}
	if src.size != s.o.size || src.want != rest { // two lengths cannot both be proven
		src.close()
		return macronode.Errorf(macronode.Integrity, "an object with two lengths")
	}
	s.src = src
	if s.w.Group != Plain && s.out > 0 {
		all := b3.SliceBytes(s.o.size, s.w.Group, s.w.Off, s.w.N)
		s.skip = b3.SliceBytes(s.o.size, s.w.Group, rest.Off, rest.N) - (all - s.out)
	}
	return nil
}

// watch ends a call whose reader went away.
func (s *stream) watch() {
	src := s.src
	s.stop = context.AfterFunc(s.ctx, func() { src.cancel(context.Canceled) })
}

// WriteTo implements macronode.Stream.
func (s *stream) WriteTo(w io.Writer) (int64, error) {
	for {
		if err := s.write(w); err != nil {
			return s.out, err
		}
		err := s.src.step()
		if err == nil {
			continue
		}
		whole := s.at == s.w.Off+s.w.N
		if err != io.EOF {
			s.failed(err)
		}
		if whole { // whatever came behind it: all that was written is verified
			return s.out, nil
		}
		if s.ctx.Err() != nil {
			return s.out, context.Cause(s.ctx)
		}
		s.o.f.cfg.Metrics.count(outcomeResumed)
		_ = s.Close() // the call is over
		if next := s.search(); next != nil {
			if macronode.KindOf(next) == macronode.NotFound { // there was one, and it failed
				next = refusal([]error{err})
			}
			return s.out, next
		}
		s.watch()
	}
}

// write writes the leaf that is at hand.
func (s *stream) write(w io.Writer) error {
	p := s.src.leaf
	if s.w.Group != Plain {
		p = s.src.raw.got
		n := min(s.skip, int64(len(p)))
		p, s.skip = p[n:], s.skip-n
	}
	n, err := w.Write(p)
	s.out += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return err
	}
	s.at += int64(len(s.src.leaf))
	s.src.leaf, s.src.raw.got = nil, s.src.raw.got[:0]
	s.o.f.cfg.Metrics.bytes.Add(float64(n))
	return nil
}

// failed sees to a peer that broke off amid a stream.
func (s *stream) failed(err error) {
	f, peer := s.o.f, s.src.peer
	s.tried[peer] = true
	excused := s.ctx.Err() != nil
	if leave, refused := f.enter(peer); refused == nil {
		if excused {
			leave(context.Canceled)
		} else {
			leave(err)
		}
	}
	f.blame(&s.o.t, peer, err, excused)
}

// Close implements macronode.Stream.
func (s *stream) Close() error {
	if s.src == nil {
		return nil
	}
	s.stop()
	s.src.close()
	s.src = nil
	return nil
}
