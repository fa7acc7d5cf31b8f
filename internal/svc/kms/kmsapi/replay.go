// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"crypto/rand"
	"maps"
	"sync"
	"time"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode"
)

const (
	// replayWindow is how long an idempotency key is remembered.
	replayWindow = 24 * time.Hour
	// maxReplays and maxReplayBytes bound what is remembered; the oldest goes.
	maxReplays     = 4096
	maxReplayBytes = 8 << 20
)

// replays remembers the answers to sign, wrap and put by idempotency key: in
// memory, so that nothing about what was signed, wrapped or put rests outside
// the keystore. What a restart, or the bound, forgets is done anew, which does no
// harm: a second signature is as good as the first, and an object's newest
// version is not written twice. Requests are told apart by a MAC whose key ends
// with the process: what is kept tells nobody a guessed plain text.
type replays struct {
	now func() time.Time
	mac [32]byte

	mu    sync.Mutex
	seen  map[[32]byte]*replay
	order []*replay // as they came; ended ones are dropped from its front
	bytes int       // of the answers
}

type replay struct {
	id, request [32]byte
	at          time.Time
	done        bool
	reply       macronode.Reply
}

func newReplays(now func() time.Time) *replays {
	r := &replays{now: now, seen: make(map[[32]byte]*replay)}
	_, _ = rand.Read(r.mac[:]) // never fails
	return r
}

// replayID names the request: tenant, operation and key, each delimited.
func replayID(a *macronode.Admitted) [32]byte {
	if a.IdempotencyKey == "" {
		return [32]byte{}
	}
	h := blake3.New(32, nil)
	_, _ = h.Write([]byte("macronode/kms/replay/v1\x00"))
	_, _ = h.Write(a.Tenant.ID[:])
	_, _ = h.Write([]byte(string(a.Binding.Op) + "\x00" + a.IdempotencyKey))
	return [32]byte(h.Sum(nil))
}

// request is the MAC of what was asked for.
func (r *replays) request(name string, body []byte) [32]byte {
	h := blake3.New(32, r.mac[:])
	_, _ = h.Write([]byte(name + "\x00"))
	_, _ = h.Write(body)
	return [32]byte(h.Sum(nil))
}

// do runs f once for an idempotency key; request is what was asked.
func (r *replays) do(id, request [32]byte, f func() (*macronode.Reply, error)) (*macronode.Reply, error) {
	if id == ([32]byte{}) {
		return f()
	}
	e, kept, err := r.claim(id, request)
	if err != nil || kept != nil {
		return kept, err
	}
	var reply *macronode.Reply
	defer func() { r.settle(e, reply) }() // a panic's too
	out, err := f()
	if err != nil {
		return nil, err
	}
	reply = out
	return out, nil
}

// claim returns the answer that is kept, or a place for the one to come.
func (r *replays) claim(id, request [32]byte) (*replay, *macronode.Reply, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if e, ok := r.seen[id]; ok && now.Sub(e.at) < replayWindow {
		switch {
		case e.request != request:
			return nil, nil, macronode.Errorf(macronode.IdempotencyMismatch, "the Idempotency-Key was used for another request")
		case !e.done:
			return nil, nil, macronode.Errorf(macronode.IdempotencyRunning, "the first request with this Idempotency-Key is still running")
		}
		return nil, replayed(e.reply), nil
	}
	e := &replay{id: id, request: request, at: now}
	r.seen[id] = e
	return e, nil, nil
}

// settle keeps the answer of e. A refusal (nil) is not kept: the key is free.
func (r *replays) settle(e *replay, reply *macronode.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if reply == nil {
		if r.seen[e.id] == e {
			delete(r.seen, e.id)
		}
		return
	}
	e.reply, e.done = *reply, true
	r.order = append(r.order, e)
	r.bytes += len(reply.Body)
	now := r.now()
	for len(r.order) > maxReplays || r.bytes > maxReplayBytes || now.Sub(r.order[0].at) >= replayWindow {
		old := r.order[0]
		r.order[0] = nil
		r.order = r.order[1:]
		r.bytes -= len(old.reply.Body)
		if r.seen[old.id] == old {
			delete(r.seen, old.id)
		}
		if len(r.order) == 0 {
			break
		}
	}
}

// replayed is the first answer again, marked.
func replayed(first macronode.Reply) *macronode.Reply {
	h := maps.Clone(first.Header)
	if h == nil {
		h = macronode.Header{}
	}
	h.Set("Idempotency-Replayed", "true")
	first.Header = h
	return &first
}
