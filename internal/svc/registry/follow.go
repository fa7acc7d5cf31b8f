// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/registry/chain"
	"github.com/rustyonions/macronode/registry"
)

// OpFollow is the operation by which nodes ask each other for what they are missing.
const OpFollow macronode.Op = "overlay.registry"

// MaxFollowBytes bounds an answer to it.
const MaxFollowBytes = 2*registry.MaxRangeBytes + 64<<10

// Times and bounds of following.
const (
	askEvery   = 30 * time.Second
	askLimit   = 10 * time.Second
	askQueue   = 256
	stepSize   = 64       // entries of a transaction
	maxBacklog = 64 << 20 // bytes of entries that are taken at a time
)

// Peers are the sessions with other nodes.
type Peers interface {
	// Active are the ids of those that there is a session with.
	Active() []string
	// Ask has the peer answer OpFollow.
	Ask(ctx context.Context, peer string, from uint64) ([]byte, error)
}

// ErrKnown says of a head that it needs not be told further: it is known here, or is
// told anew once this node has what it covers.
var ErrKnown = errors.New("the head is known")

// errStranger: the head is of another registry.
var errStranger = errors.New("the head is another registry's")

// answer is what a node says to OpFollow: its signed head, and entries from the place
// asked for on.
type answer struct {
	Signed  json.RawMessage   `json:"signed"`
	First   uint64            `json:"first"`
	Entries []json.RawMessage `json:"entries"`
}

// Follower keeps the registry in step with the other nodes'. Serve runs it.
type Follower struct {
	s     *Service
	peers Peers
	asked chan string

	mu   sync.Mutex
	fork string // hash of the head that was last told of as a fork
}

// NewFollower returns a Follower of s.
func NewFollower(s *Service, peers Peers) *Follower {
	return &Follower{s: s, peers: peers, asked: make(chan string, askQueue)}
}

// Routes are what peers may ask for.
func (f *Follower) Routes(service string) []macronode.Route {
	return []macronode.Route{{Handler: f.tell, Binding: macronode.Binding{Op: OpFollow, Service: service, Method: "GET", Pattern: "/v1/overlay/registry", OAP: macronode.AppOverlay,
		Action: "overlay:peer", Resource: macronode.NodeResource, Class: macronode.Control, Cost: 2, MaxBody: macronode.BodyNone, Doc: macronode.Doc{
			Summary: "The signed head of the registry and entries that a node is missing; for peers, over a session between nodes",
			Query:   []macronode.Param{{Name: "from", Type: "integer", Text: "how many entries the caller has"}},
			Kinds:   []macronode.Kind{macronode.Denied, macronode.NotFound, macronode.Unavailable},
		}}}}
}

func (f *Follower) tell(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if a.Principal.Kind != macronode.PeerNode {
		return nil, macronode.Errorf(macronode.Denied, "this is for peers")
	}
	if err := a.OnlyArgs("from"); err != nil {
		return nil, err
	}
	from, err := a.NumberArg("from", 0, 0, registry.MaxSize)
	if err != nil {
		return nil, err
	}
	c, err := f.s.open()
	if err != nil {
		return nil, err
	}
	if c.Signed == nil {
		return nil, macronode.Errorf(macronode.Unavailable, "the head is not signed yet")
	}
	out := answer{Signed: c.Signed, First: c.First, Entries: []json.RawMessage{}}
	if from < c.State.Size() && (from == 0 || from >= c.First) {
		if out.Entries, err = f.s.entries(ctx, c, from, registry.MaxRange); err != nil {
			return nil, err
		}
	}
	return jsonReply(200, out)
}

// Heard takes a head that a peer tells of. ErrKnown is no fault of the peer's.
func (f *Follower) Heard(ctx context.Context, from string, payload []byte) error {
	h, err := registry.ParseHead(payload)
	if err != nil {
		f.count(headRefused)
		return err
	}
	c := f.s.chain.Load()
	if c == nil {
		return ErrKnown
	}
	result, err := f.compare(ctx, c, h)
	f.count(result)
	switch {
	case err != nil:
		return err
	case result == headAdopted:
		f.Ask(from)
	}
	return ErrKnown
}

