// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/shelf"
)

// View is how far a tenant's index has come.
type View struct {
	Generation uint64
	Through    uint64
	Complete   bool
}

// holding is a tenant's index, open or not.
type holding struct {
	tenant macronode.TenantID

	// mu is held for reading while the index is used, for writing while it is
	// opened, closed or replaced.
	mu  sync.RWMutex
	idx *shelf.Index
	rec record

	view atomic.Pointer[View] // nil: not known
	used atomic.Int64         // Facet.ticks of the last use

	turn    sync.Mutex
	changed chan struct{} // closed when view changes
}

// publish makes v the view, and wakes who waits for it.
func (h *holding) publish(v View) {
	h.turn.Lock()
	defer h.turn.Unlock()
	h.view.Store(&v)
	close(h.changed)
	h.changed = make(chan struct{})
}

// watch returns the view, and a channel that is closed when it changes.
func (h *holding) watch() (*View, <-chan struct{}) {
	h.turn.Lock()
	defer h.turn.Unlock()
	return h.view.Load(), h.changed
}

func (f *Facet) holding(t macronode.TenantID) *holding {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.known[t]
	if h == nil {
		h = &holding{tenant: t, changed: make(chan struct{})}
		f.known[t] = h
	}
	f.ticks++
	h.used.Store(f.ticks)
	return h
}

// enough bounds how often an index that is found damaged is opened again in one use.
const enough = 3

// use runs do with the tenant's index, which is opened or begun where it is not.
// Damage that do meets replaces the index by a new one, and do runs again.
func (f *Facet) use(ctx context.Context, t macronode.TenantID, do func(h *holding, x *shelf.Index) error) error {
	h := f.holding(t)
	var err error
	for range enough {
		if err = f.opened(ctx, h); err != nil {
			return err
		}
		h.mu.RLock()
		x := h.idx
		if x == nil { // closed since
			h.mu.RUnlock()
			continue
		}
		err = do(h, x)
		h.mu.RUnlock()
		if !errors.Is(err, shelf.ErrDamaged) {
			return err
		}
		f.log.Warn("a search index is damaged", "event", "search_damaged", "tenant", t.String(), "error", err)
		if err := f.replace(ctx, h, x); err != nil {
			return err
		}
	}
	if err == nil {
		err = errors.New("search: the index is closed again and again")
	}
	return err
}

// opened sees to it that h has an open index.
func (f *Facet) opened(ctx context.Context, h *holding) error {
	h.mu.RLock()
	ok := h.idx != nil
	h.mu.RUnlock()
	if ok {
		return nil
	}
	f.makeRoom(h)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.idx != nil {
		return nil
	}
	rec, err := f.record(ctx, h.tenant)
	if err != nil {
		return err
	}
	if rec.generation == 0 || rec.base < f.since.Load() {
		return f.begin(ctx, h, rec)
	}
	x, err := f.c.Shelf.Open(h.tenant, rec.generation)
	if err == nil && x.Meta().Through < rec.through {
		// An older state of it has come back: changes are missing that the journal
		// has no more.
		err = errors.Join(shelf.ErrDamaged, x.Close())
	}
	if errors.Is(err, shelf.ErrDamaged) {
		f.log.Warn("a search index cannot be opened", "event", "search_damaged", "tenant", h.tenant.String(), "error", err)
		return f.begin(ctx, h, rec)
	}
	if err != nil {
		return err
	}
	f.took(h, x, rec)
	return nil
}

// took makes x the open index of h. h.mu is held.
func (f *Facet) took(h *holding, x *shelf.Index, rec record) {
	h.idx, h.rec = x, rec
	m := x.Meta()
	h.publish(View{m.Generation, m.Through, m.Phase == shelf.Complete})
	f.mu.Lock()
	f.open++
	f.c.Metrics.open.Set(float64(f.open))
	f.mu.Unlock()
	if m.Phase != shelf.Complete {
		f.enqueue(h.tenant)
	}
}

