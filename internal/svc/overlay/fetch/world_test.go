// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/overlay/announce"
)

const self = "b3:self"

func tenant(n byte) macronode.TenantID { return macronode.TenantID{0: 1, 15: n} }

func testSecrets(t testing.TB) *announce.Secrets {
	t.Helper()
	s, err := announce.ParseSecrets([]byte("* 00112233445566778899aabbccddeeff" + strings.Repeat("5a", 16)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// object is an object in memory with its verified tree.
type object struct {
	*bytes.Reader
	*b3.Verifier
}

func newObject(t testing.TB, data []byte) (object, b3.Addr) {
	t.Helper()
	var tree bytes.Buffer
	h := b3.NewHasher(&tree)
	_, _ = h.Write(data)
	a, err := h.Sum()
	if err != nil {
		t.Fatal(err)
	}
	return object{bytes.NewReader(data), b3.NewVerifier(a, int64(len(data)), bytes.NewReader(tree.Bytes()))}, a
}

func (o object) Size() int64         { return o.Verifier.Size() }
func (o object) ContentType() string { return "image/png" }
func (o object) Close() error        { return nil }
func (o object) WriteSlice(w io.Writer, group int, off, n int64) (int64, error) {
	return b3.WriteSlice(w, o, group, off, n)
}

func (o object) slice(t testing.TB, group int, off, n int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	if _, err := o.WriteSlice(&buf, group, off, n); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// node is another node, with what it has and how it behaves.
type node struct {
	*Holder
	book    *announce.Book
	mu      sync.Mutex
	objects map[flightKey]object
	calls   int
	// twist replaces the body of answers; nil: honest.
	twist func(ctx context.Context, whole []byte) io.Reader
	// refuse is what calls end with, if anything.
	refuse error
	swap   *object // what it gives instead of what was asked for
}

func (n *node) Local(_ context.Context, t macronode.TenantID, a b3.Addr) (Local, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	o, ok := n.objects[flightKey{t, a}]
	if !ok {
		return nil, notFound()
	}
	if n.swap != nil {
		return *n.swap, nil
	}
	return o, nil
}

// world is this node's Fetcher among other nodes.
type world struct {
	t       testing.TB
	f       *Fetcher
	known   *announce.Known
	mu      sync.Mutex
	nodes   map[string]*node
	told    [][]byte
	banned  []string
	lies    []string
	open    int // answers whose body was not closed
	maximum int
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, known: announce.NewKnown(time.Hour, nil), nodes: make(map[string]*node)}
	c := Config{Node: self, Sessions: w, Known: w.known, Lied: func(peer, how string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lies = append(w.lies, peer+" "+how)
	}}
	for _, f := range change {
		f(&c)
	}
	var err error
	if w.f, err = New(c); err != nil {
		t.Fatal(err)
	}
	w.f.SetSecrets(testSecrets(t))
	return w
}

// add makes a node that has and announces the objects for tenant 1.
func (w *world) add(id string, data ...[]byte) *node {
	w.t.Helper()
	n := &node{book: announce.NewBook(testSecrets(w.t), 0), objects: make(map[flightKey]object)}
	n.Holder = NewHolder("svc-overlay", id, n, n.book, Metrics{})
	n.SetSecrets(testSecrets(w.t))
	for _, d := range data {
		o, a := newObject(w.t, d)
		n.objects[flightKey{tenant(1), a}] = o
		n.book.Stored(tenant(1), a)
	}
	w.mu.Lock()
	w.nodes[id] = n
	w.mu.Unlock()
	w.learn(id)
	return n
}

func (w *world) learn(id string) {
	w.t.Helper()
	w.known.Join(id)
	asked := w.known.Ask(id)
	var buf bytes.Buffer
	_, _ = w.nodes[id].book.Summary().WriteTo(&buf)
	if _, err := w.known.Answered(id, asked, &buf, nil); err != nil {
		w.t.Fatal(err)
	}
}

// body is an answer's, which ends with the call.
type body struct {
	io.Reader
	w    *world
	once sync.Once
}

func (b *body) Close() error {
	b.once.Do(func() {
		b.w.mu.Lock()
		defer b.w.mu.Unlock()
		b.w.open--
	})
	return nil
}

func (w *world) Call(ctx context.Context, peer string, q Question) (*Answer, error) {
	w.mu.Lock()
	n := w.nodes[peer]
	n.calls++
	refuse, twist := n.refuse, n.twist
	w.mu.Unlock()
	if refuse != nil {
		return nil, refuse
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a := &macronode.Admitted{
		Call: &macronode.Call{Args: q.Args}, Tenant: &macronode.Tenant{ID: q.Tenant}, ReplyBytes: macronode.NoLimit,
		Principal: &macronode.Principal{Kind: macronode.PeerNode, Node: self},
	}
	handler := n.fetch
	if q.Op == OpAnnounced {
		handler = n.announced
	}
	reply, err := handler(ctx, a)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if m, err := reply.Stream.WriteTo(&buf); err != nil || m != reply.Length || m != int64(buf.Len()) {
		w.t.Errorf("an answer of %d bytes announced %d: %v", m, reply.Length, err)
	}
	_ = reply.Stream.Close()
	var r io.Reader = &buf
	if twist != nil {
		r = twist(ctx, buf.Bytes())
	}
	w.mu.Lock()
	w.open++
	w.maximum = max(w.maximum, w.open)
	w.mu.Unlock()
	return &Answer{ContentType: reply.ContentType, Body: &body{Reader: ended{ctx, r}, w: w}}, nil
}

// ended fails reads after the call ended.
type ended struct {
	ctx context.Context
	r   io.Reader
}

func (e ended) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}

func (w *world) Tell(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, p)
}

func (w *world) Penalise(peer, _ string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.banned = append(w.banned, peer)
}

func (w *world) calls(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id].calls
}

// idle fails the test where a call was not given up.
func (w *world) idle() {
	w.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		w.mu.Lock()
		open := w.open
		w.mu.Unlock()
		if open == 0 && len(w.f.places) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d calls are open, %d places taken", open, len(w.f.places))
		}
		<-time.After(time.Millisecond)
	}
}

func (w *world) tag(a b3.Addr) announce.Tag {
	key, _ := testSecrets(w.t).Key(tenant(1))
	return key.Tag(a)
}

// read gets a part of an object of tenant 1.
func (w *world) read(a b3.Addr, want Want) ([]byte, error) {
	o, err := w.f.Find(context.Background(), tenant(1), a, want)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	s, err := o.Open(context.Background(), want)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var buf bytes.Buffer
	n, err := s.WriteTo(&buf)
	if n != int64(buf.Len()) {
		w.t.Errorf("wrote %d bytes and says %d", buf.Len(), n)
	}
	return buf.Bytes(), err
}

// broken is a reader that fails after some bytes, as a connection that broke.
func broken(b []byte, err error) io.Reader { return io.MultiReader(bytes.NewReader(b), failing{err}) }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}
