// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package fit fits services to each other: what one wants of a neighbour, as that
// neighbour has it.
package fit

import (
	"bytes"
	"context"
	"io"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/storage"
)

// Opened is a tenant's object, here or at a peer, to be read at any place. Every byte
// is verified before ReadAt returns it. One goroutine uses it.
type Opened interface {
	io.ReaderAt
	io.Closer
	Size() int64
	ContentType() string
}

// Objects are what tenants have, on this node and on peers.
type Objects struct {
	Storage *storage.Service
	// Elsewhere is where else objects are looked for.
	Elsewhere storage.Elsewhere
}

// Open opens the tenant's object, here or at a peer that announced it; NotFound where
// nobody has it. ctx lasts as long as the object is read.
func (o Objects) Open(ctx context.Context, tenant macronode.TenantID, addr b3.Addr) (Opened, error) {
	local, err := o.Storage.Local(ctx, tenant, addr)
	if err == nil {
		return local, nil
	}
	if macronode.KindOf(err) != macronode.NotFound {
		return nil, err
	}
	r, err := o.Elsewhere.Find(ctx, tenant, addr, storage.Want{})
	if err != nil {
		return nil, err
	}
	return &distant{ctx: ctx, Remote: r}, nil
}

// windowBytes is what is fetched of a peer's object at once.
const windowBytes = 256 << 10

// distant reads a peer's object a window at a time.
type distant struct {
	storage.Remote
	ctx context.Context // of the call that reads
	off int64           // of the window
	win bytes.Buffer
}

// ReadAt implements io.ReaderAt.
func (d *distant) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off >= d.Size() {
			return n, io.EOF
		}
		if off < d.off || off >= d.off+int64(d.win.Len()) {
			if err := d.fetch(off, min(int64(max(len(p)-n, windowBytes)), d.Size()-off)); err != nil {
				return n, err
			}
		}
		m := copy(p[n:], d.win.Bytes()[off-d.off:])
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

func (d *distant) fetch(off, size int64) error {
	d.win.Reset()
	d.off = off
	s, err := d.Open(d.ctx, storage.Want{Off: off, N: size, Group: storage.PlainBytes})
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err = s.WriteTo(&d.win); err == nil && int64(d.win.Len()) != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		d.win.Reset()
	}
	return err
}
