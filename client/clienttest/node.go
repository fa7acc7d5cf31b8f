// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package clienttest is a node in memory, for the tests of programs that use
// package client. It keeps objects, proves ranges of them as a node does, speaks
// HTTP and OAP/1, and fails in the ways that a program must live with:
//
//	node := clienttest.Start(clienttest.Options{})
//	defer node.Close()
//	c, err := node.Dial(clienttest.OAP, client.Options{})
//	node.Inject(clienttest.Fault{Op: "object.get", Times: 2, Effect: clienttest.Refuse(macronode.Overload, 0)})
//
// It has one tenant, no policy and no quota, keeps nothing on disk, and checks
// capabilities only where Options say so. What it does not know it answers with
// 501. Conform, and Conform of client/mailbox/mailboxtest, are the suites that hold it, and a real node, to
// the same.
package clienttest

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/internal/oapserve"
	"github.com/rustyonions/macronode/client/internal/optable"
	"github.com/rustyonions/macronode/client/internal/postbox"
)

// Wire is a protocol of the node.
type Wire string

// The wires.
const (
	HTTP Wire = "http"
	OAP  Wire = "oap"
)

// Options of Start.
type Options struct {
	// Check refuses calls without a capability of Node.Token that allows them, as
	// a node does. Without it capabilities are ignored.
	Check bool
	// Now is the node's clock, for capabilities and times of objects; nil: time.Now.
	Now func() time.Time
}

// Call is one that the node was asked, refused ones and retries included.
type Call struct {
	Wire Wire
	// Op is the operation, as faults name it; "" where the node knows none.
	Op     macronode.Op
	Method string
	Path   string // with its query
	Header http.Header
}

// Node is a node in memory. Its methods are safe for concurrent use.
type Node struct {
	o      Options
	table  *optable.Table
	key    *capability.Key
	tenant macronode.TenantID
	http   *http.Server
	oap    *oapserve.Server
	addrs  map[Wire]string
	ended  sync.WaitGroup

	mu      sync.Mutex
	objects map[b3.Addr]*object
	first   map[string]recorded // answers by Idempotency-Key
	faults  []*Fault
	calls   []Call
	conns   map[net.Conn]struct{} // of HTTP
	// followers are subscriptions by topic and id.
	followers map[string]*follower
	box       *postbox.Box // has its own lock
}

// Start starts a node on two free ports of this machine. It panics where there
// are none, as net/http/httptest does.
func Start(o Options) *Node {
	if o.Now == nil {
		o.Now = time.Now
	}
	n := &Node{o: o, table: optable.New(nil), tenant: macronode.TenantID{15: 9}, addrs: map[Wire]string{},
		objects: map[b3.Addr]*object{}, first: map[string]recorded{}, conns: map[net.Conn]struct{}{},
		followers: map[string]*follower{}, box: postbox.New(o.Now)}
	var secret [32]byte
	rand.Read(secret[:])
	n.key = capability.NewKey(&secret)
	web, frames := n.listen(HTTP), n.listen(OAP)
	n.http = &http.Server{Handler: n.handler(HTTP), ReadHeaderTimeout: time.Minute, ErrorLog: quiet(), ConnState: n.heed}
	n.oap = oapserve.New(oapserve.Config{Handler: n.handler(OAP), Table: n.table})
	n.ended.Go(func() { _ = n.http.Serve(web) })
	n.ended.Go(func() { n.oap.Serve(frames) })
	return n
}

func (n *Node) listen(w Wire) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(fmt.Sprintf("clienttest: %v", err))
	}
	n.addrs[w] = string(w) + "://" + ln.Addr().String()
	return ln
}

// URL is the node's address over a wire, for client.Dial.
func (n *Node) URL(w Wire) string { return n.addrs[w] }

// Dial is client.Dial of the node over a wire, with a capability that allows
// everything where o has none and the node checks.
func (n *Node) Dial(w Wire, o client.Options) (*client.Client, error) {
	if o.Token == "" && n.o.Check {
		var err error
		if o.Token, err = n.Token(); err != nil {
			return nil, err
		}
	}
	return client.Dial(n.URL(w), o)
}

// Token mints a capability of the node's tenant.
func (n *Node) Token(caveats ...capability.Caveat) (string, error) {
	var nonce [16]byte
	rand.Read(nonce[:])
	tok, err := capability.Mint(n.key, n.tenant, "clienttest", nonce, caveats...)
	if err != nil {
		return "", err
	}
	return tok.Text(), nil
}

// Drain says on all connections of OAP/1 that no more calls are taken there, as a
// node does before it leaves; clients make new ones.
func (n *Node) Drain() { n.oap.GoAway() }

// Break breaks all connections off, in the middle of whatever they do.
func (n *Node) Break() {
	n.oap.Break()
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.Close()
	}
}

// heed keeps the connections of HTTP.
func (n *Node) heed(c net.Conn, s http.ConnState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch s {
	case http.StateNew:
		n.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(n.conns, c)
	}
}

// Close ends the node and waits until it has.
func (n *Node) Close() {
	_ = n.http.Close()
	n.oap.Close()
	n.ended.Wait()
}

// Calls returns the calls so far.
func (n *Node) Calls() []Call {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Call(nil), n.calls...)
}

// handler answers what comes over w.
func (n *Node) handler(w Wire) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		x := &exchange{n: n, w: rw, r: r, corr: rand.Text()}
		route, args, err := n.table.Lookup(r.Method, r.URL.EscapedPath(), r.URL.RawQuery)
		if err == nil {
			x.op, x.args = route.Op, args
		}
		x.fault = n.note(Call{Wire: w, Op: x.op, Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header.Clone()})
		x.serve()
	})
}

// note remembers a call and returns the fault that meets it.
func (n *Node) note(c Call) *Fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, c)
	for _, f := range n.faults {
		if f.meets(c.Op) {
			return f
		}
	}
	return nil
}

// access is what a call needs of a capability; none: it is for everybody.
func (x *exchange) access() (a capability.Access, none bool) {
	verbs := map[macronode.Op]macronode.Action{
		"object.post": "object:put", "object.put": "object:put", "object.get": "object:get", "object.stat": "object:get",
		"object.delete": "object:delete", "object.list": "object:list",
	}
	a = capability.Access{Action: verbs[x.op], Resource: macronode.Resource{Kind: macronode.ObjectResource, ID: x.arg("addr")},
		Now: x.n.o.Now().Unix(), Method: x.r.Method, Service: "svc-storage"}
	if isMail(x.op) {
		a.Action, a.Service = cmp.Or(mailActions[x.op], "mailbox:admin"), "svc-mailbox"
		a.Resource = macronode.Resource{Kind: macronode.TopicResource, ID: x.arg("topic")}
	}
	return a, a.Action == ""
}

// judge checks the capability of a call.
func (x *exchange) judge() error {
	a, none := x.access()
	if !x.n.o.Check || none {
		return nil
	}
	text, ok := strings.CutPrefix(x.r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return macronode.Errorf(macronode.Unauthenticated, "")
	}
	tok, err := capability.Parse(text)
	if err != nil {
		return err
	}
	var discharges []*capability.Token
	for text := range strings.SplitSeq(x.r.Header.Get("X-Ron-Discharge"), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		d, err := capability.Parse(text)
		if err != nil {
			return err
		}
		discharges = append(discharges, d)
	}
	v, err := tok.Verify(x.n.key, discharges...)
	if err != nil {
		return err
	}
	return v.Check(&a)
}

// Wait returns once the node was asked at least n calls, or ctx ended.
func (n *Node) Wait(ctx context.Context, calls int) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(n.Calls()) < calls {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
