// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
)

const (
	defaultEvents = 100
	maxEvents     = 1024
	// maxSeq is the largest number that every JSON reader keeps exactly.
	maxSeq = 1<<53 - 1
	// keepAlive is how often a quiet stream says that it lives, so that
	// proxies and clients can tell it from a dead one.
	keepAlive = 15 * time.Second
	// streamBatch is how many events go between two flushes.
	streamBatch = 64
)

func (s *Service) events(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("after", "limit"); err != nil {
		return nil, err
	}
	after, err := a.NumberArg("after", 0, 0, maxSeq)
	if err != nil {
		return nil, err
	}
	limit, err := a.NumberArg("limit", defaultEvents, 1, maxEvents)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(a.Header.Get("Accept"), "text/event-stream") {
		return document(200, s.page(after, int(limit)))
	}
	if id := a.Header.Get("Last-Event-Id"); id != "" {
		if after, err = macronode.ParseNumber("Last-Event-ID", id, 0, maxSeq); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	return &macronode.Reply{ContentType: "text/event-stream", Length: -1, Header: noStore(),
		Stream: &eventStream{s: s, ctx: ctx, cancel: cancel, after: after}}, nil
}

func (s *Service) page(after uint64, limit int) EventPage {
	p := EventPage{Events: []Event{}}
	p.Next, p.Lost = s.cfg.Events.Each(after, limit, func(seq uint64, at time.Time, name, service string, attrs map[string]any) {
		p.Events = append(p.Events, Event{Seq: seq, TSMS: at.UnixMilli(), Event: name, Service: service, Attrs: attrs})
	})
	return p
}

// eventStream writes events as server-sent events until its context ends.
type eventStream struct {
	s      *Service
	ctx    context.Context // of the call
	cancel context.CancelFunc
	after  uint64
}

// WriteTo implements macronode.Stream. The end of the call is the stream's
// ordinary end.
func (e *eventStream) WriteTo(w io.Writer) (n int64, err error) {
	send := func(b []byte) error {
		m, err := w.Write(b)
		n += int64(m)
		if f, ok := w.(macronode.Flusher); ok && err == nil {
			err = f.Flush()
		}
		return err
	}
	// At once, so that the client knows that it is connected.
	if err := send([]byte("retry: 1000\n\n")); err != nil {
		return n, err
	}
	for {
		p := e.s.page(e.after, streamBatch)
		if len(p.Events) > 0 {
			e.after = p.Next
			b, err := render(p)
			if err != nil {
				return n, err
			}
			if err := send(b); err != nil {
				return n, err
			}
			continue
		}
		wait, cancel := context.WithTimeout(e.ctx, keepAlive)
		err := e.s.cfg.Events.Wait(wait, e.after)
		cancel()
		switch {
		case e.ctx.Err() != nil:
			return n, nil
		case err != nil:
			if err := send([]byte(": still here\n\n")); err != nil {
				return n, err
			}
		}
	}
}

// Close implements macronode.Stream.
func (e *eventStream) Close() error {
	e.cancel()
	return nil
}

// render makes server-sent events of a page; what was lost comes first.
func render(p EventPage) ([]byte, error) {
	var b bytes.Buffer
	if p.Lost > 0 {
		fmt.Fprintf(&b, "event: lost\ndata: {\"lost\":%d}\n\n", p.Lost)
	}
	for i := range p.Events {
		data, err := json.Marshal(&p.Events[i])
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "id: %d\nevent: %s\ndata: %s\n\n", p.Events[i].Seq, p.Events[i].Event, data)
	}
	return b.Bytes(), nil
}
