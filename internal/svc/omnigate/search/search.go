// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package search is the search facet: it finds a tenant's objects by their text,
// names and metadata.
//
// Every tenant has an index of its own (shelf), so no query can reach, count or
// suggest what is another's. Indexes follow the journal of changes, off the request
// path: every answer says which generation of the index gave it, how far that has
// come, and whether it is complete. An index that is missing or damaged is set aside
// and built again from the stores, while queries get what is there so far and are
// told so.
//
// One goroutine writes: it applies changes in batches that are bounded by number and
// bytes, and between them goes on with whatever index is being built. An index is a
// cache: nothing is kept in it alone, and its loss costs time, not data.
package search

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/journal"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/shelf"
)

// Name is the facet's name in config, policy and metrics.
const Name = "search"

// Consumer is the facet's name in the journal.
const Consumer = "search"

// Defaults of Config.
const (
	// DefaultMaxOpen bounds the indexes that are open at once.
	DefaultMaxOpen = 32
	// DefaultGather is how long changes are gathered before they are indexed.
	DefaultGather = 100 * time.Millisecond
	// DefaultQueryTime bounds one query.
	DefaultQueryTime = 2 * time.Second
)

// Object is what the stores say of a tenant's object.
type Object struct {
	Addr        b3.Addr
	Size        int64
	ContentType string
	CreatedMS   int64
}

// Objects are the tenants' objects as the stores have them.
type Objects interface {
	// Lookup is store.ErrNotFound where the tenant has no such object.
	Lookup(ctx context.Context, t macronode.TenantID, addr b3.Addr) (Object, error)
	// Page returns up to limit objects beyond after in the order of addresses.
	Page(ctx context.Context, t macronode.TenantID, after *b3.Addr, limit int) ([]Object, error)
	// ReadPart returns the first limit bytes, verified: store.ErrNotFound, or
	// store.ErrCorrupt where they are damaged.
	ReadPart(ctx context.Context, t macronode.TenantID, addr b3.Addr, limit int64) ([]byte, error)
	// Tenants calls f with each tenant that has objects until it returns false.
	Tenants(ctx context.Context, f func(macronode.TenantID) bool) error
}

// Named is a name and what it points at.
type Named struct {
	Name string
	Addr b3.Addr
}

// Names are the tenants' names.
type Names interface {
	// Page returns up to limit names beyond after, in their order.
	Page(ctx context.Context, t macronode.TenantID, after string, limit int) ([]Named, error)
	// Tenants calls f with each tenant that has names until it returns false.
	Tenants(ctx context.Context, f func(macronode.TenantID) bool) error
}

// Config is what the facet works with. KV, Journal, Shelf and Objects are required.
type Config struct {
	KV      store.KV
	Journal *journal.Journal
	Shelf   *shelf.Shelf
	Objects Objects
	Names   Names // nil: there are none
	Metrics Metrics
	Log     *slog.Logger     // nil: nothing is logged
	Now     func() time.Time // nil: time.Now
	// MaxOpen, Gather and QueryTime are the defaults above where they are 0.
	MaxOpen   int
	Gather    time.Duration
	QueryTime time.Duration
}

// Facet is the search facet.
type Facet struct {
	c   Config
	log *slog.Logger

	mu    sync.Mutex
	known map[macronode.TenantID]*holding
	open  int // holdings with an open index
	ticks int64

	// build are the tenants whose index is not complete; poke wakes the writer.
	build map[macronode.TenantID]struct{}
	poke  chan struct{}

	// By the writer, read by scrapes and queries.
	cursor  atomic.Uint64
	since   atomic.Uint64 // of the place in the journal
	behind  atomic.Int64  // unix ms of the oldest change that waits; 0: none
	serving atomic.Bool
	lastErr atomic.Pointer[error]
}

// New makes the facet; Serve runs it.
func New(c Config) (*Facet, error) {
	if c.KV == nil || c.Journal == nil || c.Shelf == nil || c.Objects == nil {
		return nil, errors.New("search: KV, Journal, Shelf and Objects are required")
	}
	if c.Names == nil {
		c.Names = nameless{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxOpen <= 0 {
		c.MaxOpen = DefaultMaxOpen
	}
	if c.Gather <= 0 {
		c.Gather = DefaultGather
	}
	if c.QueryTime <= 0 {
		c.QueryTime = DefaultQueryTime
	}
	c.Metrics.fill()
	return &Facet{c: c, log: c.Log.With("service", "omnigate", "facet", Name), known: map[macronode.TenantID]*holding{},
		build: map[macronode.TenantID]struct{}{}, poke: make(chan struct{}, 1)}, nil
}

// Name is the facet's name.
func (f *Facet) Name() string { return Name }

// Ready returns nil while changes are being followed.
func (f *Facet) Ready(context.Context) error {
	if err := f.lastErr.Load(); err != nil {
		return *err
	}
	if !f.serving.Load() {
		return errors.New("search: it does not follow the changes yet")
	}
	return nil
}

// Serve follows the journal until ctx ends. Its indexes are closed when it returns.
func (f *Facet) Serve(ctx context.Context) (err error) {
	defer func() {
		f.serving.Store(false)
		f.closeAll()
		if ctx.Err() != nil {
			err = nil
		}
		if err != nil {
			f.lastErr.Store(&err)
		}
	}()
	place, err := f.c.Journal.Enroll(ctx, Consumer)
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	f.cursor.Store(place.Cursor)
	f.since.Store(place.Since)
	if err := f.survey(ctx); err != nil {
		return fmt.Errorf("search: %w", err)
	}
	f.lastErr.Store(nil)
	f.serving.Store(true)
	return f.follow(ctx)
}

// Leave ends the recording of changes: for a node that does not run the facet. What
// is indexed is built again when it does.
func Leave(ctx context.Context, j *journal.Journal) error { return j.Leave(ctx, Consumer) }

// Lag is how long the oldest change that is not indexed has waited.
func (f *Facet) Lag() time.Duration {
	at := f.behind.Load()
	if at == 0 {
		return 0
	}
	return max(f.c.Now().Sub(time.UnixMilli(at)), 0)
}

// Waiting is how many changes are not indexed yet.
func (f *Facet) Waiting() int {
	head, at := f.c.Journal.Head(), f.cursor.Load()
	if !f.serving.Load() || head <= at {
		return 0
	}
	return int(min(head-at, 1<<31-1))
}

type nameless struct{}

func (nameless) Page(context.Context, macronode.TenantID, string, int) ([]Named, error) {
	return nil, nil
}
func (nameless) Tenants(context.Context, func(macronode.TenantID) bool) error { return nil }
