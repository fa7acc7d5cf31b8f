// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"errors"
	"io"
	"mime"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/storage/decode"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

const (
	maxContentType     = refs.MaxContentType
	defaultContentType = refs.DefaultContentType
	// ratioSlack is how much may come out before the ratio is looked at while
	// the length of the encoded body is not known: a head that is all zeros
	// says little about the whole.
	ratioSlack = 1 << 20
)

// contentType returns the type to keep with the reference.
func contentType(h macronode.Header) (string, error) {
	v := h["Content-Type"]
	switch {
	case len(v) == 0 || (len(v) == 1 && v[0] == ""):
		return defaultContentType, nil
	case len(v) > 1:
		return "", macronode.Errorf(macronode.Malformed, "Content-Type is given more than once")
	case len(v[0]) > maxContentType:
		return "", macronode.Errorf(macronode.Malformed, "Content-Type may have %d bytes", maxContentType)
	}
	t := strings.TrimSpace(v[0])
	for i := range len(t) {
		if (t[i] < ' ' && t[i] != '\t') || t[i] > '~' {
			return "", macronode.Errorf(macronode.Malformed, "Content-Type holds printable ASCII alone")
		}
	}
	if t == defaultContentType {
		return defaultContentType, nil
	}
	if media, _, err := mime.ParseMediaType(t); err != nil || strings.Count(media, "/") != 1 {
		return "", macronode.Errorf(macronode.Malformed, "Content-Type is no media type")
	}
	return t, nil
}

// coding is a content coding that uploads may have.
type coding uint8

const (
	identity coding = iota
	gzipped
	zstandard
)

func contentCoding(h macronode.Header) (coding, error) {
	switch c := strings.Join(h["Content-Encoding"], ","); strings.ToLower(strings.TrimSpace(c)) {
	case "", "identity":
		return identity, nil
	case "gzip", "x-gzip":
		return gzipped, nil
	case "zstd":
		return zstandard, nil
	default:
		e := macronode.Errorf(macronode.UnsupportedMedia, "Content-Encoding may be gzip or zstd")
		e.Header = macronode.Header{"Accept-Encoding": {"gzip, zstd, identity"}}
		return identity, e
	}
}

// source is an upload's decoded bytes, under every limit that does not need
// the store.
type source struct {
	wire   wireBody
	in     io.Reader // decoder, or &wire
	close  func()
	coding coding
	limits *live
	length int64 // of the body as announced; -1 unknown
	out    int64 // decoded so far

	decoders *decode.Zstd
	tenant   macronode.TenantID
}

// wireBody counts the encoded bytes and remembers how they ended, so that the
// client's doing is told from a bad encoding.
type wireBody struct {
	r   io.Reader
	n   int64
	err error
}

func (w *wireBody) Read(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.r == nil {
		w.err = io.EOF
		return 0, io.EOF
	}
	n, err := w.r.Read(p)
	w.n += int64(n)
	w.err = err
	return n, err
}

func newSource(a *macronode.Admitted, c coding, l *live, d *decode.Zstd) *source {
	s := &source{coding: c, limits: l, length: a.Length, decoders: d, tenant: a.Tenant.ID}
	s.wire.r = a.Body
	s.in = &s.wire
	return s
}

// open starts the decoder, which may read the body's head.
func (s *source) open() error {
	switch s.coding {
	case gzipped:
		z, err := gzip.NewReader(&s.wire)
		if err != nil {
			return s.failed(err)
		}
		s.in = z
	case zstandard:
		z, err := s.decoders.Take(s.tenant, &s.wire)
		if err != nil {
			return s.failed(err)
		}
		s.in, s.close = z, func() { s.decoders.Give(s.tenant, z) }
	}
	return nil
}

// Close releases the decoder.
func (s *source) Close() {
	if s.close != nil {
		s.close()
		s.close = nil
	}
}

// fill reads until p is full or the body ends, which last reports. Every error
// is a *macronode.Error.
func (s *source) fill(p []byte) (n int, last bool, err error) {
	for n < len(p) {
		m, err := s.in.Read(p[n:])
		n += m
		s.out += int64(m)
		if e := s.check(); e != nil {
			return n, false, e
		}
		if err == io.EOF {
			return n, true, s.finish()
		}
		if err != nil {
			return n, false, s.failed(err)
		}
	}
	return n, false, nil
}

// check holds what came out so far against the limits. Whether a body passes
// must not depend on how it was cut into packets, so with a known length the
// ratio is that of the whole body, and finish looks again at the end.
func (s *source) check() error {
	if s.length >= 0 && s.wire.n > s.length {
		return macronode.Errorf(macronode.Malformed, "the body is longer than its length")
	}
	if s.out > s.limits.MaxObjectBytes {
		return macronode.Errorf(macronode.TooLarge, "an object may have %d bytes", s.limits.MaxObjectBytes)
	}
	if s.coding == identity {
		return nil
	}
	if s.length >= 0 {
		return s.expansion(s.length)
	}
	if s.out <= ratioSlack {
		return nil
	}
	return s.expansion(s.wire.n)
}

// expansion refuses more than the two caps allow for encoded bytes.
func (s *source) expansion(encoded int64) error {
	times, rest := s.out/s.limits.DecompressRatio, s.out%s.limits.DecompressRatio
	switch {
	case s.out-encoded > s.limits.DecompressBytes:
		return macronode.Errorf(macronode.DecompressLimit, "the body may expand by %d bytes", s.limits.DecompressBytes)
	case times > encoded || (times == encoded && rest > 0):
		return macronode.Errorf(macronode.DecompressLimit, "the body may expand to %d times its length", s.limits.DecompressRatio)
	}
	return nil
}

// finish judges a body that ended where its encoding says it does. Decoders take
// some errors of a body for its end; then the client is gone all the same.
func (s *source) finish() error {
	if s.wire.err != io.EOF {
		return s.failed(io.ErrUnexpectedEOF)
	}
	if s.length >= 0 && s.wire.n < s.length {
		return macronode.Wrap(macronode.ClientGone, "the body ended before its length", io.ErrUnexpectedEOF)
	}
	if s.coding != identity {
		return s.expansion(s.wire.n)
	}
	return nil
}

// failed tells why reading failed.
func (s *source) failed(err error) error {
	if e, ok := errors.AsType[*macronode.Error](err); ok {
		return e
	}
	if w := s.wire.err; w != nil && w != io.EOF {
		if e, ok := errors.AsType[*macronode.Error](w); ok {
			return e // the decoder may have hidden it
		}
		return macronode.Wrap(macronode.ClientGone, "the body ended early", w)
	}
	if s.length >= 0 && s.wire.err == io.EOF && s.wire.n < s.length {
		return macronode.Wrap(macronode.ClientGone, "the body ended before its length", io.ErrUnexpectedEOF)
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return macronode.Wrap(macronode.DecompressLimit, "the body asks for too large a window", err)
	}
	return macronode.Wrap(macronode.Malformed, "the body is not what its Content-Encoding says", err)
}
