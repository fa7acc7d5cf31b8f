// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"sync"

	"github.com/rustyonions/macronode/b3"
)

// sliceType is what objects are asked for as.
const sliceType = b3.SliceMediaType + ";group=4"

// ErrNoSlices: the node answers with the bare bytes, as nodes do that are older
// than slices. They can be verified all together, and a part of them not at all.
var ErrNoSlices = errors.New("the node sends no proofs beside the bytes, it is older than this program")

// DamageError says which bytes do not match the address. It is an ErrIntegrity.
type DamageError struct {
	Off, Len int64 // in the object; Len is at most 16 KiB
	// Have: those of GetOptions.Have are damaged, not those that came.
	Have bool
	why  string // empty: nothing to add
}

func (e *DamageError) Error() string {
	whose := "that came"
	if e.Have {
		whose = "fetched before"
	}
	text := fmt.Sprintf("%v: %d from byte %d on, of those %s", ErrIntegrity, e.Len, e.Off, whose)
	if e.why != "" {
		text += ": " + e.why
	}
	return text
}

// Unwrap makes the error an ErrIntegrity.
func (e *DamageError) Unwrap() error { return ErrIntegrity }

// sliceReaders are not in use: one has 24 KiB, more than many an object.
var sliceReaders = sync.Pool{New: func() any { return &b3.SliceReader{} }}

// Reader reads bytes of an object, each verified before it is returned: 16 KiB
// are returned whole or not at all. Where the connection breaks it goes on from
// there by itself. It is not for concurrent use.
type Reader struct {
	c    *Client
	ctx  context.Context
	addr b3.Addr
	off  int64 // the first of the range
	end  int64 // behind the last; math.MaxInt64: that of the object
	at   int64 // the next to return
	most int64 // bytes that the object may have; 0: any number

	slice *b3.SliceReader // nil: closed
	size  int64           // of the object, once closed
	known bool            // size is proven
	body  *noting         // of the answer; nil: none is open
	close func() error
	fresh int64 // at when the answer began
	try   int
	err   error
}

// GetRange opens the n bytes from off of an object; math.MaxInt64 is as many as
// there are. A range that reaches past the object's end ends with it; one that
// begins there is an *Error with 416. The caller closes the Reader, and ctx holds
// until then. An older node's answer is ErrNoSlices: it could not be verified.
func (c *Client) GetRange(ctx context.Context, addr b3.Addr, off, n int64) (*Reader, error) {
	return c.open(ctx, addr, off, n, 0)
}

func (c *Client) open(ctx context.Context, addr b3.Addr, off, n, most int64) (*Reader, error) {
	if off < 0 || n < 0 {
		return nil, fmt.Errorf("no object has %d bytes from %d", n, off)
	}
	r := &Reader{c: c, ctx: ctx, addr: addr, off: off, end: math.MaxInt64, at: off, most: most}
	r.slice = sliceReaders.Get().(*b3.SliceReader)
	r.slice.Reset(nil, addr, b3.SliceGroups, off, n)
	if n < math.MaxInt64-off {
		r.end = off + n
	}
	for {
		err := r.connect()
		if err == nil {
			return r, nil
		}
		if err := r.again(err, false); err != nil {
			return nil, err
		}
	}
}

// Size returns the object's length, and whether that is proven, which it is from
// the object's last 16 KiB on. Before, it is the node's word; -1: not known.
func (r *Reader) Size() (size int64, proven bool) {
	if r.slice == nil {
		return r.size, r.known
	}
	return r.slice.Size()
}

// connect asks for what is missing and reads the length before the slice.
func (r *Reader) connect() error {
	req := Request{Method: "GET", Path: "/o/" + r.addr.String(), Header: http.Header{"Accept": {sliceType}}}
	switch {
	case r.end < math.MaxInt64:
		last := max(r.end, r.at+1) - 1 // a range of nothing is asked for as a byte
		req.Header.Set("Range", "bytes="+strconv.FormatInt(r.at, 10)+"-"+strconv.FormatInt(last, 10))
	case r.at > 0:
		req.Header.Set("Range", "bytes="+strconv.FormatInt(r.at, 10)+"-")
	}
	resp, err := r.c.Do(r.ctx, req)
	if err != nil {
		return err
	}
	if err := r.begin(resp); err != nil {
		resp.Body.Close()
		return err
	}
	return nil
}

