// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import (
	"errors"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// What the payload of a COMP frame may expand to.
const (
	MaxExpandedBytes = 8 << 20
	MaxExpansion     = 10 // times its own size
)

// Expander expands the payloads of COMP frames. It is for one process, not one
// connection: its decoders, as many as may work at once, are its memory.
type Expander struct{ z *zstd.Decoder }

// NewExpander returns one that expands up to atOnce payloads at the same time;
// further callers wait.
func NewExpander(atOnce int) (*Expander, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(max(atOnce, 1)), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxExpandedBytes), zstd.WithDecoderMaxWindow(MaxExpandedBytes), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	return &Expander{z}, nil
}

// Close gives the decoders back. Nothing may be expanded afterwards.
func (e *Expander) Close() { e.z.Close() }

// Expand appends to dst what payload expands to: at most limit bytes,
// MaxExpandedBytes and MaxExpansion times its size, whichever is least; what
// would be more is ReasonComp, and what is no zstd ReasonPayload. dst grows to
// that bound at most, whatever the payload announces, and is returned as it was
// on an error.
func (e *Expander) Expand(dst, payload []byte, limit int) ([]byte, error) {
	if len(payload) == 0 {
		return dst, errZstd
	}
	most := min(max(limit, 0), MaxExpandedBytes, MaxExpansion*len(payload))
	want := most
	var h zstd.Header
	if err := h.Decode(payload); err != nil {
		return dst, errZstd
	}
	if h.HasFCS {
		if h.FrameContentSize > uint64(most) {
			return dst, errExpands
		}
		want = int(h.FrameContentSize)
	}
	// The decoder writes no further than the capacity it is given.
	at := len(dst)
	dst = slices.Grow(dst, want)
	out, err := e.z.DecodeAll(payload, dst[at:at:at+want])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return dst[:at], errExpands
	case err != nil:
		return dst[:at], errZstd
	case len(out) > want:
		return dst[:at], errExpands
	}
	return dst[:at+len(out)], nil
}

// Compressor makes the payloads of COMP frames; one a process.
type Compressor struct{ z *zstd.Encoder }

// NewCompressor returns one that compresses up to atOnce payloads at the same
// time; further callers wait.
func NewCompressor(atOnce int) (*Compressor, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(max(atOnce, 1)), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(256<<10), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	return &Compressor{z}, nil
}

// Close gives the encoders back.
func (c *Compressor) Close() { c.z.Close() }

// Compress appends payload, compressed, to dst. It reports false, with dst as
// it was, where that saves nothing or where the other side would have to refuse
// it, because it expands too far.
func (c *Compressor) Compress(dst, payload []byte) ([]byte, bool) {
	if len(payload) == 0 || len(payload) > MaxExpandedBytes {
		return dst, false
	}
	at := len(dst)
	out := c.z.EncodeAll(payload, dst)
	if n := len(out) - at; n >= len(payload) || len(payload) > MaxExpansion*n {
		return out[:at], false
	}
	return out, true
}
