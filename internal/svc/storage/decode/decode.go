// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package decode hands out the decoders of compressed uploads, of which there are
// few: each costs much memory.
package decode

import (
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/rustyonions/macronode"
)

const (
	// zstdWindow is what RFC 9659 lets a sender ask for. A decoder sets that
	// much memory aside when it meets the head of a frame, so a kilobyte sent
	// can cost eight thousand times as much: their number is bounded.
	zstdWindow  = 8 << 20
	maxDecoders = 32
	// maxTenantDecoders leaves decoders for the others.
	maxTenantDecoders = maxDecoders / 2
)

// Zstd hands out zstd decoders.
type Zstd struct {
	pool sync.Pool // *zstd.Decoder

	mu   sync.Mutex
	used int
	by   map[macronode.TenantID]int
}

// Take returns a decoder that reads r, to be given back, or refuses.
func (d *Zstd) Take(t macronode.TenantID, r io.Reader) (*zstd.Decoder, error) {
	if !d.reserve(t) {
		return nil, macronode.Errorf(macronode.Overload, "too many zstd bodies are being received at once")
	}
	z, _ := d.pool.Get().(*zstd.Decoder)
	var err error
	if z == nil {
		// One goroutine, no more: the decoder works inside Read.
		z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
	} else {
		err = z.Reset(r)
	}
	if err != nil {
		d.release(t)
		return nil, err
	}
	return z, nil
}

// Give takes z back; it no longer refers to what it read.
func (d *Zstd) Give(t macronode.TenantID, z *zstd.Decoder) {
	if z.Reset(nil) == nil {
		d.pool.Put(z)
	}
	d.release(t)
}

func (d *Zstd) reserve(t macronode.TenantID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.used == maxDecoders || d.by[t] == maxTenantDecoders {
		return false
	}
	if d.by == nil {
		d.by = make(map[macronode.TenantID]int)
	}
	d.used++
	d.by[t]++
	return true
}

func (d *Zstd) release(t macronode.TenantID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used--
	if d.by[t]--; d.by[t] == 0 {
		delete(d.by, t)
	}
}
