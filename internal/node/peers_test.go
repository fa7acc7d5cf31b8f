// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/node/nodekey"
	"github.com/rustyonions/macronode/internal/provision"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/overlay"
	"github.com/rustyonions/macronode/internal/svc/overlay/gossip"
	"github.com/rustyonions/macronode/internal/svc/overlay/link"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

// relay passes connections on to a node's OAP/1 port, until it is cut: then bytes
// are swallowed both ways and nobody is told.
type relay struct {
	net.Listener
	mu   sync.Mutex
	to   string
	cut  bool
	open []net.Conn
}

func newRelay(tb testing.TB, to string) *relay {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	r := &relay{Listener: ln, to: to}
	tb.Cleanup(func() {
		ln.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range r.open {
			c.Close()
		}
	})
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", r.to)
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			r.open = append(r.open, in, out)
			r.mu.Unlock()
			go r.pass(in, out)
			go r.pass(out, in)
		}
	}()
	return r
}

// pass copies until the link is cut; what was begun before stays silent for good.
func (r *relay) pass(to, from net.Conn) {
	b := make([]byte, 32<<10)
	dead := false
	for {
		n, err := from.Read(b)
		if err != nil {
			if !dead {
				to.Close()
			}
			return
		}
		r.mu.Lock()
		dead = dead || r.cut
		r.mu.Unlock()
		if dead {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			from.Close()
			return
		}
	}
}

func (r *relay) setCut(on bool) {
	r.mu.Lock()
	r.cut = on
	r.mu.Unlock()
}

// siblings are nodes with the same tenants and minting keys: copies of one data
// directory, each with a node key of its own.
func siblings(tb testing.TB, count int) (nodes []*Node, opts []Options) {
	tb.Helper()
	first := production(tb, provision.TLSSelfSigned)
	for i := range count {
		o := first
		if i > 0 {
			o.Dir = filepath.Join(tb.TempDir(), "copy")
			if err := os.CopyFS(o.Dir, os.DirFS(first.Dir)); err != nil {
				tb.Fatal(err)
			}
			err := filepath.WalkDir(o.Dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return errors.Join(err, os.Chmod(path, 0o700))
				}
				return os.Chmod(path, 0o600)
			})
			if err != nil {
				tb.Fatal(err)
			}
			o.Bundle, o.Stderr = filepath.Join(o.Dir, filepath.Base(first.Bundle)), &logBuffer{}
		}
		opts = append(opts, o)
	}
	for i := range opts {
		n := begin(tb, opts[i])
		if i > 0 {
			if _, _, _, err := n.keys.Rotate(tb.Context(), kms.Spec{Name: kms.NodeKey}); err != nil {
				tb.Fatal(err)
			}
			end(tb, n)
			n = begin(tb, opts[i])
		}
		nodes = append(nodes, n)
	}
	return nodes, opts
}

func (n *Node) oapAddr() string { return n.oapSet.Addrs()[endpointOAP].String() }