// begin makes a new, empty index in the place of the one that rec names, which is
// closed. h.mu is held.
func (f *Facet) begin(ctx context.Context, h *holding, old record) error {
	if old.generation > 0 {
		if err := f.c.Shelf.SetAside(h.tenant, old.generation); err != nil {
			return err
		}
		f.c.Metrics.rebuilt.Inc()
	}
	base := f.c.Journal.Head()
	through, err := f.c.Journal.Count(ctx, h.tenant)
	if err != nil {
		return err
	}
	rec := record{generation: old.generation + 1, base: base, through: through}
	// The record comes first: a crash in between leaves a generation that is not
	// there, which is begun again.
	if err := f.setRecord(ctx, h.tenant, rec); err != nil {
		return err
	}
	x, err := f.c.Shelf.Create(h.tenant, shelf.NewMeta(rec.generation, base, through))
	if err != nil {
		return err
	}
	f.took(h, x, rec)
	return nil
}

// replace begins a new index where x, which was found damaged, is still h's.
func (f *Facet) replace(ctx context.Context, h *holding, x *shelf.Index) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.idx != x {
		return nil
	}
	rec := h.rec
	f.shut(h)
	return f.begin(ctx, h, rec)
}

// shut closes the index of h. h.mu is held.
func (f *Facet) shut(h *holding) {
	if h.idx == nil {
		return
	}
	if err := h.idx.Close(); err != nil {
		f.log.Warn("a search index cannot be closed", "event", "search_close", "tenant", h.tenant.String(), "error", err)
	}
	h.idx = nil
	f.mu.Lock()
	f.open--
	f.c.Metrics.open.Set(float64(f.open))
	f.mu.Unlock()
}

// makeRoom closes the index that was not used for the longest time, where too many are
// open. One in use is left alone.
func (f *Facet) makeRoom(but *holding) {
	for range enough {
		f.mu.Lock()
		var oldest *holding
		if f.open >= f.c.MaxOpen {
			for _, h := range f.known {
				if h != but && (oldest == nil || h.used.Load() < oldest.used.Load()) && h.mu.TryRLock() {
					if h.idx != nil {
						oldest = h
					}
					h.mu.RUnlock()
				}
			}
		}
		f.mu.Unlock()
		if oldest == nil {
			return
		}
		if oldest.mu.TryLock() {
			f.shut(oldest)
			oldest.mu.Unlock()
		}
	}
}

func (f *Facet) closeAll() {
	f.mu.Lock()
	list := make([]*holding, 0, len(f.known))
	for _, h := range f.known {
		list = append(list, h)
	}
	f.mu.Unlock()
	for _, h := range list {
		h.mu.Lock()
		f.shut(h)
		h.mu.Unlock()
	}
}

// Purge removes the tenant's index. It may be repeated; changes that are still to come
// begin a new one, which the journal's own word of the purge removes.
func (f *Facet) Purge(ctx context.Context, t macronode.TenantID) error {
	h := f.holding(t)
	h.mu.Lock()
	defer h.mu.Unlock()
	f.shut(h)
	if err := f.c.Shelf.Remove(t); err != nil {
		return err
	}
	if err := f.dropRecord(ctx, t); err != nil {
		return err
	}
	h.rec = record{}
	h.view.Store(nil)
	f.built(t)
	return nil
}

// enqueue has the writer go on building the tenant's index.
func (f *Facet) enqueue(t macronode.TenantID) {
	f.mu.Lock()
	f.build[t] = struct{}{}
	f.c.Metrics.building.Set(float64(len(f.build)))
	f.mu.Unlock()
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

func (f *Facet) built(t macronode.TenantID) {
	f.mu.Lock()
	delete(f.build, t)
	f.c.Metrics.building.Set(float64(len(f.build)))
	f.mu.Unlock()
}

// next is a tenant whose index is not complete.
func (f *Facet) next() (t macronode.TenantID, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for t := range f.build {
		return t, true // any: the map's order is as fair as another
	}
	return t, false
}
