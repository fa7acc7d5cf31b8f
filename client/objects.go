// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/rustyonions/macronode/b3"
)

// PutOptions of Put.
type PutOptions struct {
	ContentType string // empty: application/octet-stream
	// Addr, where not zero, must be the address of the bytes; the node refuses others.
	Addr b3.Addr
	// Length of the bytes, where it is known and the reader does not tell; 0: unknown.
	Length int64
	// IdempotencyKey makes a repeated Put answer as the first did.
	IdempotencyKey string
}

// Put is what a Put did.
type Put struct {
	Addr    b3.Addr `json:"addr"`
	Size    int64   `json:"size"`
	Existed bool    `json:"existed"`
}

// Put stores r's bytes. It returns once the node said that they are durable,
// and after it checked that the node's address is that of the bytes sent. A
// reader that can Seek is sent from where it stands, and again where a try fails;
// another is sent once.
func (c *Client) Put(ctx context.Context, r io.Reader, o PutOptions) (Put, error) {
	sent := &hashingReader{r: r, hash: b3.NewHasher(nil)}
	req := Request{Method: "POST", Path: "/o", Header: http.Header{}, Body: sent, Length: o.Length}
	if seeker, length, ok := replayable(r); ok {
		req.Repeat, req.Body = true, &seekingHasher{hashingReader: sent, seeker: seeker}
		switch {
		case length > 0:
			req.Length = length
		case length == 0:
			req.Body = nil // empty, and known to be
		}
	}
	if o.Addr != (b3.Addr{}) {
		req.Method, req.Path = "PUT", "/o/"+o.Addr.String()
	}
	if o.ContentType != "" {
		req.Header.Set("Content-Type", o.ContentType)
	}
	if o.IdempotencyKey != "" {
		req.Header.Set("Idempotency-Key", o.IdempotencyKey)
	}
	resp, err := c.Do(ctx, req)
	if err != nil {
		return Put{}, err
	}
	var out Put
	err = decode(resp.Body, &out)
	resp.Body.Close()
	if err != nil {
		return Put{}, fmt.Errorf("the answer to a put cannot be read: %w", err)
	}
	addr, err := sent.sum()
	if err != nil {
		return Put{}, err
	}
	if out.Addr != addr {
		return Put{}, fmt.Errorf("the node stored %s, sent was %s: %w", out.Addr, addr, ErrIntegrity)
	}
	return out, nil
}

// replayable reports whether r can be sent again from where it stands, and how
// many bytes it has; -1: it does not know. Of files only regular ones can:
// devices and pipes seek without meaning it.
func replayable(r io.Reader) (s io.Seeker, length int64, ok bool) {
	s, ok = r.(io.Seeker)
	if !ok {
		return nil, 0, false
	}
	f, isFile := r.(interface{ Stat() (fs.FileInfo, error) })
	if isFile {
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			return nil, 0, false
		}
	}
	at, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, 0, false
	}
	end, err := s.Seek(0, io.SeekEnd)
	if err != nil {
		end = -1
	}
	if _, err := s.Seek(at, io.SeekStart); err != nil {
		return nil, 0, false
	}
	if end < 0 || isFile && end <= at {
		return s, -1, true // files below /proc have bytes and no length
	}
	return s, max(end-at, 0), true
}

// hashingReader hashes what is read. It is locked, because a transport may still
// be reading when a node that did not wait for the end has answered.
type hashingReader struct {
	r    io.Reader
	mu   sync.Mutex
	hash *b3.Hasher
	done bool
}

func (h *hashingReader) sum() (b3.Addr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = true
	return h.hash.Sum()
}

func (h *hashingReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return 0, errTakenBack
	}
	if _, herr := h.hash.Write(p[:n]); herr != nil {
		return n, herr
	}
	return n, err
}

// seekingHasher lets a Put be repeated: back at the start, the hash starts anew.
type seekingHasher struct {
	*hashingReader
	seeker io.Seeker
	at     int64
	moved  bool
}

func (s *seekingHasher) Seek(offset int64, whence int) (int64, error) {
	at, err := s.seeker.Seek(offset, whence)
	if err == nil && s.moved && at != s.at {
		return at, errors.New("client: a put is repeated from its start alone")
	}
	if err == nil {
		s.at, s.moved = at, true
		s.mu.Lock()
		s.hash.Reset(nil)
		s.mu.Unlock()
	}
	return at, err
}

// Stat is what is known of an object without its bytes.
type Stat struct {
	Addr        b3.Addr `json:"addr"`
	Size        int64   `json:"size"`
	ContentType string  `json:"content_type"`
	CreatedMS   int64   `json:"created_ms,omitempty"`
}

// Stat asks for an object's size and type.
func (c *Client) Stat(ctx context.Context, addr b3.Addr) (Stat, error) {
	resp, err := c.Do(ctx, Request{Method: "HEAD", Path: "/o/" + addr.String()})
	if err != nil {
		return Stat{}, err
	}
	defer resp.Body.Close()
	if resp.ContentLength < 0 {
		return Stat{}, errors.New("the node did not say how long the object is")
	}
	return Stat{Addr: addr, Size: resp.ContentLength, ContentType: resp.Header.Get("Content-Type")}, nil
}

// GetOptions of Get.
type GetOptions struct {
	// Have holds the object's first bytes from an earlier, broken Get. They are
	// read and hashed, and only the rest is fetched; nil: everything is.
	Have io.Reader
	// Progress, where set, hears of the bytes that arrived and of the whole size.
	Progress func(done, size int64)
	// Max is how many bytes the object may have; a longer one is an error, and not
	// a byte above Max is written. 0: any number.
	Max int64
}

// ErrTooLong: the object has more bytes than GetOptions.Max.
var ErrTooLong = errors.New("the object is longer than expected")

// Get writes the object's bytes to w and returns how many it wrote. Only a nil
// error says that they are the object's: what was written before an error is
// not verified to the end and must be dropped or given to the next Get as Have.
// Where the connection breaks on the way, Get goes on from there.
func (c *Client) Get(ctx context.Context, addr b3.Addr, w io.Writer, o GetOptions) (int64, error) {
	d := &download{c: c, addr: addr, w: w, o: o, hash: b3.NewHasher(nil)}
	if o.Have != nil {
		n, err := io.Copy(d.hash, o.Have)
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
		if d.at-before >= worthwhile {
			try = 0
		}
		if !errors.As(err, &broken) || try >= c.retries || ctx.Err() != nil {
			return d.at - begin, err
		}
		if err := wait(ctx, err, try); err != nil {
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

// download is a Get under way. It is a Writer, to which at bytes were written
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

// Delete drops the tenant's reference. A missing object is an *Error with 404.
// Where a try broke off without an answer and the next one finds nothing, the
// first did it.
func (c *Client) Delete(ctx context.Context, addr b3.Addr) error {
	resp, blind, err := c.do(ctx, Request{Method: "DELETE", Path: "/o/" + addr.String()})
	var refused *Error
	if blind && errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// List is one page of the tenant's objects.
type List struct {
	Objects []Stat `json:"objects"`
	Cursor  string `json:"cursor"` // of the next page; empty: this was the last
}

// List returns the objects whose address begins with prefix, in order, from
// cursor on; limit 0 is the node's default.
func (c *Client) List(ctx context.Context, prefix, cursor string, limit int) (List, error) {
	q := url.Values{}
	for k, v := range map[string]string{"prefix": prefix, "cursor": cursor} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	path := "/v1/objects"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	var out List
	err := c.JSON(ctx, "GET", path, "", nil, &out)
	return out, err
}