// Ask has a peer asked for what it knows: when a session begins, or it told of more.
func (f *Follower) Ask(peer string) {
	select {
	case f.asked <- peer:
	default: // all are asked now and then
	}
}

func (f *Follower) count(result string) { f.s.c.Metrics.heads.WithLabelValues(result).Inc() }

// compare says what a head is to the chain here; headAdopted: it has more, to be had.
func (f *Follower) compare(ctx context.Context, c *chain.Chain, h *registry.Head) (string, error) {
	if h.Registry != c.State.Registry().String() {
		return headRefused, errStranger
	}
	size := c.State.Size()
	if h.Size > size {
		return headAdopted, nil
	}
	mine := c.State.Head().String()
	if h.Size < size {
		if h.Size < c.First {
			return headBehind, nil // it was vouched for
		}
		err := f.s.kv.View(ctx, func(r store.Reader) error {
			text, err := r.Get(chain.EntryKey(h.Size))
			if err != nil {
				return err
			}
			e, err := registry.ParseEntry(text)
			if err != nil {
				return chain.Corrupt("entry %d: %v", h.Size, err)
			}
			mine = e.Prev
			return nil
		})
		if err != nil {
			return headFailed, err
		}
	}
	switch {
	case h.Head != mine:
		return headFork, f.forked(c, h)
	case h.Size < size:
		return headBehind, nil
	}
	return headSame, nil
}

// forked tells of a head that contradicts the chain here.
func (f *Follower) forked(c *chain.Chain, h *registry.Head) error {
	err := fmt.Errorf("%s signed another chain: its entry %d is not the one here", h.NodeID, h.Size-1)
	f.mu.Lock()
	known := f.fork == h.Head
	f.fork = h.Head
	f.mu.Unlock()
	if known {
		return err
	}
	f.s.log.Error("the registry has forked; see the runbook", "event", "registry.fork", "node", h.NodeID, "writer", c.State.Writer(), "size", h.Size, "theirs", h.Head)
	f.s.c.Audit.Record(macronode.AuditEvent{Stream: "node", Kind: "registry.fork", Actor: "peer:" + h.NodeID, Subject: "registry/head", Reason: "fork",
		Attrs: map[string]any{"size": int64(h.Size), "theirs": h.Head}}) //nolint:gosec // within MaxSize
	return err
}

// Serve asks peers for what this node is missing, until ctx ends.
func (f *Follower) Serve(ctx context.Context) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case peer := <-f.asked:
			f.catchUp(ctx, peer)
		case <-tick.C:
			for _, peer := range f.peers.Active() {
				f.catchUp(ctx, peer)
			}
		}
	}
}

func (f *Follower) catchUp(ctx context.Context, peer string) {
	result, err := f.follow(ctx, peer)
	if result != "" {
		f.count(result)
	}
	if err != nil && ctx.Err() == nil {
		f.s.log.Warn("the registry could not be brought up to date", "event", "registry.follow", "peer", peer, "error", err)
	}
}

func (f *Follower) ask(ctx context.Context, peer string, from uint64) (*answer, *registry.Head, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	text, err := f.peers.Ask(ctx, peer, from)
	if err != nil {
		return nil, nil, err
	}
	a := &answer{}
	if len(text) > MaxFollowBytes {
		return nil, nil, errors.New("the answer is too long")
	}
	if err := json.Unmarshal(text, a); err != nil || len(a.Entries) > registry.MaxRange {
		return nil, nil, errors.New("the answer is not of its form")
	}
	h, err := registry.ParseHead(a.Signed)
	return a, h, err
}