// name makes a node's peers those given, by address and node id, while it runs.
func (n *Node) name(tb testing.TB, o Options, peers ...overlay.Peer) {
	tb.Helper()
	text := readBundle(tb, o)
	if i := strings.Index(text, "peers = ["); i >= 0 {
		text = text[:i] + text[i+strings.IndexByte(text[i:], '\n')+1:]
	}
	var list []string
	for _, p := range peers {
		list = append(list, fmt.Sprintf("{ addr = %q, node_id = %q }", p.Addr, p.NodeID))
	}
	write(tb, o.Bundle, strings.Replace(text, "[oap]\n", "[oap]\npeers = ["+strings.Join(list, ", ")+"]\n", 1))
	sign(tb, o, true)
	if _, err := n.Reload(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

func (n *Node) asPeer() overlay.Peer { return overlay.Peer{Addr: n.oapAddr(), NodeID: n.nodeID} }

func (n *Node) awaitPeers(tb testing.TB, count int) {
	tb.Helper()
	poll(tb, fmt.Sprintf("%d sessions", count), func() bool { return len(n.overlay.Active()) == count })
}

// works reports whether a tenant's capability is good at a node.
func (n *Node) works(tb testing.TB, token string) bool {
	tb.Helper()
	c, err := client.Dial(n.endpoints().HTTP, client.Options{Token: token, InsecureTLS: true, Retries: -1})
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	_, err = c.Document(tb.Context(), "/v1/objects")
	if err != nil && !strings.Contains(err.Error(), "revoked") {
		tb.Fatal(err)
	}
	return err == nil
}

// A revocation made at one node holds at all that are connected, in a triangle,
// along a line, and at one that was away.
func TestRevocationsReachPeers(t *testing.T) {
	nodes, opts := siblings(t, 3)
	a, b, c := nodes[0], nodes[1], nodes[2]
	revokeAt := func(n *Node, tok *capability.Token, where ...*Node) {
		t.Helper()
		for _, w := range nodes {
			if !w.works(t, tok.Text()) {
				t.Fatal("the capability is no good to begin with")
			}
		}
		start := time.Now()
		if err := n.access.Revoke(t.Context(), tok.LeafID(), "node"); err != nil {
			t.Fatal(err)
		}
		for _, w := range where {
			poll(t, "the revocation", func() bool { return !w.works(t, tok.Text()) })
		}
		t.Logf("refused everywhere after %v", time.Since(start))
	}

	a.name(t, opts[0], b.asPeer(), c.asPeer())
	b.name(t, opts[1], a.asPeer(), c.asPeer())
	c.name(t, opts[2], a.asPeer(), b.asPeer())
	for _, n := range nodes {
		n.awaitPeers(t, 2)
	}
	revokeAt(a, tokenOf(t, a, 0), b, c)

	// A line: a - b - c, with a relay between b and c.
	r := newRelay(t, c.oapAddr())
	b.name(t, opts[1])
	a.name(t, opts[0], b.asPeer())
	// c dials nobody: nothing listens there. It is told so while b takes no session
	// of it, or one that it dialled would go past the relay.
	c.name(t, opts[2], overlay.Peer{Addr: "127.0.0.1:1", NodeID: b.nodeID})
	b.name(t, opts[1], a.asPeer(), overlay.Peer{Addr: r.Addr().String(), NodeID: c.nodeID})
	a.awaitPeers(t, 1)
	b.awaitPeers(t, 2)
	one := tokenOf(t, a, 1)
	revokeAt(a, one, b, c)

	// c is away, and learns what it missed when it is back.
	r.setCut(true)
	poll(t, "the cut", func() bool { return len(b.overlay.Active()) == 1 && len(c.overlay.Active()) == 0 })
	two := tokenOf(t, a, 2)
	revokeAt(a, two, b)
	if !c.works(t, two.Text()) {
		t.Error("the cut link carries")
	}
	r.setCut(false)
	start := time.Now()
	poll(t, "what was missed", func() bool { return !c.works(t, two.Text()) })
	t.Logf("after the link was back: %v", time.Since(start))
	end(t, c)
	c = begin(t, opts[2])
	if c.works(t, two.Text()) || c.works(t, one.Text()) {
		t.Error("a revocation of a peer does not outlast a restart")
	}
}

// tokenOf narrows the tenant's capability so that each i has an id of its own.
func tokenOf(tb testing.TB, n *Node, i int) *capability.Token {
	tb.Helper()
	tok, err := capability.Parse(n.token(tb, datadir.TenantCapName))
	if err != nil {
		tb.Fatal(err)
	}
	if tok, err = tok.Attenuate(capability.ExpiresAt(time.Now().Add(time.Hour).Unix() + int64(i))); err != nil {
		tb.Fatal(err)
	}
	return tok
}

// Who has another key than the one that is named is no peer, on either side.
func TestImpostor(t *testing.T) {
	nodes, opts := siblings(t, 2)
	a, b := nodes[0], nodes[1]
	stranger := strings.Repeat("0", 63) + "1"
	// Under b's address another id is named: b is an impostor.
	a.name(t, opts[0], overlay.Peer{Addr: b.oapAddr(), NodeID: "b3:" + stranger})
	poll(t, "the refusal by b", func() bool {
		st := a.overlay.Statuses()[0]
		return st.State != "active" && st.LastError != ""
	})
	// b lets a in, and a sees that b is not who is named.
	b.name(t, opts[1], a.asPeer())
	poll(t, "the impostor", func() bool { return strings.Contains(a.overlay.Statuses()[0].LastError, "another node's key") })
	if len(a.overlay.Active())+len(b.overlay.Active()) != 0 {
		t.Error("there is a session with an impostor")
	}
	poll(t, "a's refusal, at b", func() bool { return strings.Contains(b.overlay.Statuses()[0].LastError, "bad certificate") })
	// Named rightly on both sides they are peers, without a restart.
	a.name(t, opts[0], b.asPeer())
	a.awaitPeers(t, 1)
	b.awaitPeers(t, 1)
	doc, err := a.operator(t).Document(t.Context(), "/v1/admin/breakers")
	if err != nil || !strings.Contains(string(doc), "peer-"+strings.TrimPrefix(b.nodeID, "b3:")) || strings.Contains(string(doc), stranger) {
		t.Errorf("%v %s", err, doc)
	}
	if doc, err = a.operator(t).Document(t.Context(), "/v1/admin/status"); err != nil || !strings.Contains(string(doc), `"state":"active"`) {
		t.Errorf("%v %s", err, doc)
	}
	// An operator's breaker ends the session and keeps it shut.
	if _, err := a.operator(t).ForceBreaker(t.Context(), "peer-"+strings.TrimPrefix(b.nodeID, "b3:"), "open", 0, "a test"); err != nil {
		t.Fatal(err)
	}
	poll(t, "the breaker", func() bool {
		return len(b.overlay.Active()) == 0 && a.overlay.Statuses()[0].State == "closed"
	})
	if _, err := a.operator(t).ForceBreaker(t.Context(), "peer-"+strings.TrimPrefix(b.nodeID, "b3:"), "auto", 0, ""); err != nil {
		t.Fatal(err)
	}
	b.awaitPeers(t, 1)
	// A node that names itself is refused, and the config in force stays.
	before := readBundle(t, opts[0])
	write(t, opts[0].Bundle, strings.Replace(before, b.nodeID, a.nodeID, 1))
	sign(t, opts[0], true)
	if _, err := a.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "itself") {
		t.Errorf("%v", err)
	}
	a.awaitPeers(t, 1)
}

// asNode is a session with n that test code holds in the name of o, which does not
// run: what a peer that is not honest could send.
func (n *Node) asNode(tb testing.TB, o *nodekey.Key) *link.Link {
	tb.Helper()
	conn, err := tls.Dial("tcp", n.oapAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{listen.OverlayProto}, Certificates: []tls.Certificate{*o.Certificate}})
	if err != nil {
		tb.Fatal(err)
	}
	l, err := link.Dial(tb.Context(), conn, link.Limits{MaxFrameBytes: 1 << 20, MaxInflight: 64, MaxStreams: 256, ChunkBytes: 64 << 10}, func(st *mux.Stream) { st.Fail(501, nil) })
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	return l
}

