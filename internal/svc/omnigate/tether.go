// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package omnigate

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode"
)

// tether is what a handler has of its call: a copy, whose ways back into the wall
// can be cut. What the wall knows of a call is used again for another one as soon
// as the caller is answered.
type tether struct {
	admitted macronode.Admitted
	call     macronode.Call
	ctx      context.Context // the wall's, to yield with
	body     io.Reader
	state    atomic.Int32

	// way is held while the handler reads or yields.
	way sync.Mutex
}

// The states of a tether.
const (
	working   int32 = iota
	delivered       // the handler's result is on its way to the caller
	cut             // nobody waits for the handler
)

func newTether(ctx context.Context, a *macronode.Admitted) *tether {
	t := &tether{admitted: *a, call: *a.Call, ctx: ctx, body: a.Body}
	t.admitted.Call = &t.call
	if t.body != nil {
		t.call.Body = t
	}
	return t
}

// deliver calls f where somebody waits for the result, and reports whether.
func (t *tether) deliver(f func()) bool {
	if !t.state.CompareAndSwap(working, delivered) {
		return false
	}
	f()
	return true
}

// cut takes the way back from the handler. It reports false where there is a
// result already.
func (t *tether) cut() bool {
	if !t.state.CompareAndSwap(working, cut) {
		return false
	}
	t.way.Lock() // what is under way ends first
	defer t.way.Unlock()
	return true
}

// Read implements io.Reader: the call's body.
func (t *tether) Read(p []byte) (int, error) {
	t.way.Lock()
	defer t.way.Unlock()
	if t.state.Load() == cut {
		return 0, macronode.Wrap(macronode.ClientGone, "", io.ErrClosedPipe)
	}
	return t.body.Read(p)
}

// Yield implements macronode.Yielder.
func (t *tether) Yield() {
	t.way.Lock()
	defer t.way.Unlock()
	if t.state.Load() != cut {
		macronode.Yield(t.ctx)
	}
}

// heldStream tells once when it is closed.
type heldStream struct {
	macronode.Stream
	once sync.Once
	done func()
}

// Close implements macronode.Stream.
func (s *heldStream) Close() error {
	err := s.Stream.Close()
	s.once.Do(s.done)
	return err
}
