// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package storagetest is the suite of svc-storage: what the service promises,
// run over any pair of stores. Storage runs it over memory; whoever wires real
// drivers runs it over those.
package storagetest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"testing"
	"time"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage"
)

// Env is what the suite runs on. Stores are fresh for each test; the one who
// opened them closes them.
type Env struct {
	KV      store.KV
	Objects store.Objects
	// Admit makes what the wall would hand to a handler: the caller's test
	// code does it, since nothing else may.
	Admit func(c *macronode.Call, t *macronode.Tenant, replyBytes int64) *macronode.Admitted
}

// Driver calls a service's routes as the wall does.
type Driver struct {
	Service *storage.Service
	Env     Env
	t       testing.TB
	routes  map[macronode.Op]macronode.Route
}

// NewDriver starts a service over e. Serve is not running.
func NewDriver(t testing.TB, e Env, change ...func(*storage.Config)) *Driver {
	t.Helper()
	c := storage.Config{KV: e.KV, Objects: e.Objects, Idem: idem.New(idem.Config{KV: e.KV})}
	for _, f := range change {
		f(&c)
	}
	s, err := storage.New(c)
	if err != nil {
		t.Fatal(err)
	}
	d := &Driver{Service: s, Env: e, t: t, routes: make(map[macronode.Op]macronode.Route)}
	for _, r := range s.Routes() {
		d.routes[r.Op] = r
	}
	return d
}

// Serve runs the service until the returned function is called, or the test
// ends.
func (d *Driver) Serve() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Service.Serve(ctx) }()
	var result error
	stopped := false
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-done
		}
		return result
	}
	d.t.Cleanup(func() { _ = stop() })
	return stop
}

// Request is a call to make.
type Request struct {
	Tenant *macronode.Tenant
	Op     macronode.Op
	Addr   string
	Query  string
	Header macronode.Header
	Body   []byte
	Reader io.Reader // instead of Body; then Length says what was announced
	Length int64
	Key    string
	Budget int64 // 0: none
}

// Answer is a reply, received whole.
type Answer struct {
	Status int
	Type   string
	Header macronode.Header
	Body   []byte
	Length int64
}

// Put reads the answer to a put.
func (a *Answer) Put(t testing.TB) (p storage.Put) {
	t.Helper()
	if err := json.Unmarshal(a.Body, &p); err != nil {
		t.Fatalf("answer %q: %v", a.Body, err)
	}
	return p
}

// Do makes the call. What a reply promises of its length is checked.
func (d *Driver) Do(r Request) (*Answer, error) {
	reply, err := d.Reply(r)
	if err != nil {
		return nil, err
	}
	a := &Answer{Status: reply.Status, Type: reply.ContentType, Header: reply.Header, Body: reply.Body, Length: reply.BodyLength()}
	if reply.Stream == nil {
		return a, nil
	}
	var buf bytes.Buffer
	n, err := reply.Stream.WriteTo(&buf)
	if cerr := reply.Stream.Close(); cerr != nil {
		d.t.Errorf("closing the stream: %v", cerr)
	}
	if n != int64(buf.Len()) {
		d.t.Errorf("WriteTo wrote %d bytes and says %d", buf.Len(), n)
	}
	if err == nil && n != reply.Length {
		d.t.Errorf("the reply has %d bytes and announced %d", n, reply.Length)
	}
	a.Body = buf.Bytes()
	return a, err
}

// Reply makes the call and leaves the reply as it is.
func (d *Driver) Reply(r Request) (*macronode.Reply, error) {
	d.t.Helper()
	return d.Prepare(r).Do()
}

// Prepared is a call that can be made many times.
type Prepared struct {
	Call    *macronode.Call
	a       *macronode.Admitted
	handler macronode.Handler
	body    []byte
	reader  *bytes.Reader // over body, if there is one
}

// Prepare builds what the wall would hand to the handler.
func (d *Driver) Prepare(r Request) *Prepared {
	d.t.Helper()
	route, ok := d.routes[r.Op]
	if !ok {
		d.t.Fatalf("no route %q", r.Op)
	}
	c := &macronode.Call{
		Method: route.Method, Query: r.Query, Header: r.Header, Length: int64(len(r.Body)),
		IdempotencyKey: r.Key, CorrID: "corr-1", Received: time.Now(), Binding: &route.Binding,
	}
	p := &Prepared{Call: c, handler: route.Handler, body: r.Body}
	switch {
	case r.Reader != nil:
		c.Body, c.Length = r.Reader, r.Length
	case r.Body != nil:
		p.reader = bytes.NewReader(nil)
		c.Body = p.reader
	}
	if r.Addr != "" {
		c.AddParam("addr", r.Addr)
	}
	budget := macronode.NoLimit
	if r.Budget != 0 {
		budget = r.Budget
	}
	p.a = d.Env.Admit(c, r.Tenant, budget)
	return p
}

// Do makes the call.
func (p *Prepared) Do() (*macronode.Reply, error) {
	if p.reader != nil {
		p.reader.Reset(p.body)
	}
	return p.handler(context.Background(), p.a)
}

// MustPut stores body and returns its address.
func (d *Driver) MustPut(tenant *macronode.Tenant, body []byte) string {
	d.t.Helper()
	a, err := d.Do(Request{Tenant: tenant, Op: "object.post", Body: body})
	if err != nil {
		d.t.Fatalf("post: %v", err)
	}
	return a.Put(d.t).Addr
}

// Usage returns what the tenant stores.
func (d *Driver) Usage(tenant *macronode.Tenant) (bytes, objects int64) {
	d.t.Helper()
	bytes, objects, err := d.Service.Usage(context.Background(), tenant.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	return bytes, objects
}

// Stored counts the objects whose bytes are in the store, wanted or not.
func (d *Driver) Stored() (n int) {
	d.t.Helper()
	err := store.Walk(context.Background(), d.Env.Objects, func(store.Loc, b3.Addr, int64) bool { n++; return true })
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// Index checks that what the service keeps beside its references is exactly
// what they need: an owner for the bytes of each, and nothing waiting.
func (d *Driver) Index() {
	d.t.Helper()
	count := map[string]int{}
	err := d.Env.KV.View(context.Background(), func(r store.Reader) error {
		return r.Scan([]byte("object/"), []byte("object0"), func(key, _ []byte) bool {
			kind, _, _ := bytes.Cut(key[len("object/"):], []byte("/"))
			count[string(kind)]++
			return true
		})
	})
	if err != nil {
		d.t.Fatal(err)
	}
	if count["r"] != count["l"] || count["free"] != 0 || count["r"] != d.Stored() {
		d.t.Fatalf("kept are %v, for %d stored objects", count, d.Stored())
	}
}

// Addr is the text of b's address.
func Addr(b []byte) string { return b3.Sum(b).String() }

// Tenant returns an unlimited tenant; n tells tenants apart.
func Tenant(n byte) *macronode.Tenant {
	return &macronode.Tenant{ID: macronode.TenantID{0: 1, 15: n}, Label: "t", Quota: macronode.UnlimitedQuota()}
}

// Bytes returns n bytes that do not repeat and depend on seed.
func Bytes(n int, seed uint64) []byte {
	h := blake3.New(32, nil)
	h.Write([]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	b := make([]byte, n)
	if _, err := io.ReadFull(h.XOF(), b); err != nil {
		panic(err)
	}
	return b
}

// want fails the test unless err is of kind k.
func want(t testing.TB, err error, k macronode.Kind) {
	t.Helper()
	if err == nil || macronode.KindOf(err) != k {
		t.Fatalf("error %v, want %s", err, k)
	}
}
