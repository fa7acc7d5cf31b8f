// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/registry/chain"
	"github.com/rustyonions/macronode/registry"
)

type nodeKey struct {
	private *ecdsa.PrivateKey
	public  []byte
	id      string
}

func newNodeKey(t testing.TB) *nodeKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return &nodeKey{k, der, b3.Sum(der).String()}
}

func (k *nodeKey) KeyID() string           { return "node#v1/ecdsa-p256" }
func (k *nodeKey) Public() ([]byte, error) { return k.public, nil }
func (k *nodeKey) Sign(message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	return ecdsa.SignASN1(rand.Reader, k.private, sum[:])
}

// recorder is an audit log in memory.
type recorder struct {
	mu   sync.Mutex
	kept []macronode.AuditEvent
	fail atomic.Bool
}

func (r *recorder) Record(e macronode.AuditEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, e)
}

func (r *recorder) Append(_ context.Context, e macronode.AuditEvent) error {
	if r.fail.Load() {
		return fmt.Errorf("the log is full")
	}
	r.Record(e)
	return nil
}

func (r *recorder) kinds() (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.kept {
		k := e.Kind
		if e.Reason != "" {
			k += " " + e.Reason
		}
		list = append(list, k)
	}
	return list
}

// world is a registry's service with the keys of its signers.
type world struct {
	t     testing.TB
	kv    store.KV
	node  *nodeKey
	keys  map[string]*registry.PrivateKey
	audit *recorder
	clock atomic.Int64 // unix ms
	s     *Service
	nonce atomic.Uint64
	told  atomic.Int64
	fork  *registry.State // that another chain goes on from
}

