// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/rustyonions/macronode/b3"
)

// keepBytes is how much of an answer without proofs is kept until it is verified.
const keepBytes = 1 << 20

// keeper keeps bytes back until it is let go or there are too many.
type keeper struct {
	w    io.Writer
	kept []byte
	open bool // bytes go on as they come
}

func (k *keeper) Write(p []byte) (int, error) {
	if k.open {
		return k.w.Write(p)
	}
	if len(p) > keepBytes-len(k.kept) {
		return 0, ErrNoSlices
	}
	k.kept = append(k.kept, p...)
	return len(p), nil
}

// getPlain gets from a node that proves nothing, and verifies the whole.
func (c *Client) getPlain(ctx context.Context, addr b3.Addr, w io.Writer, o GetOptions) (int64, error) {
	k := &keeper{w: w, open: o.Unproven}
	n, err := c.getUnproven(ctx, addr, k, o)
	if k.open {
		return n, err
	}
	if err != nil {
		return 0, err
	}
	wrote, err := w.Write(k.kept)
	return int64(wrote), err
}

func (c *Client) getUnproven(ctx context.Context, addr b3.Addr, w io.Writer, o GetOptions) (int64, error) {
	d := &download{c: c, addr: addr, w: w, o: o, hash: b3.NewHasher(nil)}
	if o.Have != nil {
		n, err := io.Copy(d.hash, io.NewSectionReader(o.Have, 0, o.Have.Size()))
		if err != nil {
			return 0, err
		}
		d.at = n
	}
	begin := d.at
	for try := 0; ; try++ {
		before := d.at
		err := d.rest(ctx)
		if err == nil {
			return d.at - begin, finish(d.hash, addr)
		}
		var broken *brokenError
		moved := d.at-before >= worthwhile
		if moved {
			try = 0
		}
		if !errors.As(err, &broken) || try >= c.retries || ctx.Err() != nil {
			return d.at - begin, err
		}
		if err := c.retry(ctx, err, try, moved); err != nil {
			return d.at - begin, err
		}
	}
}

// worthwhile is how many bytes a try must bring to be no failure; else a node
// could hold a Get for ever with a byte a time.
const worthwhile = 1 << 20

// brokenError is an answer that broke off.
type brokenError struct{ error }

func (b *brokenError) Unwrap() error { return b.error }

// download is such a Get under way. It is a Writer, to which at bytes were written
// or had before.
type download struct {
	c    *Client
	addr b3.Addr
	w    io.Writer
	o    GetOptions
	hash *b3.Hasher
	at   int64
	size int64 // of the whole object; -1: not known
}

// rest fetches what is missing; a *brokenError says that less came than was
// announced.
func (d *download) rest(ctx context.Context) error {
	req := Request{Method: "GET", Path: "/o/" + d.addr.String(), Header: http.Header{}}
	if d.at > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(d.at, 10)+"-")
		req.Header.Set("If-Range", `"`+d.addr.String()+`"`)
	}
	resp, err := d.c.Do(ctx, req)
	var refused *Error
	if errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable {
		return nil // nothing is left to fetch: the bytes at hand are all, or are wrong
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if d.at > 0 && resp.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("the node sent status %d instead of the rest", resp.StatusCode)
	}
	if d.size = resp.ContentLength; d.size >= 0 {
		d.size += d.at
		if d.o.Max > 0 && d.size > d.o.Max {
			return ErrTooLong
		}
	}
	from := &noting{r: resp.Body}
	if _, err := io.Copy(d, from); err != nil {
		if from.err != nil && ctx.Err() == nil {
			return &brokenError{err}
		}
		return err
	}
	return nil
}

func (d *download) Write(p []byte) (int, error) {
	if d.o.Max > 0 && int64(len(p)) > d.o.Max-d.at {
		return 0, ErrTooLong
	}
	n, err := d.w.Write(p)
	d.at += int64(n)
	if _, herr := d.hash.Write(p[:n]); err == nil {
		err = herr
	}
	if d.o.Progress != nil {
		d.o.Progress(d.at, d.size)
	}
	return n, err
}

// noting keeps why reading failed, which is apart from why writing did.
type noting struct {
	r   io.Reader
	err error
}

func (n *noting) Read(p []byte) (int, error) {
	m, err := n.r.Read(p)
	if err != nil && err != io.EOF {
		n.err = err
	}
	return m, err
}

func finish(hash *b3.Hasher, addr b3.Addr) error {
	got, err := hash.Sum()
	if err == nil && got != addr {
		err = fmt.Errorf("got %s for %s: %w", got, addr, ErrIntegrity)
	}
	return err
}
