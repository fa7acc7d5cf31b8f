// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
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
// and after it checked that the node's address is that of the bytes sent.
func (c *Client) Put(ctx context.Context, r io.Reader, o PutOptions) (Put, error) {
	sent := &hashingReader{r: r, hash: b3.NewHasher(nil)}
	req := Request{Method: "POST", Path: "/o", Header: http.Header{}, Body: sent, Length: o.Length}
	if seeker, ok := r.(io.Seeker); ok {
		if at, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			end, err := seeker.Seek(0, io.SeekEnd)
			if err != nil {
				return Put{}, err
			}
			if _, err := seeker.Seek(at, io.SeekStart); err != nil {
				return Put{}, err
			}
			req.Length, req.Repeat = end-at, true
			req.Body = &seekingHasher{hashingReader: sent, seeker: seeker}
		}
	}
	if req.Length == 0 && req.Repeat {
		req.Body = nil // empty, and known to be
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
	defer resp.Body.Close()
	var out Put
	if err := decode(resp.Body, &out); err != nil {
		return Put{}, err
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
	return Stat{Addr: addr, Size: resp.ContentLength, ContentType: resp.Header.Get("Content-Type")}, nil
}

// GetOptions of Get.
type GetOptions struct {
	// Have holds the object's first bytes from an earlier, broken Get. They are
	// read and hashed, and only the rest is fetched; nil: everything is.
	Have io.Reader
	// Progress, where set, hears of the bytes that arrived and of the whole size.
	Progress func(done, size int64)
}

// Get writes the object's bytes to w and returns how many it wrote. Only a nil
// error says that they are the object's: what was written before an error is
// not verified to the end and must be dropped or given to the next Get as Have.
func (c *Client) Get(ctx context.Context, addr b3.Addr, w io.Writer, o GetOptions) (int64, error) {
	hash := b3.NewHasher(nil)
	var have int64
	if o.Have != nil {
		n, err := io.Copy(hash, o.Have)
		if err != nil {
			return 0, err
		}
		have = n
	}
	req := Request{Method: "GET", Path: "/o/" + addr.String(), Header: http.Header{}}
	if have > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(have, 10)+"-")
		req.Header.Set("If-Range", `"`+addr.String()+`"`)
	}
	resp, err := c.Do(ctx, req)
	var refused *Error
	if errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable {
		// Nothing is left to fetch: the bytes at hand are all, or are wrong.
		return 0, finish(hash, addr)
	}
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if have > 0 && resp.StatusCode != http.StatusPartialContent {
		return 0, fmt.Errorf("the node sent status %d instead of the rest", resp.StatusCode)
	}
	size := resp.ContentLength
	if size >= 0 {
		size += have
	}
	out := io.MultiWriter(hash, w)
	if o.Progress != nil {
		out = io.MultiWriter(hash, w, &progress{o.Progress, have, size})
	}
	n, err := io.Copy(out, resp.Body)
	if err != nil {
		return n, err
	}
	return n, finish(hash, addr)
}

func finish(hash *b3.Hasher, addr b3.Addr) error {
	got, err := hash.Sum()
	if err == nil && got != addr {
		err = fmt.Errorf("got %s for %s: %w", got, addr, ErrIntegrity)
	}
	return err
}

type progress struct {
	f          func(done, size int64)
	done, size int64
}

func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	p.f(p.done, p.size)
	return len(b), nil
}

// Delete drops the tenant's reference. A missing object is an *Error with 404.
func (c *Client) Delete(ctx context.Context, addr b3.Addr) error {
	return c.JSON(ctx, "DELETE", "/o/"+addr.String(), "", nil, nil)
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
