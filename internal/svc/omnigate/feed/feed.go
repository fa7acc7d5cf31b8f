// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/vertex"
)

// Name is the facet's.
const Name = "feed"

// Graph is what the facet needs of the graph: who follows.
type Graph interface {
	// Followers lists those that follow the vertex, at most most of them, beginning
	// behind the place after (nil: with the first). A nil next says that these were
	// the last. Pages come in one order, and nobody stands in two.
	Followers(ctx context.Context, t macronode.TenantID, of vertex.Vertex, after []byte, most int) (who []vertex.Vertex, next []byte, err error)
}

// Settings change live.
type Settings struct {
	MaxEntries int   // in a timeline, and posts of an author
	MaxPosts   int64 // of a tenant
	MaxPending int64 // posts of a tenant on their way
}

// Validate says what makes no sense.
func (s Settings) Validate() error {
	if s.MaxEntries < 1 || s.MaxPosts < 1 || s.MaxPending < 1 {
		return fmt.Errorf("feed: limits out of range: %d entries, %d posts, %d on their way", s.MaxEntries, s.MaxPosts, s.MaxPending)
	}
	return nil
}

// Config is what the facet works with. KV, Idem and Graph are required.
type Config struct {
	KV       store.KV
	Idem     *idem.Keeper
	Graph    Graph
	Settings Settings
	// Normal makes a name normal or refuses it; nil: see vertex.Parse.
	Normal  func(name string) (string, error)
	Metrics *Metrics         // nil: nothing is counted
	Log     *slog.Logger     // nil: nothing is logged
	Now     func() time.Time // nil: time.Now
}

// Facet is the feed.
type Facet struct {
	kv       store.KV
	idem     *idem.Keeper
	graph    Graph
	normal   func(name string) (string, error)
	m        *Metrics
	log      *slog.Logger
	now      func() time.Time
	settings atomic.Pointer[Settings]
	ids      ids
	queue    queue
	hub      hub
}

// New returns the facet. Its work is done while Serve runs.
func New(c Config) (*Facet, error) {
	if c.KV == nil || c.Idem == nil || c.Graph == nil {
		return nil, errors.New("feed: KV, Idem and Graph are required")
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	f := &Facet{kv: c.KV, idem: c.Idem, graph: c.Graph, normal: c.Normal, m: c.Metrics, log: c.Log.With("facet", Name), now: c.Now}
	f.queue.wake = make(chan struct{}, 1)
	f.m.watch(&f.queue, c.Now)
	return f, f.SetSettings(c.Settings)
}

// SetSettings makes v hold for calls and deliveries that begin from now on.
func (f *Facet) SetSettings(v Settings) error {
	if err := v.Validate(); err != nil {
		return err
	}
	f.settings.Store(&v)
	return nil
}

// Name is the facet's.
func (f *Facet) Name() string { return Name }

// Ready returns nil while the facet can work.
func (f *Facet) Ready(ctx context.Context) error { return f.kv.Check(ctx) }

// purgeBatch bounds a transaction of Purge, in keys.
const purgeBatch = 512

// Purge drops everything of a tenant that is being deleted.
func (f *Facet) Purge(ctx context.Context, t macronode.TenantID) error {
	f.queue.forget(t)
	lo := tenantKeys(t)
	for {
		n := 0
		err := f.kv.Reclaim(ctx, func(tx store.Tx) (err error) {
			n, err = store.DeleteRange(tx, lo, store.After(lo), purgeBatch)
			return err
		})
		if err != nil {
			return store.Refusal(err)
		}
		if n < purgeBatch {
			return nil
		}
	}
}
