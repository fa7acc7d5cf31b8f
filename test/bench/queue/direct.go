// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
	"github.com/rustyonions/macronode/test/bench/drive"
	"github.com/rustyonions/macronode/test/bench/report"
)

// SendDirect sends one message a call over a session of OAP/1 with nothing of a
// client above it, as redis-benchmark does with RESP: what is the same in every
// call is put together once.
func (b *Bench) SendDirect(ctx context.Context, n *Node, workers int) (_ report.Result, err error) {
	token, err := capability.Parse(n.token)
	if err != nil {
		return report.Result{}, err
	}
	h := oap.RequestHead{Op: "mailbox.send", Args: []macronode.Arg{{Name: "topic", Value: "bench"}}, Length: Bytes}
	head, err := h.Append(nil)
	if err != nil {
		return report.Result{}, err
	}
	s, end, err := session(n.op.OAP)
	if err != nil {
		return report.Result{}, err
	}
	defer end()
	start := mux.Start{App: macronode.AppMailbox, Cap: token.CBOR(), Head: head, End: true}
	bodies := batches(workers, 1)
	r, err := drive.Run(ctx, workers, b.Span, func(ctx context.Context, w, call int) error {
		renumber(bodies[w], w, call)
		return n.patiently(ctx, func() error { return once(ctx, s, start, bodies[w][0]) })
	})
	if err != nil {
		return r, n.Failed(err)
	}
	t, err := n.Topic(OverJSON, "bench", 1)
	if err != nil {
		return r, err
	}
	defer t.Close()
	return r, n.hold(ctx, t, r.Rate*b.Span.Seconds())
}

// session dials a node.
func session(addr string) (*mux.Session, func(), error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	const long = time.Minute
	s, err := mux.New(c, mux.Config{Opener: true, UA: "bench", ChunkBytes: 64 << 10, SetAside: true, HelloTimeout: long, IdleTimeout: long, StallTimeout: long, WriteTimeout: long})
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	ran := make(chan struct{})
	go func() { defer close(ran); s.Run(context.Background()) }()
	return s, func() { s.Close(); <-ran }, nil
}

// once makes one call, which must end with 200 and a message's id.
func once(ctx context.Context, s *mux.Session, start mux.Start, body []byte) error {
	start.Body = body
	st, err := s.Open(ctx, start)
	if err != nil {
		return err
	}
	defer st.Close()
	first, err := st.Head()
	if err != nil {
		if st.Code() == http.StatusServiceUnavailable {
			err = &client.Error{Problem: macronode.Problem{Status: http.StatusServiceUnavailable}}
		}
		return err
	}
	_, at, err := oap.ParseAnswerHead(first)
	if err != nil {
		return err
	}
	var said strings.Builder
	st.Skip(at)
	if _, err := st.WriteTo(&said); err != nil && err != io.EOF {
		return err
	}
	if code := st.Code(); code != 200 || !strings.Contains(said.String(), `"msg_id"`) {
		return fmt.Errorf("%d %.200s", code, said.String())
	}
	return nil
}
