// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package clienttest

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// Limits of the node in memory.
const (
	// MaxObjectBytes is the most that an object may have.
	MaxObjectBytes = 256 << 20
	defaultPage    = 100
	maxPage        = 1000
)

// object is one that the node keeps. Its bytes do not change.
type object struct {
	addr    b3.Addr
	data    []byte
	tree    []byte
	mime    string
	created time.Time
}

// source is an object with its proofs, whose byte at bad (-1: none) is another
// than the proof's.
type source struct {
	*b3.Verifier
	r   *bytes.Reader
	bad int64
}

func (s source) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	if at := s.bad - off; s.bad >= off && at < int64(n) {
		p[at] ^= 1
	}
	return n, err
}

func (o *object) source(bad int64) source {
	return source{b3.NewVerifier(o.addr, int64(len(o.data)), bytes.NewReader(o.tree)), bytes.NewReader(o.data), bad}
}

// Put stores an object, as a call would.
func (n *Node) Put(data []byte, contentType string) b3.Addr {
	o, _ := n.store(data, contentType)
	return o.addr
}

// Object returns an object's bytes.
func (n *Node) Object(addr b3.Addr) (data []byte, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	o, ok := n.objects[addr]
	if !ok {
		return nil, false
	}
	return slices.Clone(o.data), true
}