// follow takes what the peer has and this node does not. What it takes is verified
// first: each entry by the signers in force before it, their order by the signed head
// of the writer that they lead to.
func (f *Follower) follow(ctx context.Context, peer string) (string, error) {
	c := f.s.chain.Load()
	if c == nil {
		return "", nil
	}
	a, h, err := f.ask(ctx, peer, c.State.Size())
	if err != nil {
		return headFailed, err
	}
	result, err := f.compare(ctx, c, h)
	switch {
	case err != nil:
		return result, err
	case result == headSame && c.Signed == nil:
		return headSame, f.take(ctx, c, &step{prev: c, signed: a.Signed, head: h}, peer)
	case result != headAdopted:
		return result, nil
	case a.First > c.State.Size():
		return headFailed, errors.New("this node is behind what the peer has kept; join the registry anew from an export, see the runbook")
	}
	st, err := f.gather(ctx, c, peer, a, h)
	if err != nil {
		return headFailed, err
	}
	return headAdopted, f.take(ctx, c, st, peer)
}

// gather gets and verifies the entries up to h.
func (f *Follower) gather(ctx context.Context, c *chain.Chain, peer string, a *answer, h *registry.Head) (*step, error) {
	st := &step{prev: c, signed: a.Signed, head: h}
	f.s.trees.RLock()
	tree := c.Tree.Clone()
	f.s.trees.RUnlock()
	state, total := c.State, 0
	for {
		if len(a.Entries) == 0 {
			return nil, errors.New("the peer does not show the entries that its head covers")
		}
		for _, text := range a.Entries {
			if state.Size() == h.Size {
				break // it has grown since
			}
			if total += len(text); total > maxBacklog {
				return nil, fmt.Errorf("more than %d bytes are missing; join the registry anew from an export, see the runbook", maxBacklog)
			}
			e, err := registry.ParseEntry(text)
			if err != nil {
				return nil, err
			}
			if state, err = state.Apply(e); err != nil {
				return nil, err
			}
			if err := tree.Add(registry.LeafOf(text)); err != nil {
				return nil, err
			}
			st.entries, st.texts, st.states = append(st.entries, e), append(st.texts, text), append(st.states, state)
		}
		if state.Size() == h.Size {
			return st, state.Ends(h, tree.Root())
		}
		var err error
		if a, _, err = f.ask(ctx, peer, state.Size()); err != nil {
			return nil, err
		}
	}
}

// take makes a verified step durable, and shows it.
func (f *Follower) take(ctx context.Context, c *chain.Chain, st *step, peer string) error {
	now, err := f.s.begin(ctx)
	if err != nil {
		return err
	}
	defer f.s.unlock()
	if now.State != c.State {
		return nil // somebody else was faster
	}
	st.prev = now
	event := macronode.AuditEvent{Stream: "node", Kind: "registry.adopt", Actor: "peer:" + peer, Subject: "registry/head",
		Attrs: map[string]any{"entries": int64(len(st.entries)), "size": int64(st.head.Size), "head": st.head.Head}} //nolint:gosec // within MaxSize
	if err := f.s.record(ctx, event); err != nil {
		return err
	}
	if err := st.writeAll(ctx, f.s.kv); err != nil {
		err = f.s.unsure(err)
		f.s.failed(event, err)
		return err
	}
	f.s.took(st)
	return nil
}

// writeAll is write in several transactions: each leaves a chain that verifies, the
// last one its signed head.
func (st *step) writeAll(ctx context.Context, kv store.KV) error {
	prev := st.prev.State
	for at := 0; ; {
		end := min(at+stepSize, len(st.entries))
		err := kv.Update(ctx, func(tx store.Tx) error {
			before := prev
			for i := at; i < end; i++ {
				if err := chain.Append(tx, st.entries[i], st.texts[i], before, st.states[i]); err != nil {
					return err
				}
				before = st.states[i]
			}
			if end < len(st.entries) {
				return chain.SetSigned(tx, nil)
			}
			return chain.SetSigned(tx, st.signed)
		})
		if err != nil || end == len(st.entries) {
			return err
		}
		at, prev = end, st.states[end-1]
	}
}
