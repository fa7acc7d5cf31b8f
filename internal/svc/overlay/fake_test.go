// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/revocation"
)

// signer is a node's key.
type signer struct{ k *ecdsa.PrivateKey }

func (s signer) KeyID() string           { return "node#v1/ecdsa-p256" }
func (s signer) Public() ([]byte, error) { return x509.MarshalPKIXPublicKey(&s.k.PublicKey) }
func (s signer) Sign(m []byte) ([]byte, error) {
	sum := sha256.Sum256(m)
	return ecdsa.SignASN1(rand.Reader, s.k, sum[:])
}

// book is revocations in memory.
type book struct {
	mu    sync.Mutex
	items map[string]revocation.Item
	err   error // of Adopt
	calls int
}

func key(i *revocation.Item) string { return i.Tenant + "/" + i.ID + "/" + i.KID }

func (b *book) Summary() *revocation.Summary {
	b.mu.Lock()
	defer b.mu.Unlock()
	var s revocation.Summary
	for _, i := range b.items {
		s.Flip(&i.Entry)
	}
	return &s
}

func (b *book) Lacking(_ context.Context, theirs *revocation.Summary, cursor string, limit int) (items []revocation.Item, next string, err error) {
	mine := b.Summary()
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for k, i := range b.items {
		if k > cursor && mine.Differs(theirs, &i.Entry) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if len(items) == limit {
			return items, next, nil
		}
		items, next = append(items, b.items[k]), k
	}
	return items, "", nil
}

func (b *book) Adopt(_ context.Context, items []revocation.Item, _ string) (added []revocation.Item, foreign int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if b.err != nil {
		return nil, 0, b.err
	}
	for _, i := range items {
		if i.KID != "" {
			foreign++
			continue
		}
		if _, ok := b.items[key(&i)]; !ok {
			b.items[key(&i)] = i
			added = append(added, i)
		}
	}
	return added, foreign, nil
}

func (b *book) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items)
}

func item(i int) revocation.Item {
	return revocation.Item{Entry: revocation.Entry{ID: fmt.Sprintf("%032x", i), By: "cap:x"}}
}

// gate counts, and is what the test says.
type gate struct {
	mu     sync.Mutex
	held   bool
	failed int
}

func (g *gate) Enter() (func(error), error) {
	return func(err error) {
		if err != nil && !errors.Is(err, context.Canceled) {
			g.mu.Lock()
			g.failed++
			g.mu.Unlock()
		}
	}, nil
}

func (g *gate) Held() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.held }

func (g *gate) hold(on bool) { g.mu.Lock(); g.held = on; g.mu.Unlock() }

// net is nodes that are connected in memory, in a bubble's time.
type net struct {
	mu    sync.Mutex
	nodes []*node
	cut   map[[2]int]bool
	delay time.Duration
	lag   time.Duration // by which the smallest node's attempts take longer
	dials int
	pairs []*end // one of each connection
	// refuse is what a call is answered with before it is handled; nil: nothing.
	refuse func(macronode.Op) error
}

type node struct {
	*Service
	i      int
	id     string
	book   *book
	gates  map[string]*gate
	mu     sync.Mutex
	peers  []Peer
	events []string
	reg    *metrics.Registry
}

func (n *node) Name() string { return "test" }
func (n *node) Peers() []Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.peers)
}

// newNet makes nodes that name each other as links say, in the order of their ids.
func newNet(t *testing.T, count int, links ...[2]int) *net {
	t.Helper()
	w := &net{cut: make(map[[2]int]bool), delay: 20 * time.Millisecond}
	type named struct {
		id string
		s  signer
	}
	var ids []named
	for range count {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := signer{k}.Public()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, named{revocation.NodeID(der), signer{k}})
	}
	slices.SortFunc(ids, func(a, b named) int { return strings.Compare(a.id, b.id) })
	for i, x := range ids {
		n := &node{i: i, id: x.id, book: &book{items: make(map[string]revocation.Item)}, gates: make(map[string]*gate), reg: metrics.New(false)}
		for _, l := range links {
			if l[0] == i || l[1] == i {
				o := l[0] + l[1] - i
				n.peers = append(n.peers, Peer{Addr: fmt.Sprint(o), NodeID: ids[o].id})
			}
		}
		var err error
		n.Service, err = New(Config{NodeID: n.id, Sources: []Source{n}, Revocations: n.book, Metrics: NewMetrics(n.reg),
			Connect: func(ctx context.Context, addr, id string) (Session, error) { return w.connect(ctx, n, addr, id) },
			Gate: func(id string) (Gate, func()) {
				g := &gate{}
				n.gates[id] = g
				return g, func() { n.mu.Lock(); delete(n.gates, id); n.mu.Unlock() }
			},
			Sign: func(items []revocation.Item, cursor string) ([]byte, error) {
				return revocation.SignNews(items, cursor, x.s)
			},
			Event: func(id, state, why string) {
				n.mu.Lock()
				n.events = append(n.events, state)
				n.mu.Unlock()
			}})
		if err != nil {
			t.Fatal(err)
		}
		w.nodes = append(w.nodes, n)
	}
	return w
}

