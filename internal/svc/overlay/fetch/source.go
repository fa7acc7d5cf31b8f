// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

var (
	errTruncated = errors.New("it ended before it was whole")
	errSurplus   = errors.New("something follows the whole")
)

const sliceHeadBytes = 8

// source is a call to one peer that has proven the object's length. It belongs to
// one goroutine at a time.
type source struct {
	peer  string
	size  int64
	ctype string
	small []byte // all of an object of up to 16 KiB; nil: it is larger
	want  Want   // cut to the object; N 0: nothing more comes
	call
	stall time.Duration
	timer *time.Timer

	answer *Answer
	body   ender
	slice  *b3.SliceReader
	raw    *recorder
	next   int64 // where the bytes after leaf begin
	leaf   []byte
	buf    []byte
}

// call is what a call to a peer holds until it is closed.
type call struct {
	ctx    context.Context // of the call, body included
	cancel context.CancelCauseFunc
	place  func() // gives its place back
}

// recorder keeps what was read through it, which a SliceReader reads as far as the
// next leaf and no further.
type recorder struct {
	r   io.Reader
	on  bool
	got []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if r.on {
		r.got = append(r.got, p[:n]...)
	}
	return n, err
}

// ender remembers whether its reader said that it was at its end.
type ender struct {
	r  io.Reader
	at bool
}

func (e *ender) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.at = e.at || err == io.EOF
	return n, err
}

// ask calls the peer and returns once the length and, where w is something, its first
// leaf are verified. What c holds is given back where it fails, else by the source's
// close.
func (f *Fetcher) ask(c call, peer string, t *target, w Want) (s *source, err error) {
	s = &source{peer: peer, call: c, stall: f.cfg.Stall}
	s.timer = time.AfterFunc(f.cfg.Timeout, func() { c.cancel(errStalled) })
	defer func() {
		s.timer.Stop()
		if err != nil {
			err = s.fate(err)
			s.close()
			s = nil
		}
	}()
	proof := t.key.Proof(f.cfg.Node, peer, t.addr)
	s.answer, err = f.cfg.Sessions.Call(c.ctx, peer, Question{Op: OpFetch, Tenant: t.tenant, Args: []macronode.Arg{
		{Name: argAddr, Value: t.addr.String()},
		{Name: argOff, Value: strconv.FormatInt(w.Off, 10)},
		{Name: argN, Value: strconv.FormatInt(w.N, 10)},
		{Name: argGroup, Value: strconv.Itoa(w.wire())},
		{Name: argProof, Value: hex.EncodeToString(proof[:])},
	}})
	if err != nil {
		return s, err
	}
	s.ctype, s.body.r = s.answer.ContentType, s.answer.Body
	if err := s.measure(t.addr, f.cfg.MaxObject()); err != nil {
		return s, err
	}
	if s.small != nil || w.N == 0 {
		s.want = Want{Group: w.Group}
		return s, s.end()
	}
	return s, s.begin(t.addr, w)
}

// measure reads the first slice, which proves the length.
func (s *source) measure(addr b3.Addr, most int64) error {
	head := make([]byte, sliceHeadBytes)
	if _, err := io.ReadFull(&s.body, head); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint64(head)
	if size > math.MaxInt64 || int64(size) > most {
		return lied("an object of %d bytes, %d are allowed", size, most)
	}
	s.size = int64(size)
	off, n := s.size, int64(0)
	if s.size <= b3.GroupBytes {
		off, n = 0, s.size
	}
	rest := io.LimitReader(&s.body, b3.SliceBytes(s.size, b3.SliceGroups, off, n)-sliceHeadBytes)
	last := b3.NewSliceReader(io.MultiReader(bytes.NewReader(head), rest), addr, b3.SliceGroups, off, n)
	all, err := io.ReadAll(last)
	if err != nil {
		return err
	}
	if s.size <= b3.GroupBytes {
		s.small = append(make([]byte, 0, len(all)), all...)
	}
	return nil
}

// begin reads the second slice as far as its first leaf.
func (s *source) begin(addr b3.Addr, w Want) error {
	s.want = w.of(s.size)
	if s.want.N == 0 { // it was a guess, and the object ends before it
		return s.end()
	}
	s.raw = &recorder{r: io.LimitReader(&s.body, b3.SliceBytes(s.size, w.wire(), s.want.Off, s.want.N)), on: w.Group != Plain}
	s.slice = b3.NewSliceReader(s.raw, addr, w.wire(), s.want.Off, s.want.N)
	s.next, s.buf = s.want.Off, make([]byte, b3.GroupBytes)
	return s.advance()
}

// advance verifies the next leaf; io.EOF after the last, where the answer ends too.
func (s *source) advance() error {
	n, err := s.slice.Read(s.buf)
	s.leaf, s.next = s.buf[:n], s.next+int64(n)
	if size, _ := s.slice.Size(); n > 0 && size != s.size {
		s.leaf = nil
		return lied("the object has %d bytes, the slice says %d", s.size, size)
	}
	if err == io.EOF {
		if s.next != s.want.Off+s.want.N {
			return lied("%d bytes of %d: %w", s.next-s.want.Off, s.want.N, errTruncated)
		}
		if err := s.end(); err != nil {
			return err
		}
	}
	return err
}

// end makes sure that the answer ends.
func (s *source) end() error {
	var b [1]byte
	n, err := io.ReadFull(&s.body, b[:])
	switch {
	case n > 0:
		return lied("%w", errSurplus)
	case err == io.EOF:
		return nil
	default:
		return err
	}
}

// step is advance for later leaves, with its own deadline.
func (s *source) step() error {
	s.timer.Reset(s.stall)
	err := s.advance()
	s.timer.Stop()
	if err == nil || err == io.EOF {
		return err
	}
	return s.fate(err)
}

// fate tells what an error of the stream means: damage and a clean end too early are
// the peer's lies, the rest is bad luck.
func (s *source) fate(err error) error {
	if _, ok := errors.AsType[*lie](err); ok {
		return err
	}
	switch {
	case errors.Is(err, b3.ErrMismatch), errors.Is(err, b3.ErrSlice):
		return &lie{err}
	case errors.Is(context.Cause(s.ctx), errStalled):
		return errStalled
	case s.body.at && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)):
		return &lie{fmt.Errorf("%w: %w", errTruncated, err)}
	default:
		return err
	}
}

// close ends the call.
func (s *source) close() {
	s.timer.Stop()
	s.cancel(context.Canceled)
	if s.answer != nil {
		_ = s.answer.Body.Close() // nothing more is wanted of it
		s.answer = nil
	}
	if s.place != nil {
		s.place()
		s.place = nil
	}
}
