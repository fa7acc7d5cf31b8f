// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Rules are the limits on connections. They change live and hold for both
// wires together.
type Rules struct {
	// MaxConns is how many connections may be open in all, MaxConnsPerIP how
	// many from one address (one /64 on IPv6). Both are at least 1. Unix
	// sockets and admin listeners do not count: they have an allowance of
	// their own, so that a crowd cannot lock operators out.
	MaxConns, MaxConnsPerIP int
	// TrustedProxies are the networks whose connections count as secure, whose
	// forwarded addresses are believed, and which no per-address limit binds.
	TrustedProxies []netip.Prefix
}

// adminConns is the allowance of all admin listeners and Unix sockets.
const adminConns = 1024

// maxProxies bounds the list that every request of a proxy is held against.
const maxProxies = 1024

func (r *Rules) validate() error {
	if r.MaxConns < 1 || r.MaxConnsPerIP < 1 {
		return errors.New("listen: max_conns and max_conns_per_ip must be at least 1")
	}
	if len(r.TrustedProxies) > maxProxies {
		return errors.New("listen: too many trusted_proxies")
	}
	for _, p := range r.TrustedProxies {
		if !p.IsValid() {
			return errors.New("listen: trusted_proxies holds an empty network")
		}
	}
	return nil
}

// Caps counts open connections against Rules.
type Caps struct {
	rules atomic.Pointer[Rules]

	mu    sync.Mutex
	open  int
	admin int
	perIP map[netip.Addr]int
}

// NewCaps returns a count of nothing under the given rules.
func NewCaps(r Rules) (*Caps, error) {
	c := &Caps{perIP: make(map[netip.Addr]int)}
	return c, c.SetRules(r)
}

// SetRules replaces the rules. Connections that are open stay so, even where
// the new limits are lower.
func (c *Caps) SetRules(r Rules) error {
	if err := r.validate(); err != nil {
		return err
	}
	c.rules.Store(&r)
	return nil
}

// Trusted reports whether a is a trusted proxy.
func (c *Caps) Trusted(a netip.Addr) bool {
	for _, p := range c.rules.Load().TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// countKey is what one client is counted under: an IPv6 client holds a /64.
func countKey(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, err := a.WithZone("").Prefix(64)
		if err == nil {
			return p.Addr()
		}
	}
	return a
}

// Why a connection was not taken.
const (
	refusedConns      = "max_conns"
	refusedConnsPerIP = "max_conns_per_ip"
	refusedUID        = "uid"
	refusedTLS        = "tls"
)

// take counts a connection in and returns how to count it out, or why it is
// refused.
func (c *Caps) take(a netip.Addr, apart bool) (release func(), refused string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rules.Load()
	if apart {
		if c.admin >= adminConns {
			return nil, refusedConns
		}
		c.admin++
		return func() { c.mu.Lock(); c.admin--; c.mu.Unlock() }, ""
	}
	if c.open >= r.MaxConns {
		return nil, refusedConns
	}
	key, counted := countKey(a), !c.Trusted(a)
	if counted && c.perIP[key] >= r.MaxConnsPerIP {
		return nil, refusedConnsPerIP
	}
	c.open++
	if counted {
		c.perIP[key]++
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open--
		if !counted {
			return
		}
		if c.perIP[key]--; c.perIP[key] == 0 {
			delete(c.perIP, key)
		}
	}, ""
}
