// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/registry/chain"
	"github.com/rustyonions/macronode/registry"
)

const (
	// keepAlive is how often a quiet stream says that it lives.
	keepAlive = 15 * time.Second
	// watchBatch is how many entries go between two flushes.
	watchBatch = 64
)

// Committed is what a watch says of an entry.
type Committed struct {
	Seq      uint64   `json:"seq"`
	Entry    string   `json:"entry"` // its hash
	TSMS     int64    `json:"ts_ms"`
	Proposal string   `json:"proposal"`
	Title    string   `json:"title"`
	Changes  []string `json:"changes"` // "put node/eu-1"
	Signed   []string `json:"signed"`  // "NAME#vN"
	State    string   `json:"state"`
}

// Changed is what a watch says of a proposal.
type Changed struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Title string `json:"title"`
	// Signatures is how many halves have approved.
	Signatures int    `json:"signatures"`
	Reason     string `json:"reason,omitempty"`
}

func (s *Service) tellOf(h *held) {
	s.news.Add(Changed{ID: h.id.String(), State: h.rec.State, Title: h.p.Title, Signatures: len(h.rec.Approvals), Reason: h.rec.Reason})
}

// watch answers with entries as they are committed, and with changes of proposals.
func (s *Service) watch(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("after"); err != nil {
		return nil, err
	}
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	next := c.State.Size()
	after := a.Arg("after")
	if id := a.Header.Get("Last-Event-Id"); id != "" {
		after = id
	}
	if after != "" {
		n, err := macronode.ParseNumber("after", after, 0, registry.MaxSize)
		if err != nil {
			return nil, err
		}
		next = n + 1
	}
	_, told, _ := s.news.Since(0)
	ctx, cancel := context.WithCancel(ctx)
	return &macronode.Reply{ContentType: "text/event-stream", Length: -1, Header: macronode.Header{"Cache-Control": {"no-store"}},
		Stream: &watcher{s: s, ctx: ctx, cancel: cancel, next: next, told: told}}, nil
}

// watcher writes server-sent events until its context ends.
type watcher struct {
	s      *Service
	ctx    context.Context // of the call
	cancel context.CancelFunc
	next   uint64 // entry
	told   uint64 // change of a proposal
}

// WriteTo implements macronode.Stream. The end of the call is the stream's ordinary
// end.
func (w *watcher) WriteTo(out io.Writer) (n int64, err error) {
	send := func(b []byte) error {
		m, err := out.Write(b)
		n += int64(m)
		if f, ok := out.(macronode.Flusher); ok && err == nil {
			err = f.Flush()
		}
		return err
	}
	if err := send([]byte("retry: 1000\n\n")); err != nil {
		return n, err
	}
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for w.ctx.Err() == nil {
		grown := w.s.news.Wait()
		b, more, err := w.batch()
		if err != nil && w.ctx.Err() == nil {
			return n, err
		}
		if len(b) > 0 {
			if err := send(b); err != nil {
				return n, err
			}
		}
		if more {
			continue
		}
		select {
		case <-grown:
		case <-alive.C:
			if err := send([]byte(": still here\n\n")); err != nil {
				return n, err
			}
		case <-w.ctx.Done():
		}
	}
	return n, nil
}

// Close implements macronode.Stream.
func (w *watcher) Close() error {
	w.cancel()
	return nil
}

// batch is what came since the last one.
func (w *watcher) batch() ([]byte, bool, error) {
	var b bytes.Buffer
	list, told, lost := w.s.news.Since(w.told)
	w.told = told
	if lost > 0 {
		fmt.Fprintf(&b, "event: lost\ndata: {\"lost\":%d}\n\n", lost)
	}
	for i := range list {
		data, err := json.Marshal(&list[i])
		if err != nil {
			return nil, false, err
		}
		fmt.Fprintf(&b, "event: proposal\ndata: %s\n\n", data)
	}
	c := w.s.chain.Load()
	if c == nil {
		return b.Bytes(), false, nil
	}
	w.next = max(w.next, c.First)
	end := min(c.State.Size(), w.next+watchBatch)
	var bad error
	err := w.s.kv.View(w.ctx, func(r store.Reader) error {
		return r.Scan(chain.EntryKey(w.next), chain.EntryKey(end), func(_, v []byte) bool {
			var data []byte
			if data, bad = describe(v); bad != nil {
				return false
			}
			fmt.Fprintf(&b, "id: %d\nevent: entry\ndata: %s\n\n", w.next, data)
			w.next++
			return true
		})
	})
	if err == nil {
		err = bad
	}
	return b.Bytes(), w.next < c.State.Size() && err == nil, err
}

func describe(text []byte) ([]byte, error) {
	e, err := registry.ParseEntry(text)
	if err != nil {
		return nil, chain.Corrupt("an entry: %v", err)
	}
	id, err := e.Proposal.Addr()
	if err != nil {
		return nil, err
	}
	out := Committed{Seq: e.Seq, Entry: b3.Sum(text).String(), TSMS: e.TSMS, Proposal: id.String(), Title: e.Proposal.Title, Changes: []string{}, Signed: []string{}, State: e.State}
	for i := range e.Proposal.Changes {
		c := &e.Proposal.Changes[i]
		line := string(c.Op)
		if c.Op != registry.OpCheckpoint {
			line += " " + c.Key().String()
		}
		out.Changes = append(out.Changes, line)
	}
	for _, sig := range e.Signatures {
		if name := keyNameOf(sig.KeyID); len(out.Signed) == 0 || out.Signed[len(out.Signed)-1] != name {
			out.Signed = append(out.Signed, name)
		}
	}
	return json.Marshal(out)
}