func newEmptyKV(t testing.TB) store.KV {
	kv := mem.NewKV(mem.KVConfig{})
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

func key(t testing.TB, name string, version uint64, hybrid bool) *registry.PrivateKey {
	t.Helper()
	k, err := registry.NewKey(name, version, hybrid, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newWorld is a registry of which two of a (hybrid), b and c must agree, at its writer.
func newWorld(t testing.TB) *world {
	return newWorldOn(t, func(w *world) { w.kv = mem.NewKV(mem.KVConfig{}) })
}

// newWorldOn is newWorld over a store that open sets.
func newWorldOn(t testing.TB, open func(*world)) *world {
	w := &world{t: t, node: newNodeKey(t), audit: &recorder{}}
	open(w)
	t.Cleanup(func() { _ = w.kv.Close() })
	w.clock.Store(1_800_000_000_000)
	w.keys = map[string]*registry.PrivateKey{"root": key(t, "root", 1, false), "a": key(t, "a", 1, true), "b": key(t, "b", 1, false), "c": key(t, "c", 1, false)}
	if _, err := chain.Found(t.Context(), w.kv, w.keys["root"].Anchor(), w.node.id, w.now()); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.must(w.commit(w.proposal(w.put(w.signers(2, "a", "b", "c"))), "root", "a", "b", "c"))
	return w
}

func (w *world) now() time.Time { return time.UnixMilli(w.clock.Load()) }

// start makes the service anew over the same store.
func (w *world) start() {
	w.t.Helper()
	s, err := New(w.t.Context(), w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s
}

func (w *world) config() Config {
	return Config{KV: w.kv, Audit: w.audit, Idem: idem.New(idem.Config{KV: w.kv, Now: w.now}), NodeID: w.node.id, Key: w.node, Now: w.now,
		Tell: func([]byte) { w.told.Add(1) }}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) signers(threshold int, names ...string) *registry.Descriptor {
	s := &registry.Signers{Threshold: threshold, Writer: w.node.id}
	for _, n := range names {
		s.Signers = append(s.Signers, w.keys[n].Anchor())
	}
	slices.SortFunc(s.Signers, func(a, b bundle.Anchor) int { return strings.Compare(registry.KeyName(&a), registry.KeyName(&b)) })
	return &registry.Descriptor{V: 1, Kind: registry.KindSigners, Name: registry.SignersName, Signers: s}
}

func node(name string) *registry.Descriptor {
	return &registry.Descriptor{V: 1, Kind: registry.KindNode, Name: name, Node: &registry.Node{NodeID: b3.Sum([]byte("node " + name)).String(), Addr: "127.0.0.1:34000"}}
}

func (w *world) put(d *registry.Descriptor) registry.Change {
	c := registry.Change{Op: registry.OpPut, Descriptor: d}
	if it, ok := w.s.State().Get(d.Key()); ok {
		c.Prev = it.Addr.String()
	}
	return c
}

func (w *world) proposal(changes ...registry.Change) *registry.Proposal {
	return &registry.Proposal{V: 1, Registry: w.s.State().Registry().String(), Nonce: fmt.Sprintf("%032x", w.nonce.Add(1)), Title: "t",
		CreatedMS: w.clock.Load(), ExpiresMS: w.clock.Load() + 3_600_000, Changes: changes}
}

func (w *world) id(p *registry.Proposal) b3.Addr {
	w.t.Helper()
	id, err := p.Addr()
	w.must(err)
	return id
}

// call runs a route's handler.
func (w *world) call(op macronode.Op, params map[string]string, body any, change ...func(*macronode.Admitted)) (*macronode.Reply, error) {
	return callOn(w.s, op, params, body, change...)
}

func callOn(s *Service, op macronode.Op, params map[string]string, body any, change ...func(*macronode.Admitted)) (*macronode.Reply, error) {
	var text []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		text = b
	default:
		text, _ = json.Marshal(b)
	}
	for _, r := range s.Routes() {
		if r.Op != op {
			continue
		}
		binding := r.Binding
		a := &macronode.Admitted{Call: &macronode.Call{Binding: &binding, Header: macronode.Header{}, Body: bytes.NewReader(text), Length: int64(len(text)), CorrID: "x"},
			Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: macronode.SystemTenant, RootID: macronode.CapID{1}},
			Tenant:    &macronode.Tenant{ID: macronode.SystemTenant}, ReplyBytes: macronode.NoLimit}
		for k, v := range params {
			if strings.Contains(binding.Pattern, "{"+k+"}") {
				a.AddParam(k, v)
			} else {
				a.Args = append(a.Args, macronode.Arg{Name: k, Value: v})
			}
		}
		for _, f := range change {
			f(a)
		}
		return r.Handler(context.Background(), a)
	}
	return nil, fmt.Errorf("no route %s", op)
}

// ask is call with its answer decoded.
func ask[T any](w *world, op macronode.Op, params map[string]string, body any, change ...func(*macronode.Admitted)) (out T, err error) {
	r, err := w.call(op, params, body, change...)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(r.Body, &out)
}

func (w *world) propose(p *registry.Proposal) error {
	w.t.Helper()
	text, err := p.Encode()
	w.must(err)
	_, err = w.call("registry.propose", nil, text)
	return err
}

// decide signs a decision with the named keys and sends it.
func (w *world) decide(p *registry.Proposal, d registry.Decision, names ...string) (Proposal, error) {
	w.t.Helper()
	op := macronode.Op("registry.approve")
	if d == registry.Reject {
		op = "registry.reject"
	}
	return ask[Proposal](w, op, map[string]string{"id": w.id(p).String()}, Signatures{Signatures: w.sign(p, d, names...)})
}

func (w *world) sign(p *registry.Proposal, d registry.Decision, names ...string) (list []registry.Signature) {
	w.t.Helper()
	for _, n := range names {
		sigs, err := registry.Sign(w.s.State().Registry(), w.id(p), d, w.keys[n].Halves()...)
		w.must(err)
		list = append(list, sigs...)
	}
	return list
}

// commit proposes and has the named keys approve.
func (w *world) commit(p *registry.Proposal, names ...string) error {
	w.t.Helper()
	if err := w.propose(p); err != nil {
		return err
	}
	got, err := w.decide(p, registry.Approve, names...)
	if err == nil && got.State != stateCommitted {
		return fmt.Errorf("the proposal is %s", got.State)
	}
	return err
}

func (w *world) show(p *registry.Proposal) Proposal {
	w.t.Helper()
	got, err := ask[Proposal](w, "registry.proposal", map[string]string{"id": w.id(p).String()}, nil)
	w.must(err)
	return got
}