func (n *Node) store(data []byte, contentType string) (o *object, existed bool) {
	var tree bytes.Buffer
	h := b3.NewHasher(&tree)
	h.Write(data)
	addr, err := h.Sum()
	if err != nil {
		panic(err) // a buffer takes everything
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if o := n.objects[addr]; o != nil {
		return o, true
	}
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	o = &object{addr, slices.Clone(data), tree.Bytes(), contentType, n.o.Now()}
	n.objects[addr] = o
	return o, false
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// recorded is an answer that a repeated call gets again.
type recorded struct {
	of     string // what was asked for
	status int
	header http.Header
	body   []byte
}

// exchange is a call with its answer.
type exchange struct {
	n     *Node
	w     http.ResponseWriter
	r     *http.Request
	op    macronode.Op
	args  []macronode.Arg
	fault *Fault
	corr  string
}

func (x *exchange) arg(name string) string {
	for _, a := range x.args {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// corrupt is the byte that is to be another; -1: none.
func (x *exchange) corrupt() int64 {
	if x.fault == nil {
		return -1
	}
	return x.fault.Effect.corrupt
}

func (x *exchange) serve() {
	x.w.Header().Set("X-Corr-Id", x.corr)
	x.w.Header().Set("Date", x.n.o.Now().UTC().Format(http.TimeFormat))
	if f := x.fault; f != nil {
		if d := f.Effect.delay; d > 0 {
			t := time.NewTimer(d)
			defer t.Stop()
			select {
			case <-t.C:
			case <-x.r.Context().Done():
			}
		}
		if f.Effect.refuse {
			e := macronode.Errorf(f.Effect.kind, "injected")
			e.RetryAfter = f.Effect.retryAfter
			x.refuse(e)
			return
		}
		if after := f.Effect.breakAfter; after >= 0 {
			b := &breaking{ResponseWriter: x.w, left: after}
			x.w = b
			defer b.off()
		}
	}
	if err := x.judge(); err != nil {
		x.refuse(err)
		return
	}
	if err := x.answer(); err != nil {
		x.refuse(err)
	}
}

func (x *exchange) answer() error {
	switch x.op {
	case "healthz":
		return x.document(200, map[string]bool{"ok": true})
	case "readyz":
		return x.document(200, map[string]any{"ready": true, "checks": []any{}, "missing": []any{}})
	case "object.post", "object.put":
		return x.put()
	case "object.delete":
		return x.remove()
	case "object.list":
		return x.list()
	case "object.get", "object.stat":
		return x.get()
	case "":
		return macronode.Errorf(macronode.NotFound, "no such route")
	}
	if isMail(x.op) {
		return x.mail()
	}
	return macronode.Errorf(macronode.Unimplemented, "the node in memory has no %s", x.op)
}

// refuse answers with a problem.
func (x *exchange) refuse(err error) {
	e := macronode.AsError(err)
	p := e.Problem(x.corr)
	h := x.w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Del("Content-Length")
	if p.RetryAfterMS > 0 {
		h.Set("Retry-After", strconv.FormatInt((p.RetryAfterMS+999)/1000, 10))
	}
	text, _ := json.Marshal(p)
	x.w.WriteHeader(p.Status)
	if x.r.Method != "HEAD" {
		_, _ = x.w.Write(text)
	}
}

func (x *exchange) document(status int, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	x.reply(recorded{status: status, header: http.Header{"Content-Type": {"application/json"}}, body: append(text, '\n')})
	return nil
}

func (x *exchange) reply(a recorded) {
	for k, v := range a.header {
		x.w.Header()[k] = v
	}
	if a.status != http.StatusNoContent {
		x.w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	x.w.WriteHeader(a.status)
	if len(a.body) > 0 {
		_, _ = x.w.Write(a.body)
	}
}

// once answers a write, and a repeated one under the same key with the first
// answer.
func (x *exchange) once(what string, do func() (recorded, error)) error {
	key := x.r.Header.Get("Idempotency-Key")
	id := string(x.op) + " " + key
	if key != "" {
		x.n.mu.Lock()
		before, ok := x.n.first[id]
		x.n.mu.Unlock()
		switch {
		case ok && before.of != what:
			return macronode.Errorf(macronode.IdempotencyMismatch, "")
		case ok:
			x.w.Header().Set("Idempotency-Replayed", "true")
			x.reply(before)
			return nil
		}
	}
	a, err := do()
	if err != nil {
		return err
	}
	if a.of = what; key != "" {
		x.n.mu.Lock()
		x.n.first[id] = a
		x.n.mu.Unlock()
	}
	x.reply(a)
	return nil
}

func (x *exchange) put() error {
	var want b3.Addr
	if x.op == "object.put" {
		var err error
		if want, err = b3.Parse(x.arg("addr")); err != nil {
			return macronode.Errorf(macronode.Malformed, "no address")
		}
	}
	data, err := io.ReadAll(io.LimitReader(x.r.Body, MaxObjectBytes+1))
	switch {
	case err != nil:
		return macronode.Wrap(macronode.ClientGone, "", err)
	case len(data) > MaxObjectBytes:
		return macronode.Errorf(macronode.TooLarge, "")
	}
	addr := b3.Sum(data)
	if x.op == "object.put" && addr != want {
		return macronode.Errorf(macronode.BadDigest, "")
	}
	return x.once(addr.String(), func() (recorded, error) {
		o, existed := x.n.store(data, x.r.Header.Get("Content-Type"))
		status := http.StatusCreated
		if existed {
			status = http.StatusOK
		}
		text, err := json.Marshal(map[string]any{"addr": o.addr, "size": len(data), "existed": existed})
		return recorded{status: status, body: append(text, '\n'),
			header: http.Header{"Content-Type": {"application/json"}, "Location": {"/o/" + addr.String()}}}, err
	})
}

func (x *exchange) remove() error {
	addr, err := b3.Parse(x.arg("addr"))
	if err != nil {
		return macronode.Errorf(macronode.Malformed, "no address")
	}
	return x.once(addr.String(), func() (recorded, error) {
		x.n.mu.Lock()
		defer x.n.mu.Unlock()
		if x.n.objects[addr] == nil {
			return recorded{}, macronode.Errorf(macronode.NotFound, "")
		}
		delete(x.n.objects, addr)
		return recorded{status: http.StatusNoContent}, nil
	})
}

// entry is an object of a list.
type entry struct {
	Addr        string `json:"addr"`
	Size        int    `json:"size"`
	ContentType string `json:"content_type"`
	CreatedMS   int64  `json:"created_ms"`
}

func (x *exchange) list() error {
	limit := defaultPage
	if text := x.arg("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxPage {
			return macronode.Errorf(macronode.Malformed, "limit is 1 to %d", maxPage)
		}
	}
	for _, a := range x.args {
		if a.Name != "prefix" && a.Name != "cursor" && a.Name != "limit" {
			return macronode.Errorf(macronode.Malformed, "unknown argument %.40q", a.Name)
		}
	}
	page := struct {
		Objects []entry `json:"objects"`
		Cursor  string  `json:"cursor,omitempty"`
	}{Objects: []entry{}}
	x.n.mu.Lock()
	for addr, o := range x.n.objects {
		if text := addr.String(); strings.HasPrefix(text, x.arg("prefix")) && text > x.arg("cursor") {
			page.Objects = append(page.Objects, entry{text, len(o.data), o.mime, o.created.UnixMilli()})
		}
	}
	x.n.mu.Unlock()
	slices.SortFunc(page.Objects, func(a, b entry) int { return strings.Compare(a.Addr, b.Addr) })
	if len(page.Objects) > limit {
		page.Objects = page.Objects[:limit]
		page.Cursor = page.Objects[limit-1].Addr
	}
	return x.document(200, page)
}

func (x *exchange) get() error {
	addr, err := b3.Parse(x.arg("addr"))
	if err != nil {
		return macronode.Errorf(macronode.Malformed, "no address")
	}
	x.n.mu.Lock()
	o := x.n.objects[addr]
	x.n.mu.Unlock()
	if o == nil {
		return macronode.Errorf(macronode.NotFound, "")
	}
	h := x.w.Header()
	h.Set("Content-Type", o.mime)
	h.Set("Etag", `"`+addr.String()+`"`)
	h.Set("Cache-Control", "private, immutable")
	if group, ok := sliceOf(x.r.Header.Get("Accept")); ok && x.op == "object.get" {
		return x.slice(o, group)
	}
	content := io.NewSectionReader(o.source(x.corrupt()), 0, int64(len(o.data)))
	r := x.r
	if first, _, ok := single(r.Header.Get("Range"), int64(len(o.data))); !ok || first >= int64(len(o.data)) && first > 0 {
		h.Del("Content-Type")
		h.Set("Content-Range", "bytes */"+strconv.Itoa(len(o.data)))
		return macronode.Errorf(macronode.RangeNotSatisfiable, "")
	}
	http.ServeContent(x.w, r, "", time.Time{}, content)
	return nil
}

// sliceOf reads which groups a slice is asked for in.
func sliceOf(accept string) (group int, ok bool) {
	text, ok := strings.CutPrefix(accept, b3.SliceMediaType+";group=")
	if !ok || text != "0" && text != "4" {
		return 0, false
	}
	group, _ = strconv.Atoi(text)
	return group, true
}

// single reads a Range of one; without any it is all. Several are ServeContent's.
func single(text string, size int64) (first, n int64, ok bool) {
	spec, is := strings.CutPrefix(text, "bytes=")
	if !is || strings.Contains(spec, ",") {
		return 0, math.MaxInt64, true
	}
	from, to, dash := strings.Cut(spec, "-")
	if !dash {
		return 0, math.MaxInt64, true
	}
	if from == "" {
		n, err := strconv.ParseInt(to, 10, 64)
		return max(size-n, 0), math.MaxInt64, err == nil && n > 0
	}
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return 0, math.MaxInt64, true
	}
	if to == "" {
		return first, math.MaxInt64, true
	}
	last, err := strconv.ParseInt(to, 10, 64)
	if err != nil || last < first {
		return 0, math.MaxInt64, true
	}
	return first, last - first + 1, true
}

func (x *exchange) slice(o *object, group int) error {
	size := int64(len(o.data))
	first, n, ok := single(x.r.Header.Get("Range"), size)
	if !ok || first >= size && first > 0 {
		return macronode.Errorf(macronode.RangeNotSatisfiable, "")
	}
	h := x.w.Header()
	h.Set("Content-Type", b3.SliceMediaType+";group="+strconv.Itoa(group))
	h.Set("Content-Length", strconv.FormatInt(b3.SliceBytes(size, group, first, n), 10))
	status := http.StatusOK
	if x.r.Header.Get("Range") != "" {
		status = http.StatusPartialContent
	}
	x.w.WriteHeader(status)
	_, _ = b3.WriteSlice(x.w, o.source(x.corrupt()), group, first, n)
	return nil
}
