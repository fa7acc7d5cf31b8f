// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"maps"
	"sync"
	"time"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode"
)

const (
	// replayWindow is how long an idempotency key is remembered.
	replayWindow = 24 * time.Hour
	// maxReplays bounds how many are; changes of keys are few.
	maxReplays = 4096
)

// replays remembers the answers to changes by idempotency key, in memory. What a
// restart forgets is caught by the changes themselves: creating is idempotent by
// nature, an object's newest version is not written twice, and a version of a key
// keeps the request that made it.
type replays struct {
	now func() time.Time

	mu   sync.Mutex
	seen map[[32]byte]*replay
}

type replay struct {
	request [32]byte
	at      time.Time
	done    bool
	reply   macronode.Reply
}

func newReplays(now func() time.Time) *replays {
	return &replays{now: now, seen: make(map[[32]byte]*replay)}
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

// do runs f once for an idempotency key; request is the hash of what was asked.
func (r *replays) do(id, request [32]byte, f func() (*macronode.Reply, error)) (*macronode.Reply, error) {
	if id == ([32]byte{}) {
		return f()
	}
	now := r.now()
	r.mu.Lock()
	if e, ok := r.seen[id]; ok && now.Sub(e.at) < replayWindow {
		defer r.mu.Unlock()
		switch {
		case e.request != request:
			return nil, macronode.Errorf(macronode.IdempotencyMismatch, "the Idempotency-Key was used for another request")
		case !e.done:
			return nil, macronode.Errorf(macronode.IdempotencyRunning, "the first request with this Idempotency-Key is still running")
		}
		return replayed(e.reply), nil
	}
	if len(r.seen) >= maxReplays {
		maps.DeleteFunc(r.seen, func(_ [32]byte, e *replay) bool { return now.Sub(e.at) >= replayWindow })
	}
	if len(r.seen) >= maxReplays {
		r.mu.Unlock()
		return nil, macronode.Errorf(macronode.Overload, "too many idempotency keys of key changes are remembered")
	}
	e := &replay{request: request, at: now}
	r.seen[id] = e
	r.mu.Unlock()
	done := false
	defer func() {
		// A refusal is not kept, and neither is a panic's.
		r.mu.Lock()
		defer r.mu.Unlock()
		if e.done = done; !done {
			delete(r.seen, id)
		}
	}()
	reply, err := f()
	if err != nil {
		return nil, err
	}
	e.reply = *reply
	done = true
	return reply, nil
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
