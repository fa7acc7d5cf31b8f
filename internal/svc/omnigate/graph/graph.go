// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package graph

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
const Name = "graph"

// FollowType is the type of the edges that feeds go along: from who follows to who
// is followed.
const FollowType = "follow"

const (
	// putBatch bounds a transaction of edges, which other writers wait for.
	putBatch = 128
	// purgeBatch bounds one of Purge, in keys.
	purgeBatch = 512
)

// Settings change live.
type Settings struct {
	MaxEdges int64 // of a tenant
}

// Validate says what makes no sense.
func (s Settings) Validate() error {
	if s.MaxEdges < 1 {
		return fmt.Errorf("graph: %d edges a tenant, one is the least", s.MaxEdges)
	}
	return nil
}

// Config is what the facet works with. KV and Idem are required.
type Config struct {
	KV       store.KV
	Idem     *idem.Keeper
	Settings Settings
	// Normal makes a name normal or refuses it; nil: see vertex.Parse.
	Normal  func(name string) (string, error)
	Metrics *Metrics         // nil: nothing is counted
	Log     *slog.Logger     // nil: nothing is logged
	Now     func() time.Time // nil: time.Now
}

// Facet is the graph.
type Facet struct {
	kv       store.KV
	idem     *idem.Keeper
	normal   func(name string) (string, error)
	m        *Metrics
	log      *slog.Logger
	now      func() time.Time
	settings atomic.Pointer[Settings]
}

// New returns the facet.
func New(c Config) (*Facet, error) {
	if c.KV == nil || c.Idem == nil {
		return nil, errors.New("graph: KV and Idem are required")
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
	f := &Facet{kv: c.KV, idem: c.Idem, normal: c.Normal, m: c.Metrics, log: c.Log.With("facet", Name), now: c.Now}
	return f, f.SetSettings(c.Settings)
}

// SetSettings makes v hold for calls that begin from now on.
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

// Serve counts what is stored and waits for the end: all work is done in calls.
func (f *Facet) Serve(ctx context.Context) error {
	total, err := f.total(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	f.m.edges.Store(total)
	<-ctx.Done()
	return nil
}

// total is how many edges all tenants have. It looks at one key a tenant.
func (f *Facet) total(ctx context.Context) (n int64, err error) {
	err = f.kv.View(ctx, func(r store.Reader) error {
		n = 0
		for lo, hi := []byte(prefix), store.After([]byte(prefix)); lo != nil; {
			var t macronode.TenantID
			found := false
			err := r.Scan(lo, hi, func(key, _ []byte) bool {
				found = copy(t[:], key[len(prefix):]) == len(t)
				return false
			})
			if err != nil || !found {
				return err
			}
			c, err := getCounts(r, t)
			if err != nil {
				return err
			}
			n += c.Edges
			lo = store.After(tenantKeys(t))
		}
		return nil
	})
	return n, err
}

// Purge drops everything of a tenant that is being deleted.
func (f *Facet) Purge(ctx context.Context, t macronode.TenantID) error {
	lo := tenantKeys(t)
	for {
		n, edges := 0, int64(0)
		err := f.kv.Reclaim(ctx, func(tx store.Tx) error {
			c, err := getCounts(tx, t)
			if err != nil {
				return err
			}
			// The count is the first to go: a crash in between leaves keys, and this
			// is called again.
			edges = c.Edges
			if err := setCounts(tx, t, Counts{}); err != nil {
				return err
			}
			n, err = store.DeleteRange(tx, lo, store.After(lo), purgeBatch)
			return err
		})
		if err != nil {
			return store.Refusal(err)
		}
		f.m.edges.Add(-edges)
		if n < purgeBatch {
			return nil
		}
	}
}

// Followers lists who has an edge of type follow to the vertex, at most most of
// them, beginning behind the place after (nil: with the first), which is the one that
// the page before gave. A nil place says that there are no more.
func (f *Facet) Followers(ctx context.Context, t macronode.TenantID, of vertex.Vertex, after []byte, most int) (who []vertex.Vertex, next []byte, err error) {
	s := side{tenant: t, dir: In, of: of, typ: FollowType}
	err = f.kv.View(ctx, func(r store.Reader) error {
		who, next = nil, nil
		return s.each(r, after, func(e Edge, place []byte) bool {
			who = append(who, e.From)
			if len(who) == most {
				next = append([]byte(nil), place...)
			}
			return len(who) < most
		})
	})
	return who, next, store.Refusal(err)
}
