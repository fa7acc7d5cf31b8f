// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client/internal/need"
)

// How long narrowed capabilities live.
const (
	// narrowFor is how long one is good that goes with a call.
	narrowFor = time.Minute
	// watchFor is the same for calls that the node ends with the capability:
	// watches and other long-running ones.
	watchFor = time.Hour
	// narrowReuse is how long one is sent again for the same.
	narrowReuse = 15 * time.Second
	// maxNarrowed bounds how many are kept.
	maxNarrowed = 1024
	// maxSkew is how far the node's clock may be away without being heeded.
	maxSkew = 10 * time.Second
)

// sent is what goes with a call.
type sent struct {
	token, proof string
	until        time.Time // from when on it is made anew
	narrow       bool
}

// narrower cuts the capability down to each call.
type narrower struct {
	whole  sent
	tok    *capability.Token // nil: nothing is narrowed
	proofs proofs
	skew   atomic.Int64 // nanoseconds that the node's clock is ahead
	// endless leaves the end out, for the node's clock differs and is not told:
	// refusals over OAP/1 have no Date.
	endless atomic.Bool

	mu   sync.Mutex
	held map[need.Need]sent // guarded by mu
}

// newNarrower reads the options. A token that cannot be read is sent as it is:
// it is the node's to refuse.
func newNarrower(o *Options) (*narrower, error) {
	proofs, err := readProofs(o.Discharges)
	if err != nil {
		return nil, err
	}
	n := &narrower{whole: sent{token: o.Token}, proofs: proofs, held: map[need.Need]sent{}}
	tok, err := capability.Parse(o.Token)
	if err != nil {
		if len(o.Discharges) > 0 {
			return nil, err
		}
		return n, nil
	}
	if n.whole.proof, err = proofs.header(tok); err != nil {
		return nil, err
	}
	// A discharge that is bound already is good for the whole token alone.
	if !o.WholeToken && !proofs.bound {
		n.tok = tok
	}
	return n, nil
}

// of is what to send with a call: the capability cut down to the call's action
// and resource for a minute. Calls that are not known, calls that hand their
// capability on, and capabilities that cannot take more caveats go whole.
func (n *narrower) of(method, path string) sent {
	if n.tok == nil {
		return n.whole
	}
	w, ok := need.Of(method, path)
	if !ok {
		return n.whole
	}
	now := time.Now()
	n.mu.Lock()
	s, ok := n.held[w]
	n.mu.Unlock()
	if ok && now.Before(s.until) {
		return s
	}
	life := narrowFor
	if w.Long {
		life = watchFor
	}
	end := now.Add(time.Duration(n.skew.Load()) + life)
	// The end goes first: what somebody narrows by hand begins with what it is for,
	// and the two must not share a link, which may be revoked.
	first := capability.ExpiresAt(end.Unix())
	if n.endless.Load() {
		first = capability.NotBefore(1) // always true, and nobody begins so by hand
	}
	tok, err := n.tok.Attenuate(first, capability.OnActions(w.Action), capability.OnResources(w.Resource))
	if err != nil {
		return n.whole
	}
	proof, err := n.proofs.header(tok)
	if err != nil {
		return n.whole
	}
	s = sent{tok.Text(), proof, now.Add(narrowReuse), true}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.held) >= maxNarrowed {
		clear(n.held)
	}
	n.held[w] = s
	return s
}

// heed learns the node's clock from a refusal of a narrowed capability as
// expired, and reports whether the call may be better off with another one.
func (n *narrower) heed(s sent, code string, h http.Header) bool {
	if !s.narrow || code != "expired" {
		return false
	}
	if h.Get("Date") == "" {
		if n.endless.Swap(true) {
			return false
		}
		n.forget()
		return true
	}
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	skew := time.Until(at)
	if d := skew - time.Duration(n.skew.Load()); d < maxSkew && d > -maxSkew {
		return false // the clock is known, and that is not it
	}
	n.skew.Store(int64(skew))
	n.forget()
	return true
}

// forget drops what was narrowed so far.
func (n *narrower) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.held)
}
