// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/listen/oapd"
	"github.com/rustyonions/macronode/internal/svc/overlay/announce"
	"github.com/rustyonions/macronode/internal/svc/overlay/fetch"
	"github.com/rustyonions/macronode/internal/svc/storage"
)

// elsewhere fits the exchange of objects with peers to storage.
type elsewhere struct {
	asks     atomic.Bool                    // fetch_on_miss
	sessions atomic.Pointer[fetch.Sessions] // nil: there is no overlay yet
	book     *announce.Book
	known    *announce.Known
	fetcher  *fetch.Fetcher
	holder   *fetch.Holder
	*fetch.Exchange
}

var _ storage.Elsewhere = (*elsewhere)(nil)

// makeElsewhere makes what announces, finds and gives objects. Nothing does before
// there are secrets, which set hands over.
func (n *Node) makeElsewhere(c *config.Config) error {
	secrets, err := n.announceSecrets(c)
	if err != nil {
		return err
	}
	e := &elsewhere{book: announce.NewBook(secrets, 0), known: announce.NewKnown(fetch.TTL, nil)}
	m := fetch.NewMetrics(n.metrics)
	n.metrics.GaugeFunc("overlay_announced_objects", "Objects that this node announces to its peers.", func() float64 { return float64(e.book.Len()) })
	n.metrics.GaugeFunc("overlay_known_objects", "Objects that peers announced to this node.", func() float64 { return float64(e.known.Len()) })
	e.fetcher, err = fetch.New(fetch.Config{
		Node: n.nodeID, Sessions: lateSessions{e}, Known: e.known, Guard: objectGuard,
		MaxObject: func() int64 { return int64(n.config().Limits.MaxObjectBytes) },
		Metrics:   m, Log: n.log, Audit: n.audit,
	})
	if err != nil {
		return err
	}
	e.holder = fetch.NewHolder(oapd.Name, n.nodeID, localObjects{n}, e.book, m)
	e.Exchange = fetch.NewExchange(e.fetcher, e.holder, e.book, func(ctx context.Context, f func(macronode.TenantID, b3.Addr) bool) error {
		return n.storage.EachReference(ctx, f)
	})
	e.set(secrets, c.OAP.FetchOnMiss)
	n.elsewhere = e
	return nil
}

// announceSecrets reads what the config names; nil where it names nothing.
func (n *Node) announceSecrets(c *config.Config) (*announce.Secrets, error) {
	ref := c.OAP.AnnounceSecrets
	if ref.IsZero() {
		return nil, nil
	}
	text, _, err := n.keys.Object(ref)
	if err != nil {
		return nil, datadir.Exitf(macronode.ExitConfig, "oap.announce_secrets: %w", err)
	}
	defer clear(text)
	s, err := announce.ParseSecrets(text)
	if err != nil {
		return nil, datadir.Exitf(macronode.ExitConfig, "oap.announce_secrets: %s: %w", ref, err)
	}
	return s, nil
}

// set makes secrets and switch hold.
func (e *elsewhere) set(s *announce.Secrets, asks bool) {
	e.asks.Store(asks)
	e.SetSecrets(s)
}

// Stored implements storage.Elsewhere.
func (e *elsewhere) Stored(t macronode.TenantID, a b3.Addr) { e.book.Stored(t, a) }

// Dropped implements storage.Elsewhere.
func (e *elsewhere) Dropped(t macronode.TenantID, a b3.Addr) { e.book.Dropped(t, a) }

// Find implements storage.Elsewhere.
func (e *elsewhere) Find(ctx context.Context, t macronode.TenantID, a b3.Addr, first storage.Want) (storage.Remote, error) {
	if !e.asks.Load() {
		return nil, macronode.Errorf(macronode.NotFound, "there is no such object")
	}
	o, err := e.fetcher.Find(ctx, t, a, fetch.Want(first))
	if err != nil {
		return nil, err
	}
	return remote{o}, nil
}

// remote is a fetch.Object as storage wants it.
type remote struct{ *fetch.Object }

// Open implements storage.Remote.
func (r remote) Open(ctx context.Context, w storage.Want) (macronode.Stream, error) {
	return r.Object.Open(ctx, fetch.Want(w))
}

// localObjects is storage as the answering side wants it.
type localObjects struct{ n *Node }

// Local implements fetch.Objects.
func (l localObjects) Local(ctx context.Context, t macronode.TenantID, a b3.Addr) (fetch.Local, error) {
	o, err := l.n.storage.Local(ctx, t, a)
	if err != nil {
		return nil, err
	}
	return o, nil
}

// objectGuard holds questions for objects back from a peer that does not deliver. It is
// not the breaker of the peer's session: revocations must come through where objects
// do not.
func objectGuard(string) fetch.Guard {
	return objectBreaker{breaker.New(breaker.Config{Failures: objectFailures, Judge: breaker.Strict})}
}

// objectFailures in a row hold questions for objects back.
const objectFailures = 5

type objectBreaker struct{ b *breaker.Breaker }

// Enter implements fetch.Guard.
func (o objectBreaker) Enter() (func(error), error) {
	pass, err := o.b.Enter()
	if err != nil {
		return nil, err
	}
	return pass.Leave, nil
}

var errNoOverlay = errors.New("there is no session with this node")

// lateSessions are the overlay's, which is made after storage.
type lateSessions struct{ e *elsewhere }

// Call implements fetch.Sessions.
func (l lateSessions) Call(ctx context.Context, peer string, q fetch.Question) (*fetch.Answer, error) {
	if s := l.e.sessions.Load(); s != nil {
		return (*s).Call(ctx, peer, q)
	}
	return nil, errNoOverlay
}

// Tell implements fetch.Sessions.
func (l lateSessions) Tell(payload []byte) {
	if s := l.e.sessions.Load(); s != nil {
		(*s).Tell(payload)
	}
}

// Penalise implements fetch.Sessions.
func (l lateSessions) Penalise(peer, why string) {
	if s := l.e.sessions.Load(); s != nil {
		(*s).Penalise(peer, why)
	}
}
