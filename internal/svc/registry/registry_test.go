// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/registry"
)

func wantKind(t *testing.T, what string, err error, want macronode.Kind) {
	t.Helper()
	if got := macronode.KindOf(err); err == nil || got != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestCommit(t *testing.T) {
	w := newWorld(t)
	p := w.proposal(w.put(node("n1")))
	w.must(w.propose(p))
	wantKind(t, "the same again", w.propose(p), macronode.Conflict)
	got, err := w.decide(p, registry.Approve, "a")
	w.must(err)
	if got.State != stateOpen || !slices.Equal(got.Approved, []string{"a"}) || got.Threshold != 2 || got.Of != 3 {
		t.Fatalf("%+v", got)
	}
	if _, ok := w.s.State().Get(registry.Key{Kind: registry.KindNode, Name: "n1"}); ok {
		t.Fatal("one of two was enough")
	}
	// The same signer twice is one signer.
	if got, err = w.decide(p, registry.Approve, "a"); err != nil || got.State != stateOpen {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err = w.decide(p, registry.Approve, "c"); err != nil || got.State != stateCommitted || got.Seq != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := w.decide(p, registry.Approve, "b"); err == nil {
		t.Error("a committed proposal was approved")
	}
	want := w.s.State()
	w.start()
	if w.s.State().Head() != want.Head() || w.s.State().Size() != 3 {
		t.Error("after a restart the chain is another")
	}
	if got := w.show(p); got.State != stateCommitted || !slices.Equal(got.Approved, []string{"a", "c"}) {
		t.Errorf("%+v", got)
	}
	kinds := w.audit.kinds()
	for _, k := range []string{"registry.propose", "registry.approve", "registry.commit"} {
		if !slices.Contains(kinds, k) {
			t.Errorf("no record %s in %v", k, kinds)
		}
	}
	if w.told.Load() != 2 {
		t.Errorf("%d heads were told of, want 2", w.told.Load())
	}
}

func TestWhoMayApprove(t *testing.T) {
	w := newWorld(t)
	p := w.proposal(w.put(node("n1")))
	w.must(w.propose(p))
	w.keys["x"] = key(t, "x", 1, false)
	_, err := w.decide(p, registry.Approve, "x")
	wantKind(t, "a stranger", err, macronode.Denied)
	_, err = w.decide(p, registry.Approve, "root")
	wantKind(t, "a signer that was taken out", err, macronode.Denied)
	_, err = w.decide(p, registry.Approve, "a", "root")
	wantKind(t, "a signer with one that was taken out", err, macronode.Denied)
	impostor := key(t, "b", 1, false)
	real := w.keys["b"]
	w.keys["b"] = impostor
	_, err = w.decide(p, registry.Approve, "b")
	wantKind(t, "another key under a signer's name", err, macronode.Invalid)
	w.keys["b"] = real
	half := w.sign(p, registry.Approve, "a")[:1]
	_, err = w.call("registry.approve", map[string]string{"id": w.id(p).String()}, Signatures{Signatures: half})
	wantKind(t, "half a hybrid key", err, macronode.Denied)
	_, err = w.call("registry.approve", map[string]string{"id": w.id(p).String()}, Signatures{})
	wantKind(t, "nobody", err, macronode.Malformed)
	_, err = w.call("registry.approve", map[string]string{"id": w.id(p).String()}, Signatures{Signatures: w.sign(p, registry.Approve, "a")}, func(a *macronode.Admitted) {
		a.Principal = &macronode.Principal{Kind: macronode.PeerNode, Node: w.node.id}
	})
	wantKind(t, "through a peer", err, macronode.Denied)
	if got := w.show(p); len(got.Approved) != 0 || len(got.Notes) != 0 {
		t.Errorf("what was refused left its mark: %+v", got)
	}
}

// TestRevokedMidway: an approval of a signer that is taken out meanwhile never counts,
// not even where its key would come back.
func TestRevokedMidway(t *testing.T) {
	w := newWorld(t)
	p := w.proposal(w.put(node("n1")))
	w.must(w.propose(p))
	_, err := w.decide(p, registry.Approve, "b")
	w.must(err)
	w.keys["d"] = key(t, "d", 1, false)
	w.must(w.commit(w.proposal(w.put(w.signers(2, "a", "c", "d"))), "a", "c", "d"))
	if got := w.show(p); len(got.Approved) != 0 || got.State != stateOpen {
		t.Fatalf("%+v", got)
	}
	h, err := w.s.find(t.Context(), w.id(p))
	w.must(err)
	if len(h.rec.Approvals) != 0 {
		t.Error("the approval of a signer that was taken out is kept")
	}
	got, err := w.decide(p, registry.Approve, "c")
	if err != nil || got.State != stateOpen || !slices.Equal(got.Approved, []string{"c"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	w.must(w.propose(w.proposal(w.put(node("n3")))))
	wantKind(t, "the key comes back", w.propose(w.proposal(w.put(w.signers(2, "a", "b", "c")))), macronode.Invalid)
	if got, err = w.decide(p, registry.Approve, "d"); err != nil || got.State != stateCommitted {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestRejectWithdrawSupersede(t *testing.T) {
	w := newWorld(t)
	p := w.proposal(w.put(node("n1")))
	w.must(w.propose(p))
	got, err := w.decide(p, registry.Reject, "a")
	if err != nil || got.State != stateOpen || !slices.Equal(got.Rejected, []string{"a"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	// a thinks again: then b and c reject, and only a is left.
	if got, err = w.decide(p, registry.Approve, "a"); err != nil || len(got.Rejected) != 0 || len(got.Approved) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	r, err := w.call("registry.reject", map[string]string{"id": w.id(p).String()}, Signatures{Signatures: w.sign(p, registry.Reject, "b", "c"), Reason: "wrong port"})
	w.must(err)
	w.must(json.Unmarshal(r.Body, &got))
	if got.State != stateRejected || got.Reason != "wrong port" {
		t.Fatalf("%+v", got)
	}
	_, err = w.decide(p, registry.Approve, "b", "c")
	wantKind(t, "approved after it was rejected", err, macronode.Conflict)

	mine := w.proposal(w.put(node("n1")))
	w.must(w.propose(mine))
	_, err = w.call("registry.withdraw", map[string]string{"id": w.id(mine).String()}, Withdrawal{"typo"}, func(a *macronode.Admitted) { a.Principal.RootID = macronode.CapID{2} })
	wantKind(t, "withdrawn by another", err, macronode.Denied)
	_, err = w.call("registry.withdraw", map[string]string{"id": w.id(mine).String()}, Withdrawal{"typo"})
	w.must(err)
	if got := w.show(mine); got.State != stateWithdrawn || got.Reason != "typo" {
		t.Fatalf("%+v", got)
	}

	old, stale, other := w.proposal(w.put(node("n5"))), w.proposal(w.put(node("n1"))), w.proposal(w.put(node("n9")))
	for _, p := range []*registry.Proposal{old, stale, other} {
		w.must(w.propose(p))
	}
	next := w.proposal(w.put(node("n1")))
	next.Supersedes = []string{w.id(old).String()}
	w.must(w.commit(next, "a", "b"))
	if got := w.show(old); got.State != stateSuperseded || got.Reason != "by "+w.id(next).String() {
		t.Errorf("%+v", got)
	}
	if got := w.show(stale); got.State != stateSuperseded {
		t.Errorf("what does not apply any more is %s", got.State)
	}
	if got := w.show(other); got.State != stateOpen {
		t.Errorf("what has nothing to do with it is %s", got.State)
	}
	closed, err := ask[ProposalList](w, "registry.proposals", map[string]string{"state": "closed", "limit": "2"}, nil)
	w.must(err)
	n := len(closed.Proposals)
	for closed.Cursor != "" {
		closed, err = ask[ProposalList](w, "registry.proposals", map[string]string{"state": "closed", "limit": "2", "cursor": closed.Cursor}, nil)
		w.must(err)
		n += len(closed.Proposals)
	}
	if n != 6 {
		t.Errorf("%d closed proposals, want 6", n)
	}
}

func TestExpiry(t *testing.T) {
	w := newWorld(t)
	p := w.proposal(w.put(node("n1")))
	w.must(w.propose(p))
	_, err := w.decide(p, registry.Approve, "a")
	w.must(err)
	w.clock.Store(p.ExpiresMS + 1)
	_, err = w.decide(p, registry.Approve, "b")
	wantKind(t, "after its time", err, macronode.Conflict)
	if got := w.show(p); got.State != stateExpired {
		t.Errorf("%+v", got)
	}
	q := w.proposal(w.put(node("n2")))
	w.must(w.propose(q))
	w.clock.Store(q.ExpiresMS + 1)
	w.must(w.s.sweep(t.Context()))
	if got := w.show(q); got.State != stateExpired {
		t.Errorf("%+v", got)
	}
	w.clock.Add(keepClosed.Milliseconds() + 1)
	w.must(w.s.sweep(t.Context()))
	_, err = w.call("registry.proposal", map[string]string{"id": w.id(q).String()}, nil)
	wantKind(t, "long after", err, macronode.NotFound)
}

func TestBounds(t *testing.T) {
	w := newWorld(t)
	for i := range maxOpen {
		w.must(w.propose(w.proposal(w.put(node("n" + string(rune('a'+i%26)) + string(rune('a'+i/26)))))))
	}
	wantKind(t, "one too many", w.propose(w.proposal(w.put(node("x")))), macronode.QuotaObjects)
}

// TestNoRecordNoAct: where audit takes nothing, nothing is done.
func TestNoRecordNoAct(t *testing.T) {
	w := newWorld(t)
	p := w.proposal(w.put(node("n1")))
	w.must(w.propose(p))
	w.audit.fail.Store(true)
	_, err := w.decide(p, registry.Approve, "a", "b")
	wantKind(t, "without a record", err, macronode.Unavailable)
	wantKind(t, "without a record", w.propose(w.proposal(w.put(node("n2")))), macronode.Unavailable)
	w.audit.fail.Store(false)
	if got := w.show(p); got.State != stateOpen || len(got.Approved) != 0 {
		t.Errorf("%+v", got)
	}
	if w.s.State().Size() != 2 {
		t.Error("something was committed")
	}
}

// countedKV counts transactions.
type countedKV struct {
	store.KV
	updates int
}

func (c *countedKV) Update(ctx context.Context, f func(store.Tx) error) error {
	c.updates++
	return c.KV.Update(ctx, f)
}

func TestIdempotency(t *testing.T) {
	w := newWorld(t)
	p := w.proposal(w.put(node("n1")))
	w.must(w.propose(p))
	keyed := func(a *macronode.Admitted) { a.IdempotencyKey = "k" }
	body := Signatures{Signatures: w.sign(p, registry.Approve, "a", "b")}
	params := map[string]string{"id": w.id(p).String()}
	counted := &countedKV{KV: w.kv}
	w.kv = counted
	w.start()
	first, err := w.call("registry.approve", params, body, keyed)
	w.must(err)
	if counted.updates != 1 {
		t.Errorf("the commit and its answer took %d transactions", counted.updates)
	}
	w.start() // the answer is as durable as the commit
	again, err := w.call("registry.approve", params, body, keyed)
	w.must(err)
	if !bytes.Equal(first.Body, again.Body) || again.Header.Get("Idempotency-Replayed") != "true" || w.s.State().Size() != 3 {
		t.Errorf("%v, size %d", again.Header, w.s.State().Size())
	}
}

func TestReads(t *testing.T) {
	w := newWorld(t)
	w.must(w.commit(w.proposal(w.put(node("n1")), w.put(node("n2"))), "a", "b"))
	head, err := ask[Head](w, "registry.head", nil, nil)
	w.must(err)
	signed, err := registry.ParseHead(head.Signed)
	if err != nil || head.Size != 3 || signed.Head != head.Head || head.Writer != w.node.id {
		t.Fatalf("%+v, %v", head, err)
	}
	log, err := ask[Log](w, "registry.log", map[string]string{"from": "1", "limit": "2"}, nil)
	w.must(err)
	if _, err := log.Check(signed); err != nil {
		t.Errorf("the log's proof: %v", err)
	}
	r, err := w.call("registry.export", nil, nil)
	w.must(err)
	var out bytes.Buffer
	_, err = r.Stream.WriteTo(&out)
	w.must(err)
	v, err := registry.Verify(&out, w.s.State().Registry())
	if err != nil || v.Head == nil || v.State.Root() != w.s.State().Root() {
		t.Fatalf("the export: %v", err)
	}
	list, err := ask[DescriptorList](w, "registry.descriptors", map[string]string{"limit": "2"}, nil)
	w.must(err)
	more, err := ask[DescriptorList](w, "registry.descriptors", map[string]string{"limit": "2", "cursor": list.Cursor}, nil)
	w.must(err)
	if len(list.Descriptors) != 2 || len(more.Descriptors) != 1 || more.Cursor != "" || more.Descriptors[0].Descriptor.Kind != registry.KindSigners {
		t.Errorf("%+v, then %+v", list, more)
	}
	one, err := w.call("registry.descriptor", map[string]string{"kind": "node", "name": "n1"}, nil)
	w.must(err)
	same, err := w.call("registry.descriptor", map[string]string{"kind": "node", "name": "n1"}, nil, func(a *macronode.Admitted) {
		a.Header = macronode.Header{"If-None-Match": {one.Header.Get("Etag")}}
	})
	if err != nil || same.Status != 304 {
		t.Errorf("%+v, %v", same, err)
	}
	_, err = w.call("registry.descriptor", map[string]string{"kind": "node", "name": "n7"}, nil)
	wantKind(t, "no such node", err, macronode.NotFound)
	_, err = w.call("registry.descriptors", map[string]string{"kindd": "node"}, nil)
	wantKind(t, "an unknown argument", err, macronode.Malformed)
	_, err = w.call("registry.log", map[string]string{"from": "3"}, nil)
	wantKind(t, "beyond the end", err, macronode.NotFound)
}

// TestOnlyTheWriter: a node that is not the writer takes no proposals, but the one
// that makes it the writer.
func TestOnlyTheWriter(t *testing.T) {
	w := newWorld(t)
	away := w.signers(2, "a", "b", "c")
	away.Signers.Writer = b3.Sum([]byte("elsewhere")).String()
	wantKind(t, "what another commits", w.propose(w.proposal(w.put(away))), macronode.Conflict)
	conf := w.config()
	other := newNodeKey(t)
	conf.NodeID, conf.Key = other.id, other
	follower, err := New(t.Context(), conf)
	w.must(err)
	w.s = follower
	wantKind(t, "at a node that follows", w.propose(w.proposal(w.put(node("n1")))), macronode.Conflict)
	here := w.signers(2, "a", "b", "c")
	here.Signers.Writer = other.id
	w.must(w.commit(w.proposal(w.put(here)), "a", "b"))
	if h, err := registry.ParseHead(w.s.Signed()); err != nil || h.NodeID != other.id {
		t.Errorf("%+v, %v", h, err)
	}
	w.must(w.commit(w.proposal(w.put(node("n1"))), "a", "b"))
}
