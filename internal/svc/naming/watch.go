// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/name"
)

const (
	// keepAlive is how often a quiet watch says that it lives.
	keepAlive = 15 * time.Second
	// watchBatch is how many changes a watch reads at one moment.
	watchBatch = 256
)

// hub wakes the watches of a tenant.
type hub struct {
	mu    sync.Mutex
	rooms map[macronode.TenantID]*room // of tenants that are watched; guarded by mu
}

type room struct {
	watches int
	changed chan struct{} // closed at the next change
}

func (h *hub) enter(t macronode.TenantID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rooms == nil {
		h.rooms = make(map[macronode.TenantID]*room)
	}
	r := h.rooms[t]
	if r == nil {
		r = &room{changed: make(chan struct{})}
		h.rooms[t] = r
	}
	r.watches++
}

func (h *hub) leave(t macronode.TenantID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rooms[t]; r != nil {
		if r.watches--; r.watches == 0 {
			delete(h.rooms, t)
		}
	}
}

// next returns the channel that is closed at the tenant's next change. Who entered
// takes it before looking for changes, and so misses none.
func (h *hub) next(t macronode.TenantID) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rooms[t].changed
}

func (h *hub) wake(t macronode.TenantID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rooms[t]; r != nil {
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

func (s *Service) watch(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("prefix", "cursor"); err != nil {
		return nil, err
	}
	w := &watching{s: s, tenant: a.Tenant.ID}
	var err error
	if w.prefix, err = name.Prefix(a.Arg("prefix")); err != nil {
		return nil, s.refused(err)
	}
	var head uint64
	err = s.kv.View(ctx, func(r store.Reader) error {
		u, err := getTotals(r, a.Tenant.ID)
		head = u.seq
		return err
	})
	if err != nil {
		return nil, s.storeError(err)
	}
	cursor := a.Arg("cursor")
	if cursor == "" {
		cursor = a.Header.Get("Last-Event-Id")
	}
	w.at = head
	if cursor != "" {
		if w.at, err = macronode.ParseNumber("cursor", cursor, 0, 1<<62); err != nil {
			return nil, err
		}
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	s.hub.enter(w.tenant)
	s.m.watches.Inc()
	return &macronode.Reply{Status: 200, ContentType: typeEvents, Stream: w, Length: -1, Header: macronode.Header{"Cache-Control": {"no-store"}}}, nil
}

// watching is the stream of one watch.
type watching struct {
	s      *Service
	tenant macronode.TenantID
	prefix string
	ctx    context.Context // of the call
	cancel context.CancelFunc
	at     uint64 // the change that was told last

	w io.Writer
	n int64
	b []byte
}

// WriteTo implements macronode.Stream. The end of the call is the stream's ordinary
// end.
func (w *watching) WriteTo(to io.Writer) (int64, error) {
	w.w = to
	// At once, so that the client knows that it is connected, and from where to go on.
	w.b = append(w.b[:0], "retry: 1000\n\n"...)
	w.event("start", fmt.Sprintf(`{"cursor":"%d"}`, w.at))
	err := w.flush()
	for err == nil && w.ctx.Err() == nil {
		changed := w.s.hub.next(w.tenant)
		var more bool
		if more, err = w.read(); err != nil {
			break
		}
		if len(w.b) > 0 {
			err = w.flush()
		}
		if err == nil && !more {
			err = w.wait(changed)
		}
	}
	if w.ctx.Err() != nil {
		err = nil
	}
	return w.n, err
}

// wait waits for a change, and says from time to time that the watch lives. The id
// goes with that: changes of other names than those watched count too.
func (w *watching) wait(changed <-chan struct{}) error {
	t := time.NewTimer(keepAlive)
	defer t.Stop()
	select {
	case <-changed:
		return nil
	case <-w.ctx.Done():
		return nil
	case <-t.C:
		w.b = fmt.Appendf(w.b[:0], "id: %d\n: still here\n\n", w.at)
		return w.flush()
	}
}

// read renders the changes after the last one told, at most watchBatch; more says
// that there may be others. Of a name that changed more than once since, versions
// that are forgotten are left out: its latest is there.
func (w *watching) read() (more bool, err error) {
	lo, hi := seqKey(w.tenant, keyChange, w.at+1), after(key(w.tenant, keyChange))
	at := w.at
	err = w.s.kv.View(w.ctx, func(r store.Reader) error {
		w.b, w.at, more = w.b[:0], at, false
		u, err := getTotals(r, w.tenant)
		if err != nil {
			return err
		}
		if w.at > u.seq || u.seq-w.at > keepChanges {
			// The tenant's changes begin later, or never came so far.
			w.at = u.seq
			w.event("reset", fmt.Sprintf(`{"cursor":"%d"}`, w.at))
			return nil
		}
		n := 0
		var bad error
		err = r.Scan(lo, hi, func(k, v []byte) bool {
			var c change
			if c, bad = decodeChange(v); bad != nil {
				return false
			}
			w.at = binary.BigEndian.Uint64(k[len(k)-8:])
			if strings.HasPrefix(c.name, w.prefix) {
				bad = w.tell(r, &c)
			}
			n++
			more = n == watchBatch
			return bad == nil && !more
		})
		return errors.Join(err, bad)
	})
	return more, w.s.storeError(err)
}

func (w *watching) tell(r store.Reader, c *change) error {
	b, err := read(r, versionKey(w.tenant, c.name, c.version))
	if err != nil || b == nil {
		return err
	}
	rec, err := decodeRecord(b)
	if err != nil {
		return err
	}
	kind := "set"
	if c.deleted {
		kind = "delete"
	}
	w.event(kind, string(appendDocument(nil, c.name, &rec)))
	return nil
}

func (w *watching) event(kind, data string) {
	w.b = fmt.Appendf(w.b, "id: %d\nevent: %s\ndata: %s\n\n", w.at, kind, data)
}

func (w *watching) flush() error {
	m, err := w.w.Write(w.b)
	w.n += int64(m)
	if f, ok := w.w.(macronode.Flusher); ok && err == nil {
		err = f.Flush()
	}
	return err
}

// Close implements macronode.Stream.
func (w *watching) Close() error {
	w.cancel()
	w.s.hub.leave(w.tenant)
	w.s.m.watches.Dec()
	return nil
}