func (w *net) down(a, b int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut[[2]int{min(a, b), max(a, b)}]
}

func (w *net) setCut(a, b int, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[[2]int{min(a, b), max(a, b)}] = on
}

var errGone = errors.New("the connection is gone")

func (w *net) connect(ctx context.Context, from *node, addr, id string) (Session, error) {
	w.mu.Lock()
	w.dials++
	w.mu.Unlock()
	var to *node
	for _, n := range w.nodes {
		if fmt.Sprint(n.i) == addr {
			to = n
		}
	}
	if w.down(from.i, to.i) {
		wait(ctx, 750*time.Millisecond)
		return nil, errors.Join(context.DeadlineExceeded, ctx.Err())
	}
	wait(ctx, 3*w.delay)
	if from.i == 0 {
		wait(ctx, w.lag)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if to.id != id {
		return nil, errors.New("an impostor")
	}
	a, b := w.pair(from, to)
	to.Adopt(from.id, b)
	return a, nil
}

func (w *net) pair(from, to *node) (a, b *end) {
	c := &wire{done: make(chan struct{})}
	a, b = &end{wire: c, w: w, own: from, other: to, heard: time.Now()}, &end{wire: c, w: w, own: to, other: from, heard: time.Now()}
	w.mu.Lock()
	w.pairs = append(w.pairs, a)
	w.mu.Unlock()
	return a, b
}

// open counts the connections between a and b that are open.
func (w *net) open(a, b int) (list []*end) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.pairs {
		if (e.own.i == a && e.other.i == b || e.own.i == b && e.other.i == a) && !e.closed() {
			list = append(list, e)
		}
	}
	return list
}

// wire is one connection; end is one side of it.
type wire struct {
	once sync.Once
	done chan struct{}
}

func (c *wire) closed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

type end struct {
	*wire
	w          *net
	own, other *node
	mu         sync.Mutex
	heard      time.Time
	deaf       bool // no answer to pings, yet frames come
}

func (e *end) Close() error          { e.once.Do(func() { close(e.done) }); return nil }
func (e *end) GoAway()               { e.Close() }
func (e *end) Done() <-chan struct{} { return e.done }
func (e *end) Err() error            { return errGone }
func (e *end) Heard() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.deaf {
		return time.Now()
	}
	return e.heard
}

func (e *end) cross(ctx context.Context) error {
	e.mu.Lock()
	deaf := e.deaf
	e.mu.Unlock()
	// What was sent into a cut link arrives a moment after it is back.
	for deaf || e.w.down(e.own.i, e.other.i) {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-e.done:
			return errGone
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	wait(ctx, 2*e.w.delay)
	if e.closed() {
		return errGone
	}
	e.mu.Lock()
	e.heard = time.Now()
	e.mu.Unlock()
	return ctx.Err()
}

func (e *end) Ping(ctx context.Context) (time.Duration, error) { return 2 * e.w.delay, e.cross(ctx) }

func (e *end) Call(ctx context.Context, op macronode.Op, args []macronode.Arg, body []byte, limit int) ([]byte, error) {
	if err := e.cross(ctx); err != nil {
		return nil, err
	}
	if e.w.refuse != nil {
		if err := e.w.refuse(op); err != nil {
			return nil, err
		}
	}
	r, err := e.other.invoke(ctx, e.own.id, op, args, body)
	if err != nil {
		return nil, err
	}
	if len(r.Body) > limit {
		return nil, errors.New("the answer is too long")
	}
	return r.Body, nil
}

// invoke is a call past the wall.
func (n *node) invoke(ctx context.Context, from string, op macronode.Op, args []macronode.Arg, body []byte) (*macronode.Reply, error) {
	for _, r := range n.Routes() {
		if r.Op == op {
			return r.Handler(ctx, &macronode.Admitted{Principal: &macronode.Principal{Kind: macronode.PeerNode, Node: from},
				Call: &macronode.Call{Wire: macronode.WireOAP, Op: op, Args: args, Body: bytes.NewReader(body)}})
		}
	}
	return nil, macronode.Errorf(macronode.Unimplemented, "no such operation")
}

// start runs the nodes in the bubble until the test ends.
func (w *net) start(t *testing.T) {
	for _, n := range w.nodes {
		w.run(t, n)
	}
}

// run runs one node and returns how to stop it.
func (w *net) run(t *testing.T, n *node) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Serve(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(func() { stop() })
	return stop
}

func pass(d time.Duration) { <-time.After(d); synctest.Wait() }
