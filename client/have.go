// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/rustyonions/macronode/b3"
)

// verifyHave makes sure that have holds the object's first bytes, and reports
// whether it holds all of them. The node's proof of the 16 KiB in which have ends
// names the nodes of the tree left of those; together these are above all that
// comes before, so that one small answer verifies any number of bytes.
func (c *Client) verifyHave(ctx context.Context, addr b3.Addr, have *io.SectionReader) (whole bool, err error) {
	n := have.Size()
	from := (n - 1) / b3.GroupBytes * b3.GroupBytes
	last, before, size, err := c.prove(ctx, addr, from, n-from)
	var refused *Error
	if errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable {
		// The node's word is good enough for where to go on. It may let nobody
		// look, and then that is at the beginning.
		stat, err := c.Stat(ctx, addr)
		if err != nil && !errors.As(err, &refused) {
			return false, err
		}
		return false, tooMuch(stat.Size)
	}
	if err != nil {
		return false, err
	}
	for _, s := range before {
		ok, err := matches(have, s)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, c.locate(ctx, addr, have, s)
		}
	}
	local := make([]byte, n-from)
	if _, err := have.ReadAt(local, from); err != nil && err != io.EOF {
		return false, err
	}
	if int64(len(last)) < n-from {
		return false, tooMuch(size)
	}
	if !bytes.Equal(last, local) {
		return false, &DamageError{Off: from, Len: n - from, Have: true}
	}
	return size == n, nil
}

// tooMuch: have is longer than the object, which has size bytes.
func tooMuch(size int64) error {
	off := size / b3.GroupBytes * b3.GroupBytes
	return &DamageError{Off: off, Len: b3.GroupBytes, Have: true, why: "there are more than the object has"}
}

// prove fetches at most n bytes from off, with what the proof says of those
// before. size is the object's where the range touches its end, else -1.
func (c *Client) prove(ctx context.Context, addr b3.Addr, off, n int64) (data []byte, before []b3.Subtree, size int64, err error) {
	r, err := c.GetRange(ctx, addr, off, n)
	if err != nil {
		return nil, nil, 0, err
	}
	defer r.Close()
	if data, err = io.ReadAll(r); err != nil {
		return nil, nil, 0, err
	}
	size, proven := r.Size()
	if !proven {
		size = -1
	}
	return data, slices.Clone(r.slice.Before()), size, nil
}

func matches(have io.ReaderAt, s b3.Subtree) (bool, error) {
	sum, err := b3.SubtreeSum(io.NewSectionReader(have, s.Off, s.Len), s.Off, s.Len)
	return sum == s.CV, err
}

// locate finds the damaged 16 KiB below a node that does not match, by halves: a
// small answer for each, and as many bytes to hash as are below it.
func (c *Client) locate(ctx context.Context, addr b3.Addr, have io.ReaderAt, bad b3.Subtree) error {
	for bad.Len > b3.GroupBytes {
		half := bad.Len / 2
		_, before, _, err := c.prove(ctx, addr, bad.Off+half, 1)
		if err != nil {
			return err
		}
		// The last node left of the second half is above the first.
		left := before[len(before)-1]
		ok, err := matches(have, left)
		switch {
		case err != nil:
			return err
		case ok:
			bad = b3.Subtree{Off: bad.Off + half, Len: half}
		default:
			bad = left
		}
	}
	return &DamageError{Off: bad.Off, Len: bad.Len, Have: true}
}