func (r *Reader) begin(resp *http.Response) error {
	if !isSlice(resp) {
		return ErrNoSlices
	}
	var head [8]byte
	if _, err := io.ReadFull(resp.Body, head[:]); err != nil {
		return &brokenError{fmt.Errorf("the answer ends early: %w", err)}
	}
	size, n := int64(binary.LittleEndian.Uint64(head[:])), r.end-r.at
	if r.most > 0 && size > r.most {
		return ErrTooLong
	}
	// Were the answer another range's, its bytes would pass for damaged.
	if want := b3.SliceBytes(size, b3.SliceGroups, r.at, n); resp.ContentLength >= 0 && resp.ContentLength != want {
		return r.damaged("the answer has another length than a proof of them")
	}
	r.body, r.close, r.fresh = &noting{r: resp.Body}, resp.Body.Close, r.at
	r.slice.Reset(io.MultiReader(bytes.NewReader(head[:]), r.body), r.addr, b3.SliceGroups, r.at, n)
	return nil
}

// damaged is the error of an answer that is wrong, and not in its bytes.
func (r *Reader) damaged(why string) error {
	return &DamageError{Off: r.at, Len: b3.GroupBytes - r.at%b3.GroupBytes, why: why}
}

func isSlice(resp *http.Response) bool {
	t, args, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && t == b3.SliceMediaType && args["group"] == strconv.Itoa(b3.SliceGroups)
}

// Read returns verified bytes.
func (r *Reader) Read(p []byte) (int, error) {
	for {
		if err := r.ready(); err != nil {
			return 0, err
		}
		n, err := r.slice.Read(p)
		r.at += int64(n)
		if err != nil {
			r.ended(err)
		}
		if n > 0 || len(p) == 0 && r.err == nil {
			return n, nil
		}
	}
}

// WriteTo writes what is left of the range to w.
func (r *Reader) WriteTo(w io.Writer) (total int64, err error) {
	to := &notingWriter{w: w}
	for {
		if err := r.ready(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := r.slice.WriteTo(to)
		r.at += n
		total += n
		if to.err != nil {
			r.err = to.err // where w stands is not known to it, so it is over
			return total, to.err
		}
		if err == nil {
			err = io.EOF
		}
		r.ended(err)
	}
}

// ready makes sure that an answer is open.
func (r *Reader) ready() error {
	for r.err == nil && r.body == nil {
		if err := r.connect(); err != nil {
			r.err = r.again(err, false)
		}
	}
	return r.err
}

// ended judges how an answer ended, and leaves in err what the Reader ends with.
func (r *Reader) ended(err error) {
	broke := r.body.err
	r.close()
	r.body = nil
	moved := r.at-r.fresh >= worthwhile
	if moved {
		r.try = 0
	}
	size, proven := r.slice.Size()
	var damage *b3.DamageError
	switch {
	case err == io.EOF:
		r.err = io.EOF
	case errors.As(err, &damage):
		d := &DamageError{Off: damage.Off, Len: damage.Len}
		if damage.Tree {
			d.why = "their proof does not match"
		}
		r.err = d
	case errors.Is(err, b3.ErrMismatch):
		r.err = r.damaged(err.Error())
	case r.at == r.end && r.at > r.off || proven && r.at == size:
		r.err = io.EOF // what broke had nothing left to say
	case broke != nil || errors.Is(err, io.ErrUnexpectedEOF):
		r.err = r.again(&brokenError{err}, moved)
	default:
		r.err = err
	}
}

// again waits before another try, where that may help; else it returns why not.
func (r *Reader) again(err error, moved bool) error {
	var broken *brokenError
	if !errors.As(err, &broken) || r.try >= r.c.retries || r.ctx.Err() != nil {
		return err
	}
	if err := r.c.retry(r.ctx, err, r.try, moved); err != nil {
		return err
	}
	r.try++
	return nil
}

// Close ends reading.
func (r *Reader) Close() error {
	if r.slice == nil {
		return nil
	}
	r.size, r.known = r.slice.Size()
	r.slice.Reset(nil, r.addr, b3.SliceGroups, 0, 0)
	sliceReaders.Put(r.slice)
	r.slice = nil
	if r.err == nil {
		r.err = errClosed
	}
	if r.body == nil {
		return nil
	}
	r.body = nil
	return r.close()
}

var errClosed = errors.New("client: the reader was closed")

// notingWriter keeps why writing failed, which is apart from why reading did.
type notingWriter struct {
	w   io.Writer
	err error
}

func (n *notingWriter) Write(p []byte) (int, error) {
	m, err := n.w.Write(p)
	if err == nil && m < len(p) {
		err = io.ErrShortWrite
	}
	n.err = err
	return m, err
}
