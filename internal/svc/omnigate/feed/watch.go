// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/vertex"
)

const (
	// watchRoom is how many posts wait for a watch before it is told that it lags.
	watchRoom = 256
	// watchMemory is how many posts a watch remembers to have shown.
	watchMemory = 4096
	// keepAlive is how often a quiet watch says that it lives.
	keepAlive = 15 * time.Second
)

// place names a timeline.
type place struct {
	tenant macronode.TenantID
	of     vertex.Vertex
}

// hub knows who watches which timeline.
type hub struct {
	mu   sync.Mutex
	subs map[place]map[*sub]struct{}
}

// sub is one watch.
type sub struct {
	posts chan ulid.ULID
	lost  chan struct{} // capacity 1: posts had no room
}

func (h *hub) join(p place) *sub {
	s := &sub{posts: make(chan ulid.ULID, watchRoom), lost: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[place]map[*sub]struct{}{}
	}
	if h.subs[p] == nil {
		h.subs[p] = map[*sub]struct{}{}
	}
	h.subs[p][s] = struct{}{}
	return s
}

func (h *hub) leave(p place, s *sub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if delete(h.subs[p], s); len(h.subs[p]) == 0 {
		delete(h.subs, p)
	}
}

// tell tells watches that a post came into these timelines.
func (h *hub) tell(t macronode.TenantID, who []vertex.Vertex, id ulid.ULID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subs) == 0 {
		return
	}
	for _, v := range who {
		for s := range h.subs[place{t, v}] {
			select {
			case s.posts <- id:
				continue
			default:
			}
			select {
			case s.lost <- struct{}{}:
			default:
			}
		}
	}
}

func (f *Facet) watch(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("id"); err != nil {
		return nil, err
	}
	v, err := vertex.Parse(a.Arg("id"), f.normal)
	if err != nil {
		return nil, err
	}
	w := &watch{f: f, ctx: ctx, at: place{a.Tenant.ID, v}, seen: map[ulid.ULID]struct{}{}}
	if text := a.Header.Get("Last-Event-Id"); text != "" {
		if w.last, err = ulid.ParseStrict(text); err != nil {
			return nil, macronode.Errorf(macronode.Malformed, "Last-Event-ID is no post_id")
		}
		w.behind = true
	}
	w.sub = f.hub.join(w.at) // before anything is read: nothing falls between
	f.m.watches.Inc()
	h := macronode.Header{}
	h.Set("Cache-Control", "no-store")
	return &macronode.Reply{ContentType: "text/event-stream", Length: -1, Header: h, Stream: w}, nil
}

// watch is a timeline's new posts as server-sent events. It belongs to the
// goroutine that writes it.
type watch struct {
	f   *Facet
	ctx context.Context // of the call
	at  place
	sub *sub

	last   ulid.ULID // the greatest that was shown
	behind bool      // what is newer than last is to be read first
	seen   map[ulid.ULID]struct{}
	order  []ulid.ULID // of seen
}

// WriteTo implements macronode.Stream. The end of the call is its ordinary end.
func (w *watch) WriteTo(to io.Writer) (n int64, err error) {
	send := func(b []byte) error {
		m, err := to.Write(b)
		n += int64(m)
		if fl, ok := to.(macronode.Flusher); ok && err == nil {
			err = fl.Flush()
		}
		return err
	}
	// At once, so that the client knows that it is connected.
	if err := send([]byte("retry: 1000\n\n")); err != nil {
		return n, err
	}
	if w.behind {
		if err := w.catchUp(send); err != nil {
			return n, w.ended(err)
		}
	}
	quiet := time.NewTimer(keepAlive)
	defer quiet.Stop()
	for {
		quiet.Reset(keepAlive)
		select {
		case <-w.ctx.Done():
			return n, nil
		case id := <-w.sub.posts:
			err = w.show(id, send)
		case <-w.sub.lost:
			w.f.m.lagged.Inc()
			if err = send([]byte("event: lost\ndata: {}\n\n")); err == nil && w.last != (ulid.ULID{}) {
				err = w.catchUp(send)
			}
		case <-quiet.C:
			err = send([]byte(": still here\n\n"))
		}
		if err != nil {
			return n, w.ended(err)
		}
	}
}

// ended is the error of a stream: the end of the call is none.
func (w *watch) ended(err error) error {
	if w.ctx.Err() != nil {
		return nil
	}
	return err
}

// Close implements macronode.Stream.
func (w *watch) Close() error {
	w.f.hub.leave(w.at, w.sub)
	w.f.m.watches.Dec()
	return nil
}

// catchUp shows what is newer than the last post that was shown, oldest first.
func (w *watch) catchUp(send func([]byte) error) error {
	var ids []ulid.ULID
	base := of(w.at.tenant, timelineKey, w.at.of)
	from := append(append(append([]byte(nil), base...), w.last[:]...), 0)
	err := w.f.kv.View(w.ctx, func(r store.Reader) error {
		ids = nil
		return r.Scan(from, store.After(base), func(k, _ []byte) bool {
			if id, ok := idOf(k, base); ok {
				ids = append(ids, id)
			}
			return true // at most what a timeline has
		})
	})
	if err != nil {
		return store.Refusal(err)
	}
	for _, id := range ids {
		if err := w.show(id, send); err != nil {
			return err
		}
	}
	return nil
}

// show sends a post, once; one that was unpublished is none.
func (w *watch) show(id ulid.ULID, send func([]byte) error) error {
	if _, shown := w.seen[id]; shown {
		return nil
	}
	var p post
	err := w.f.kv.View(w.ctx, func(r store.Reader) (err error) {
		p, err = getPost(r, w.at.tenant, id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return store.Refusal(err)
	}
	w.seen[id] = struct{}{}
	if w.order = append(w.order, id); len(w.order) > watchMemory {
		delete(w.seen, w.order[0])
		w.order = w.order[1:]
	}
	if id.Compare(w.last) > 0 {
		w.last = id
	}
	data, err := json.Marshal(docOf(&p))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "id: %s\nevent: post\ndata: %s\n\n", id, data)
	return send(b.Bytes())
}
