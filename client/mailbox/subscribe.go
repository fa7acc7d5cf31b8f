// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

const (
	formEvents = "text/event-stream"
	formSeq    = "application/cbor-seq"

	// maxEventBytes bounds one message of a subscription.
	maxEventBytes = 32 << 20
	// quiet is how long a stream may say nothing; a node says every 15 s at least
	// that it lives.
	quiet = time.Minute
)

// Follow says how to subscribe. The zero value takes the node's defaults.
type Follow struct {
	// Credit is how many messages may be unsettled at a time; each one that is
	// acked or nacked lets another come. 0: the node's default.
	Credit int
	// Visibility of each message; 0: the topic's.
	Visibility time.Duration
	// Cursor of an earlier Subscription, also of one that an earlier run of the node
	// served: what was leased after it and did not arrive comes first, what was leased
	// before counts against Credit.
	Cursor string
	// Report hears of streams that broke and are made anew. nil: nobody does.
	Report func(error)
}

// Subscription is messages as they come, pushed by the node. It is for one
// goroutine; what it gives is settled by the Topic's Ack, Nack and Extend, from
// anywhere.
type Subscription struct {
	t    *Topic
	f    Follow
	ctx  context.Context
	stop context.CancelFunc
	now  *stream // nil: none is open
	met  bool    // there was a stream
	fail int     // failures in a row
	err  error   // what ended it
}

// Subscribe begins to receive what the topic has and what comes, until ctx ends or
// the subscription is closed. Nothing is asked of the node before the first Next.
func (t *Topic) Subscribe(ctx context.Context, f Follow) *Subscription {
	s := &Subscription{t: t, f: f}
	s.ctx, s.stop = context.WithCancel(ctx)
	return s
}

// Next waits for the next message. Where the stream breaks, it is made anew, and
// goes on behind what came last. Its error is the context's, one that waiting does
// not mend, of the first stream also that there is no such topic, or
// client.ErrIntegrity of a message that came damaged, after which Next can go on.
func (s *Subscription) Next() (*Delivery, error) {
	for s.err == nil {
		m, err := s.next()
		if err == nil && m != nil {
			s.fail, s.f.Cursor = 0, m.Cursor
			if b3.Sum(m.Payload) != m.Hash {
				return nil, fmt.Errorf("message %.30q: %w", m.MsgID, client.ErrIntegrity)
			}
			return &m.Delivery, nil
		}
		switch {
		case s.ctx.Err() != nil:
			s.err = s.ctx.Err()
		case err == nil: // a sign of life
			s.fail = 0
		case hopeless(err) || !s.met && isRefusal(err):
			s.err = err
		default:
			s.drop()
			if s.f.Report != nil {
				s.f.Report(err)
			}
			rest(s.ctx, pause(err, s.fail))
			s.fail++
		}
	}
	s.drop()
	return nil, s.err
}

func isRefusal(err error) bool {
	var refused *client.Error
	return errors.As(err, &refused)
}

// Cursor is the place of the message that Next gave last, for Follow.Cursor; "":
// there was none.
func (s *Subscription) Cursor() string { return s.f.Cursor }

// Close ends the subscription, also while a Next waits. Messages that were not
// settled come again once their visibility ends.
func (s *Subscription) Close() { s.stop() }

func (s *Subscription) drop() {
	if s.now != nil {
		s.now.close()
		s.now = nil
	}
}

// next reads on, on a new stream where there is none. No message and no error is a
// sign of life.
func (s *Subscription) next() (*pushed, error) {
	if s.now == nil {
		if err := s.open(); err != nil {
			return nil, err
		}
	}
	m, err := s.now.read()
	if err == io.EOF {
		err = errors.New("the node ended the stream")
	}
	return m, err
}

// pushed is a message of a stream.
type pushed struct {
	Delivery
	Cursor string `json:"cursor"`
}

// stream is one answer of the node.
type stream struct {
	body  io.Closer
	end   context.CancelFunc
	alive *time.Timer
	left  *io.LimitedReader
	read  func() (*pushed, error)
}

func (s *stream) close() {
	s.alive.Stop()
	s.end()
	s.body.Close()
}

func (s *Subscription) open() error {
	q := url.Values{}
	setInt(q, "credit", int64(s.f.Credit))
	setInt(q, "visibility_ms", millis(s.f.Visibility))
	setText(q, "cursor", s.f.Cursor)
	path, err := s.t.path("/subscribe", q)
	if err != nil {
		return err
	}
	accept := formSeq
	if s.t.json {
		accept = formEvents
	}
	ctx, end := context.WithCancel(s.ctx)
	resp, err := s.t.c.Do(ctx, client.Request{Method: "GET", Path: path, Header: http.Header{"Accept": {accept}}})
	if err != nil {
		end()
		return err
	}
	s.met = true
	st := &stream{body: resp.Body, end: end, alive: time.AfterFunc(quiet, end)}
	st.left = &io.LimitedReader{R: &heard{resp.Body, st.alive}, N: maxEventBytes}
	if mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); mediaType == formSeq {
		mode, err := decoding()
		if err != nil {
			st.close()
			return err
		}
		st.read = st.sequence(mode.NewDecoder(st.left))
	} else {
		st.read = st.events(bufio.NewReaderSize(st.left, 64<<10))
	}
	s.now = st
	return nil
}

// heard puts the end off with every byte.
type heard struct {
	r     io.Reader
	alive *time.Timer
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if n > 0 {
		h.alive.Reset(quiet)
	}
	return n, err
}

// sequence reads a CBOR sequence: messages, and null as a sign of life.
func (s *stream) sequence(d *cbor.Decoder) func() (*pushed, error) {
	return func() (*pushed, error) {
		s.left.N = maxEventBytes
		var m *pushed
		err := d.Decode(&m)
		return m, err
	}
}

// events reads server-sent events: each has its message as the data of one line, or
// of several. Everything else is a sign of life.
func (s *stream) events(r *bufio.Reader) func() (*pushed, error) {
	return func() (*pushed, error) {
		s.left.N = maxEventBytes
		var data []byte
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return nil, err
			}
			if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
				break
			}
			if text, ok := bytes.CutPrefix(line, []byte("data:")); ok {
				data = append(append(data, bytes.TrimPrefix(text, []byte(" "))...), '\n')
			}
		}
		if len(data) == 0 {
			return nil, nil
		}
		m := new(pushed)
		return m, json.Unmarshal(data, m)
	}
}
