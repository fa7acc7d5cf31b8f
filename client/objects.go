// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
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
	// verified first, and only the rest is fetched; nil: everything is. If they
	// are not the object's, a *DamageError says where; those before are.
	Have *io.SectionReader
	// Progress, where set, hears of the bytes that are there and of the whole
	// size, as the node tells it; -1: it does not.
	Progress func(done, size int64)
	// Max is how many bytes the object may have; a longer one is an error, and not
	// a byte above Max is written. 0: any number.
	Max int64
	// Unproven allows bytes to be written before they are verified, where the
	// node is too old to prove them one by one: they are all verified at the end.
	// Without it, Get from such a node fails with ErrNoSlices above 1 MiB.
	Unproven bool
}

// ErrTooLong: the object has more bytes than GetOptions.Max.
var ErrTooLong = errors.New("the object is longer than expected")

// Get writes the object's bytes to w, behind those of Have, and returns how many
// it wrote. Each is verified before it is written, 16 KiB at a time, so that what
// was written before an error is the object's as well, and can be given to the
// next Get as Have; only with Unproven it may not be. Where the connection breaks
// on the way, Get goes on from there.
func (c *Client) Get(ctx context.Context, addr b3.Addr, w io.Writer, o GetOptions) (int64, error) {
	n, err := c.getProven(ctx, addr, w, o)
	if errors.Is(err, ErrNoSlices) && n == 0 {
		return c.getPlain(ctx, addr, w, o)
	}
	return n, err
}

func (c *Client) getProven(ctx context.Context, addr b3.Addr, w io.Writer, o GetOptions) (int64, error) {
	var at int64
	if o.Have != nil && o.Have.Size() > 0 {
		at = o.Have.Size()
		if o.Max > 0 && at > o.Max {
			return 0, ErrTooLong
		}
		whole, err := c.verifyHave(ctx, addr, o.Have)
		if err != nil || whole {
			return 0, err
		}
	}
	r, err := c.open(ctx, addr, at, math.MaxInt64, o.Max)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	if o.Progress != nil {
		w = &progress{w: w, r: r, o: &o, done: at, size: -1}
	}
	return r.WriteTo(w)
}

// progress tells of what is written.
type progress struct {
	w          io.Writer
	r          *Reader
	o          *GetOptions
	done, size int64
}

func (p *progress) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.done += int64(n)
	if size, _ := p.r.Size(); size >= 0 {
		p.size = size
	}
	p.o.Progress(p.done, p.size)
	return n, err
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