// A peer may do overlay:peer and nothing else, shows no capability, and is held to
// its budget; who is no peer may not even do that.
func TestPeersAtTheWall(t *testing.T) {
	nodes, opts := siblings(t, 2)
	a, b := nodes[0], nodes[1]
	a.name(t, opts[0], overlay.Peer{Addr: "127.0.0.1:1", NodeID: b.nodeID})
	l := a.asNode(t, b.identity)
	ctx := t.Context()
	empty := gossip.Encode(nil)
	if _, err := l.Call(ctx, overlay.OpGossip, nil, empty, 0); err != nil {
		t.Fatalf("a peer is refused: %v", err)
	}
	for _, c := range []struct {
		app  uint16
		op   macronode.Op
		want int
	}{{1, "object.list", 403}, {9, "cap.revocations", 403}, {10, "admin.status", 403}, {10, "openapi", 403}} {
		if code := codeOf(t, l, c.app, c.op, nil); code != c.want {
			t.Errorf("a peer's %s is answered with %d, want %d", c.op, code, c.want)
		}
	}
	tok, err := capability.Parse(a.token(t, datadir.OperatorCapName))
	if err != nil {
		t.Fatal(err)
	}
	if code := codeOf(t, l, 5, overlay.OpGossip, tok.CBOR()); code != 401 {
		t.Errorf("a peer with a capability: %d", code)
	}
	// The same operation for others, on both wires.
	c := a.operator(t)
	if err := c.JSON(ctx, "POST", "/v1/overlay/gossip", "", nil, nil); err == nil || !strings.Contains(err.Error(), "403") && !strings.Contains(err.Error(), "policy") {
		t.Errorf("an operator gossips: %v", err)
	}
	// A flood is held to the budget.
	many := make([]gossip.Message, gossip.MaxBatchMessages)
	for i := range many {
		many[i] = gossip.Message{Lane: gossip.Registry, Payload: fmt.Append(nil, i)}
	}
	flood := gossip.Encode(many)
	refused := 0
	for range 50 {
		var e *macronode.Error
		if _, err := l.Call(ctx, overlay.OpGossip, nil, flood, 0); errors.As(err, &e) && e.Kind == macronode.QuotaRate {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused < 30 {
		t.Errorf("%d of 50 batches were refused", refused)
	}
	// Who is a peer no more does nothing more, on the session that it has.
	a.name(t, opts[0])
	if _, err := l.Call(ctx, overlay.OpGossip, nil, empty, 0); err == nil {
		t.Error("who is a peer no more is heard")
	}
}

// codeOf opens a stream and returns the status of its answer.
func codeOf(tb testing.TB, l *link.Link, app uint16, op macronode.Op, cap []byte) int {
	tb.Helper()
	head, err := (&oap.RequestHead{Op: op}).Append(nil)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	st, err := l.Open(ctx, mux.Start{App: app, Head: head, Cap: cap, End: true})
	if err != nil {
		tb.Fatal(err)
	}
	defer st.Close()
	_, err = st.Head()
	var e *mux.StreamError
	if errors.As(err, &e) {
		return int(e.Code)
	}
	if err != nil && err != io.EOF {
		tb.Fatal(err)
	}
	return int(st.Code())
}
