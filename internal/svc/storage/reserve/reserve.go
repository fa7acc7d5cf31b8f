// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package reserve holds uploads to a tenant's quota while they run. An upload
// reserves room ahead of the bytes that it takes in; what is stored and what is
// reserved never exceed the quota together, so of many uploads at once exactly
// those go through that fit.
//
// An account knows what its tenant stores from one look at the metadata and from
// then on by what transactions tell: no upload waits for another's commit to learn
// what is left. Accounts in use, and some that were used last, are kept; all of
// it is memory, and gone when the process ends, as the uploads are.
package reserve

import (
	"container/list"
	"context"
	"math"
	"sync"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// keepIdle bounds the accounts that nobody uses.
const keepIdle = 4096

// Load looks up what a tenant stores, as of the last transaction that has been
// told to the ledger or is not its to know.
type Load func(context.Context, macronode.TenantID) (refs.Usage, error)

// Ledger is the accounts of all tenants. It is safe for concurrent use.
type Ledger struct {
	load Load

	mu       sync.Mutex
	accounts map[macronode.TenantID]*account
	idle     *list.List // of *account without users, the one used last in front
}

type account struct {
	tenant macronode.TenantID
	users  int
	place  *list.Element // in idle
	ready  chan struct{} // closed once loaded
	err    error         // of the load

	// guarded by Ledger.mu
	stored   refs.Usage
	reserved refs.Usage
	unsure   bool // a commit's outcome is unknown: to be loaded anew
}

// New returns an empty ledger.
func New(load Load) *Ledger {
	return &Ledger{load: load, accounts: make(map[macronode.TenantID]*account), idle: list.New()}
}

// Hold is one call's part in an account. It belongs to one goroutine. Release must
// follow.
type Hold struct {
	l     *Ledger
	a     *account
	mine  refs.Usage
	ended bool
}

// Open returns a hold on t's account with nothing reserved. Who changes what t
// stores opens one before the transaction and tells it the outcome.
func (l *Ledger) Open(ctx context.Context, t macronode.TenantID) (*Hold, error) {
	for {
		l.mu.Lock()
		a := l.accounts[t]
		first := a == nil
		if first {
			a = &account{tenant: t, ready: make(chan struct{})}
			l.accounts[t] = a
		}
		if a.place != nil {
			l.idle.Remove(a.place)
			a.place = nil
		}
		a.users++
		l.mu.Unlock()
		if first {
			l.fill(ctx, a)
		}
		select {
		case <-a.ready:
		case <-ctx.Done():
			l.leave(a)
			return nil, ctx.Err()
		}
		if a.err == nil {
			return &Hold{l: l, a: a}, nil
		}
		l.leave(a)
		if first {
			return nil, a.err
		}
		if err := ctx.Err(); err != nil { // the failed load was another's
			return nil, err
		}
	}
}

// fill loads a, which others wait for. A failed one is forgotten at once.
func (l *Ledger) fill(ctx context.Context, a *account) {
	stored, err := l.load(ctx, a.tenant)
	l.mu.Lock()
	a.stored, a.err = stored, err
	if err != nil && l.accounts[a.tenant] == a {
		delete(l.accounts, a.tenant)
	}
	l.mu.Unlock()
	close(a.ready)
}

func (l *Ledger) leave(a *account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.users--; a.users > 0 || l.accounts[a.tenant] != a {
		return
	}
	if a.unsure || a.err != nil {
		delete(l.accounts, a.tenant)
		return
	}
	a.place = l.idle.PushFront(a)
	if l.idle.Len() > keepIdle {
		out := l.idle.Remove(l.idle.Back()).(*account)
		delete(l.accounts, out.tenant)
	}
}

// Begin reserves a place for one object of at least bytes, and of the bytes at
// most step, or refuses.
func (h *Hold) Begin(q *macronode.Quota, bytes, step int64) error {
	l := h.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := h.a.taken().Fits(q, bytes); err != nil {
		return err
	}
	h.add(min(bytes, step), 1)
	return nil
}

// Grow reserves up to want more bytes and at least need, or refuses.
func (h *Hold) Grow(q *macronode.Quota, need, want int64) error {
	l := h.l
	l.mu.Lock()
	defer l.mu.Unlock()
	room := h.a.taken().Room(q)
	if need > room {
		return refs.OverQuota(q)
	}
	h.add(max(need, min(want, room)), 0)
	return nil
}

// Bytes is how many this hold has reserved.
func (h *Hold) Bytes() int64 { return h.mine.Bytes }

// Settle tells that a transaction of the holder has changed what is stored, and
// ends the reservation at the same moment.
func (h *Hold) Settle(bytes, objects int64) {
	l := h.l
	l.mu.Lock()
	defer l.mu.Unlock()
	h.a.stored.Bytes += bytes
	h.a.stored.Objects += objects
	h.add(-h.mine.Bytes, -h.mine.Objects)
}

// Unsure tells that it is not known whether a transaction took place.
func (h *Hold) Unsure() {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	h.a.unsure = true
}

// Release ends the hold, with what it has reserved. It may be repeated.
func (h *Hold) Release() {
	if h.ended {
		return
	}
	h.ended = true
	h.l.mu.Lock()
	h.add(-h.mine.Bytes, -h.mine.Objects)
	h.l.mu.Unlock()
	h.l.leave(h.a)
}

// add is called with the ledger's lock.
func (h *Hold) add(bytes, objects int64) {
	h.mine.Bytes += bytes
	h.mine.Objects += objects
	h.a.reserved.Bytes += bytes
	h.a.reserved.Objects += objects
}

// taken is what counts against the quota.
func (a *account) taken() refs.Usage {
	sum := refs.Usage{Bytes: a.stored.Bytes + a.reserved.Bytes, Objects: a.stored.Objects + a.reserved.Objects}
	if sum.Bytes < 0 { // many unlimited reservations at once
		sum.Bytes = math.MaxInt64
	}
	return sum
}

// Reserved is what all uploads have reserved now.
func (l *Ledger) Reserved() (sum refs.Usage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.accounts {
		sum.Bytes += a.reserved.Bytes
		sum.Objects += a.reserved.Objects
	}
	return sum
}
