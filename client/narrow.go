// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/capability"
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

// want is what a call needs of a capability.
type want struct {
	action, resource string
	long             bool
}

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

	mu   sync.Mutex
	held map[want]sent // guarded by mu
}

// newNarrower reads the options. A token that cannot be read is sent as it is:
// it is the node's to refuse.
func newNarrower(o *Options) (*narrower, error) {
	proofs, err := readProofs(o.Discharges)
	if err != nil {
		return nil, err
	}
	n := &narrower{whole: sent{token: o.Token}, proofs: proofs, held: map[want]sent{}}
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
	w, ok := needs(method, path)
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
	if w.long {
		life = watchFor
	}
	end := now.Add(time.Duration(n.skew.Load()) + life)
	// The end goes first: what somebody narrows by hand begins with what it is for,
	// and the two must not share a link, which may be revoked.
	tok, err := n.tok.Attenuate(capability.ExpiresAt(end.Unix()), capability.OnActions(w.action), capability.OnResources(w.resource))
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
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	skew := time.Until(at)
	if d := skew - time.Duration(n.skew.Load()); d < maxSkew && d > -maxSkew {
		return false // the clock is known, and that is not it
	}
	n.skew.Store(int64(skew))
	n.mu.Lock()
	clear(n.held)
	n.mu.Unlock()
	return true
}

// needs is the action and resource of a call, as the node's routes have them.
// Not all are known: a route that is not, or may be new, is not narrowed.
func needs(method, path string) (w want, ok bool) {
	path, _, _ = strings.Cut(path, "?")
	part := strings.Split(strings.TrimPrefix(path, "/"), "/")
	switch {
	case part[0] == "o" || part[0] == "put":
		return objectNeeds(method, part)
	case part[0] != "v1" || len(part) < 2:
		return w, false
	}
	rest := part[2:]
	switch part[1] {
	case "objects":
		return want{action: "object:list", resource: "object"}, method == "GET" && len(rest) == 0
	case "tenants":
		return want{action: "tenant:admin", resource: "node"}, true
	case "caps":
		// What is minted inherits the caveats of what mints.
		return want{action: "cap:revoke", resource: "node"}, len(rest) > 0
	case "kms":
		return kmsNeeds(method, rest)
	case "admin":
		return adminNeeds(method, rest)
	}
	return w, false
}

func objectNeeds(method string, part []string) (want, bool) {
	action := map[string]string{"GET": "object:get", "HEAD": "object:get", "PUT": "object:put", "POST": "object:put", "DELETE": "object:delete"}[method]
	switch len(part) {
	case 1:
		return want{action: action, resource: "object"}, method == "POST"
	case 2:
		id, err := url.PathUnescape(part[1])
		return want{action: action, resource: "object/" + id}, action != "" && err == nil && id != "" && !strings.Contains(id, "*")
	}
	return want{}, false
}

// kmsNeeds narrows to the family of actions: its verbs are many, and new ones come.
func kmsNeeds(_ string, rest []string) (want, bool) {
	w := want{action: "kms:*", resource: "key"}
	if len(rest) >= 2 {
		id, err := url.PathUnescape(rest[1])
		if err != nil || id == "" || strings.Contains(id, "*") {
			return w, false
		}
		w.resource = "key/" + id
	}
	return w, len(rest) > 0
}

// adminNeeds narrows to the family too; some of it watches, so it lives longer.
func adminNeeds(method string, rest []string) (want, bool) {
	w := want{action: "node:*", resource: "node", long: true}
	if method == "GET" && len(rest) == 1 && rest[0] == "status" {
		w = want{action: "node:status", resource: "node"}
	}
	return w, len(rest) > 0
}
