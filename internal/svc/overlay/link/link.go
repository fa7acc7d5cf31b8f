// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package link is a session between nodes as calls see it: OAP/1 on a connection
// that both sides may open streams on.
package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

// appID is the overlay's app_proto_id: peers ask for nothing else.
const appID = 5

// Time limits of a session, beside the pings of who keeps it.
const (
	helloTimeout = time.Second
	idleTimeout  = 30 * time.Second
	stallTimeout = 10 * time.Second
)

// maxProblemBytes bounds what is read of a refusal.
const maxProblemBytes = 64 << 10

// Limits are what this side takes on sessions that it dials; those of its listener.
type Limits struct{ MaxFrameBytes, MaxInflight, MaxStreams, ChunkBytes int }

// Link is a session. Its methods may be called from any goroutine.
type Link struct{ *mux.Session }

// Dial greets the node at the other end of c, whose streams go to handle, and
// returns once it greeted back; ctx bounds that alone. c is closed with the
// session, and where there is none.
func Dial(ctx context.Context, c mux.Conn, l Limits, handle func(*mux.Stream)) (*Link, error) {
	s, err := mux.New(c, mux.Config{
		Opener: true, Both: true, UA: "macronode", ChunkBytes: l.ChunkBytes, Handle: handle,
		Reply:        oap.HelloReply{MaxFrame: l.MaxFrameBytes, MaxInflight: l.MaxInflight, MaxStreams: l.MaxStreams},
		HelloTimeout: helloTimeout, IdleTimeout: idleTimeout, StallTimeout: stallTimeout, WriteTimeout: stallTimeout,
	})
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	// The session outlives the attempt; Close ends it.
	go s.Run(context.WithoutCancel(ctx))
	select {
	case <-s.Ready():
		return &Link{s}, nil
	case <-s.Done():
		return nil, fmt.Errorf("greeting: %w", s.Err())
	case <-ctx.Done():
		_ = s.Close()
		return nil, ctx.Err()
	}
}

// Accepted is a session that the other node dialled and this one's listener runs.
func Accepted(s *mux.Session) *Link { return &Link{s} }

// Question is a call to a peer.
type Question struct {
	Op     macronode.Op
	Tenant macronode.TenantID // zero: none
	Args   []macronode.Arg
	Body   []byte
}

// Answer is the answer to a Question. Body fails where the answer broke off; its
// io.EOF is the peer's word that it is whole. It must be closed.
type Answer struct {
	Head oap.AnswerHead
	Body io.ReadCloser
}

// Ask opens a call and returns once the answer's head came. ctx ends the call, also
// while its body is read. A refusal is a *macronode.Error of its kind.
func (l *Link) Ask(ctx context.Context, q Question) (*Answer, error) {
	req := oap.RequestHead{Op: q.Op, Args: q.Args, Length: int64(len(q.Body))}
	if until, ok := ctx.Deadline(); ok {
		req.DeadlineMS = max(1, time.Until(until).Milliseconds())
	}
	head, err := req.Append(nil)
	if err != nil {
		return nil, err
	}
	st, err := l.Session.Open(ctx, mux.Start{App: appID, Tenant: q.Tenant, Head: head, Body: q.Body, End: true})
	if err != nil {
		return nil, err
	}
	b := &body{st: st, ctx: ctx}
	b.unhook = context.AfterFunc(ctx, func() { _ = st.Cancel() })
	first, err := st.Head()
	if err != nil {
		return nil, errors.Join(b.explain(err), b.Close())
	}
	answer, n, err := oap.ParseAnswerHead(first)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	st.Skip(n)
	return &Answer{answer, b}, nil
}

// Call is Ask for a small answer, of at most limit bytes.
func (l *Link) Call(ctx context.Context, op macronode.Op, args []macronode.Arg, body []byte, limit int) ([]byte, error) {
	a, err := l.Ask(ctx, Question{Op: op, Args: args, Body: body})
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	out, err := io.ReadAll(io.LimitReader(a.Body, int64(limit)+1))
	if err == nil && len(out) > limit {
		err = fmt.Errorf("the answer has more than %d bytes", limit)
	}
	return out, err
}

// body is an answer's.
type body struct {
	st     *mux.Stream
	ctx    context.Context // of the call
	unhook func() bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.st.Read(p)
	if err != nil && err != io.EOF {
		err = b.explain(err)
	}
	return n, err
}

// Close ends the call where it has not ended.
func (b *body) Close() error {
	b.unhook()
	return b.st.Close()
}

// explain makes a refusal an error of its kind.
func (b *body) explain(err error) error {
	var refusal *mux.StreamError
	switch {
	case b.ctx.Err() != nil:
		return b.ctx.Err()
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case errors.Is(err, mux.ErrDraining), !errors.As(err, &refusal):
		return err
	}
	return kindOf(refusal)
}

// kindOf is the refusal that a peer's problem document tells of. Its text is the
// peer's and is not passed on.
func kindOf(e *mux.StreamError) error {
	var p struct {
		Code         string `json:"code"`
		RetryAfterMS int64  `json:"retry_after_ms"`
	}
	if len(e.Problem) <= maxProblemBytes {
		_ = json.Unmarshal(e.Problem, &p) // what is not there is not known
	}
	out := &macronode.Error{Kind: macronode.Internal}
	status := false
	for k := macronode.Kind(0); k < macronode.NumKinds; k++ {
		info := k.Info()
		if info.Status != int(e.Code) {
			continue
		}
		if info.Code == p.Code {
			out.Kind = k
			break
		}
		if !status {
			out.Kind, status = k, true
		}
	}
	const longest = int64(time.Minute / time.Millisecond)
	out.RetryAfter = time.Duration(min(max(p.RetryAfterMS, 0), longest)) * time.Millisecond
	return out
}
