// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/overlay/announce"
)

// Times of the exchange of announcements.
const (
	// TTL is how long announcements count that nobody confirmed.
	TTL = 15 * time.Minute
	// refreshEvery is how often peers are asked for all of theirs.
	refreshEvery = 5 * time.Minute
	// rebuildEvery is how often the book is made anew from what is stored.
	rebuildEvery = 15 * time.Minute
	// gather is how long changes wait for more to go with them.
	gather = 5 * time.Millisecond
	// askGap is the least time between two summaries of one peer.
	askGap = time.Second
	// askLimit bounds how long a summary may take.
	askLimit = 30 * time.Second
	// retryFirst is the wait before a summary that did not come is asked for again,
	// doubled by each failure that follows, up to retryMost. It is short, since what
	// fails most is the session that another one of the same peer replaces.
	retryFirst = 50 * time.Millisecond
	retryMost  = 30 * time.Second
)

// Exchange keeps announcements going: this node's to the others, and theirs to
// Known. Serve runs it.
type Exchange struct {
	f    *Fetcher
	h    *Holder
	book *announce.Book
	// each calls its argument with every object of this node until it returns false.
	each func(context.Context, func(macronode.TenantID, b3.Addr) bool) error

	mu      sync.Mutex
	up      map[string]*link
	secrets *announce.Secrets
	rebuild chan struct{} // capacity 1
	asked   chan string
}

// link is a session that there is.
type link struct {
	asked time.Time     // when its summary was asked for last
	retry time.Duration // the wait after the failure that was last; 0: it came
}

// NewExchange returns an Exchange without secrets: nothing is announced.
func NewExchange(f *Fetcher, h *Holder, book *announce.Book, each func(context.Context, func(macronode.TenantID, b3.Addr) bool) error) *Exchange {
	return &Exchange{f: f, h: h, book: book, each: each, up: make(map[string]*link), rebuild: make(chan struct{}, 1), asked: make(chan string, 1024)}
}

// SetSecrets makes s hold, for finding, giving and announcing; nil ends all three.
func (x *Exchange) SetSecrets(s *announce.Secrets) {
	x.mu.Lock()
	x.secrets = s
	x.mu.Unlock()
	x.f.SetSecrets(s)
	x.h.SetSecrets(s)
	select {
	case x.rebuild <- struct{}{}:
	default:
	}
}

// Up says that there is a session with the peer now.
func (x *Exchange) Up(peer string) {
	x.mu.Lock()
	x.up[peer] = &link{}
	x.mu.Unlock()
	x.want(peer)
}

// Down says that the session is over.
func (x *Exchange) Down(peer string) {
	x.mu.Lock()
	delete(x.up, peer)
	x.mu.Unlock()
	x.f.cfg.Known.Leave(peer)
}

// Heard takes what a peer's Tell sent. An error means that it is no announcement.
func (x *Exchange) Heard(peer string, payload []byte) error {
	stale, err := x.f.cfg.Known.Heard(peer, payload)
	if stale {
		x.want(peer)
	}
	return err
}

// want has the peer asked for its summary. Where the queue is full the next refresh
// does it.
func (x *Exchange) want(peer string) {
	select {
	case x.asked <- peer:
	default:
	}
}

// Serve runs until ctx ends.
func (x *Exchange) Serve(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { x.tell(ctx) })
	wg.Go(func() { x.remake(ctx) })
	x.refresh(ctx, &wg)
	wg.Wait()
	return nil
}

// tell sends this node's changes.
func (x *Exchange) tell(ctx context.Context) {
	for {
		m, err := x.book.Next(ctx, gather)
		if err != nil {
			return
		}
		x.f.cfg.Sessions.Tell(m)
	}
}

// remake makes the book from what is stored.
func (x *Exchange) remake(ctx context.Context) {
	tick := time.NewTicker(rebuildEvery)
	defer tick.Stop()
	for {
		x.mu.Lock()
		s := x.secrets
		x.mu.Unlock()
		err := x.book.Rebuild(s, func(put func(macronode.TenantID, b3.Addr) bool) error {
			if s == nil {
				return nil
			}
			return errors.Join(x.each(ctx, put), ctx.Err())
		})
		if err != nil && ctx.Err() == nil {
			x.f.cfg.Log.Warn("what is announced could not be made anew, to be tried again", "event", "overlay.rebuild", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-x.rebuild:
		case <-tick.C:
		}
	}
}

// refresh asks peers for their summaries: when a session begins, when something was
// missed, and from time to time.
func (x *Exchange) refresh(ctx context.Context, wg *sync.WaitGroup) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case peer := <-x.asked:
			if asked, wait := x.due(peer); asked != 0 {
				wg.Go(func() { x.ask(ctx, peer, asked, wait) })
			}
		case <-tick.C:
			x.mu.Lock()
			peers := make([]string, 0, len(x.up))
			for id := range x.up {
				peers = append(peers, id)
			}
			x.mu.Unlock()
			for _, id := range peers {
				x.want(id)
			}
		}
	}
}

// due says after which wait the peer is to be asked, as what Known knows the question
// by; 0: it is not.
func (x *Exchange) due(peer string) (asked uint64, wait time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.up[peer]
	if l == nil || x.secrets == nil || !x.f.Trusted(peer) {
		return 0, 0
	}
	x.f.cfg.Known.Join(peer)
	if asked = x.f.cfg.Known.Ask(peer); asked == 0 {
		return 0, 0 // it is under way
	}
	gap := askGap
	if l.retry > 0 {
		gap = l.retry
	}
	wait = l.asked.Add(gap).Sub(x.f.cfg.Now())
	l.asked = x.f.cfg.Now().Add(max(wait, 0))
	return asked, max(wait, 0)
}

// ask gets the peer's summary.
func (x *Exchange) ask(ctx context.Context, peer string, asked uint64, wait time.Duration) {
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	known := x.f.cfg.Known
	a, err := x.f.cfg.Sessions.Call(ctx, peer, Question{Op: OpAnnounced})
	var stale bool
	if err == nil {
		stale, err = known.Answered(peer, asked, a.Body, nil)
		_ = a.Body.Close() // it was read, or is of no use
	} else {
		_, _ = known.Answered(peer, asked, nil, err)
	}
	if err != nil && ctx.Err() == nil {
		x.f.cfg.Log.Info("a peer did not say what it announces", "event", "overlay.announced", "peer", peer, "error", err)
	}
	if x.settle(peer, err) || stale {
		x.want(peer)
	}
}

// settle remembers how asking the peer ended, and reports whether to ask again:
// messages that came meanwhile are lost with a summary that did not come.
func (x *Exchange) settle(peer string, err error) (again bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.up[peer]
	switch {
	case l == nil:
		return false
	case err == nil:
		l.retry = 0
		return false
	}
	l.retry = min(max(2*l.retry, retryFirst), retryMost)
	return true
}
