// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"io"
	"strconv"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

const (
	// keepAlive is how often a quiet stream says that it lives.
	keepAlive = 15 * time.Second
	// tailBatch is how many records go between two flushes.
	tailBatch = 64
)

// tail answers with records as they become durable.
func (s *Service) tail(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("stream", "after", "from"); err != nil {
		return nil, err
	}
	t, err := s.open()
	if err != nil {
		return nil, err
	}
	stream, err := streamOf(a, a.Arg("stream"))
	if err != nil {
		return nil, err
	}
	next := t.Durable()
	if from := a.Arg("from"); from != "" {
		n, err := strconv.ParseUint(from, 10, 64)
		if err != nil || n > tlog.MaxTreeSize {
			return nil, macronode.Errorf(macronode.Malformed, "from is the index of a record")
		}
		next = n
	}
	after := a.Arg("after")
	if id := a.Header.Get("Last-Event-Id"); id != "" {
		after = id
	}
	if after != "" {
		n, err := strconv.ParseUint(after, 10, 64)
		if err != nil || n > tlog.MaxTreeSize {
			return nil, macronode.Errorf(macronode.Malformed, "after is the index of a record")
		}
		next = n + 1
	}
	ctx, cancel := context.WithCancel(ctx)
	return &macronode.Reply{ContentType: "text/event-stream", Length: -1, Header: macronode.Header{"Cache-Control": {"no-store"}},
		Stream: &follower{ctx, cancel, t, tree.Query{Stream: stream, From: next, Limit: tailBatch}}}, nil
}

// follower writes records as server-sent events until its context ends.
type follower struct {
	ctx    context.Context // of the call
	cancel context.CancelFunc
	t      *tree.Tree
	q      tree.Query
}

// WriteTo implements macronode.Stream. The end of the call is the stream's
// ordinary end.
func (f *follower) WriteTo(w io.Writer) (n int64, err error) {
	send := func(b []byte) error {
		m, err := w.Write(b)
		n += int64(m)
		if fl, ok := w.(macronode.Flusher); ok && err == nil {
			err = fl.Flush()
		}
		return err
	}
	if err := send([]byte("retry: 1000\n\n")); err != nil {
		return n, err
	}
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for f.ctx.Err() == nil {
		grown := f.t.Grown()
		rows, next, more, err := f.t.Query(f.ctx, f.q)
		if err != nil && f.ctx.Err() == nil {
			return n, err
		}
		f.q.From = max(f.q.From, next)
		if len(rows) > 0 {
			if err := send(render(rows)); err != nil {
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
		case <-f.ctx.Done():
		}
	}
	return n, nil
}

// Close implements macronode.Stream.
func (f *follower) Close() error {
	f.cancel()
	return nil
}

func render(rows []tree.Row) (b []byte) {
	for i := range rows {
		b = append(b, "id: "...)
		b = strconv.AppendUint(b, rows[i].Record.Seq, 10)
		b = append(b, "\nevent: record\ndata: "...)
		b = append(b, rows[i].Entry...)
		b = append(b, "\n\n"...)
	}
	return b
}
