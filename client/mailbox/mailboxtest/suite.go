// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package mailboxtest is the suite that holds a node's mailbox, and what stands in
// for one in tests, to the same.
package mailboxtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/mailbox"
)

// Conform uses the mailbox of a node by way of c as programs do, and returns
// what was not as it should be, all of it; nil: nothing. The capability of c must
// allow everything with topics. It makes topics whose names begin with "conform-",
// and deletes them again.
func Conform(ctx context.Context, c *client.Client) error {
	s := &suite{ctx: ctx, c: c}
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"send and receive", s.sendAndReceive}, {"batches", s.batches}, {"bounds of a receive", s.bounds}, {"idempotency keys", s.keys},
		{"leases", s.leases}, {"nacks", s.nacks}, {"dead letters", s.dead}, {"order", s.order}, {"times", s.times}, {"long poll", s.longPoll},
		{"subscriptions", s.subscribe}, {"topics", s.topics}, {"bad questions", s.bad}, {"a consumer", s.consume},
	} {
		if err := part.do(); err != nil {
			s.errs = append(s.errs, fmt.Errorf("%s: %w", part.name, err))
		}
	}
	for _, t := range s.made {
		if err := t.Delete(ctx); err != nil && !refused(err, 404) {
			s.errs = append(s.errs, fmt.Errorf("clean up: %w", err))
		}
	}
	return errors.Join(s.errs...)
}

type suite struct {
	ctx  context.Context
	c    *client.Client
	errs []error
	made []*mailbox.Topic
}

// refused reports whether err is the node's answer with one of these states.
func refused(err error, status ...int) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && slices.Contains(status, e.Status)
}

// topic is one that nobody else uses.
func (s *suite) topic() *mailbox.Topic {
	t := mailbox.New(s.c, fmt.Sprintf("conform-%x", rand.Uint64()))
	s.made = append(s.made, t)
	return t
}

// soon is a visibility or delay that a test waits for; late is much more.
const (
	soon = 400 * time.Millisecond
	late = 20 * time.Second
)

// filled is a topic with messages.
func (s *suite) filled(payloads ...string) (*mailbox.Topic, error) {
	t := s.topic()
	ms := make([]mailbox.Message, len(payloads))
	for i, p := range payloads {
		ms[i].Payload = []byte(p)
	}
	_, err := t.SendBatch(s.ctx, ms)
	return t, err
}

// pause lets time go by, where nothing tells that it is enough: the other side is a
// node with a clock of its own.
func (s *suite) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// texts are the payloads.
func texts(got []mailbox.Delivery) string {
	var all []string
	for _, m := range got {
		all = append(all, string(m.Payload))
	}
	return strings.Join(all, " ")
}

// receive wants these payloads.
func (s *suite) receive(t *mailbox.Topic, w mailbox.Want, want string) ([]mailbox.Delivery, error) {
	got, err := t.Receive(s.ctx, w)
	if err != nil || texts(got) != want {
		return got, fmt.Errorf("received %q, want %q: %w", texts(got), want, errors.Join(err))
	}
	return got, nil
}

func receipts(got []mailbox.Delivery) []string {
	all := make([]string, len(got))
	for i, m := range got {
		all[i] = m.Receipt
	}
	return all
}

func (s *suite) sendAndReceive() error {
	t := s.topic()
	for _, topic := range []*mailbox.Topic{t, t.InJSON()} {
		for _, n := range []int{0, 1, 100, 5000, 70_000, 700_000} {
			payload := bytes.Repeat([]byte{0, 0xff, 'x', '\n'}, n/4+1)[:n]
			m := mailbox.Message{Payload: payload}
			if n > 1 {
				m.Attrs, m.Key = map[string]string{"content-type": "x/y", "ü": "\" \\ é"}, "key é"
			}
			before := time.Now().Add(-time.Minute)
			sent, err := topic.Send(s.ctx, m)
			if err != nil || len(sent.MsgID) != 26 || sent.Duplicate {
				return fmt.Errorf("%d bytes: %+v, %w", n, sent, errors.Join(err))
			}
			got, err := topic.Receive(s.ctx, mailbox.Want{Max: 10})
			if err != nil || len(got) != 1 {
				return fmt.Errorf("%d bytes: %d messages, %w", n, len(got), errors.Join(err))
			}
			r := got[0]
			if r.MsgID != sent.MsgID || r.Topic != t.Name() || r.Attempt != 1 || r.Key != m.Key || len(r.Attrs) != len(m.Attrs) || r.Attrs["ü"] != m.Attrs["ü"] ||
				r.Receipt == "" || r.CorrID == "" || r.Time.Before(before) || !bytes.Equal(r.Payload, payload) {
				return fmt.Errorf("%d bytes come back as %s of %d", n, r.MsgID, len(r.Payload))
			}
			out, err := topic.Ack(s.ctx, r.Receipt)
			if err != nil || len(out) != 1 || out[0].MsgID != sent.MsgID {
				return fmt.Errorf("ack: %+v, %w", out, errors.Join(err))
			}
			if _, err := topic.Ack(s.ctx, r.Receipt); !errors.Is(err, mailbox.ErrLeaseLost) {
				return fmt.Errorf("a second ack: %w", errors.Join(err))
			}
		}
	}
	_, err := s.receive(t, mailbox.Want{}, "")
	return err
}

func (s *suite) batches() error {
	t := s.topic()
	for _, topic := range []*mailbox.Topic{t, t.InJSON()} {
		var ms []mailbox.Message
		for i := range 100 {
			ms = append(ms, mailbox.Message{Payload: fmt.Appendf(nil, "%03d", i), Attrs: map[string]string{"n": fmt.Sprint(i)}})
		}
		sent, err := topic.SendBatch(s.ctx, ms)
		if err != nil || len(sent) != 100 {
			return fmt.Errorf("%d sent: %w", len(sent), errors.Join(err))
		}
		got, err := topic.Receive(s.ctx, mailbox.Want{Max: 100})
		if err != nil || len(got) != 100 {
			return fmt.Errorf("%d received: %w", len(got), errors.Join(err))
		}
		for i, m := range got {
			if m.MsgID != sent[i].MsgID || string(m.Payload) != string(ms[i].Payload) || m.Attrs["n"] != fmt.Sprint(i) {
				return fmt.Errorf("message %d is %s", i, m.Payload)
			}
		}
		out, err := topic.Ack(s.ctx, receipts(got)...)
		if err != nil || len(out) != 100 {
			return fmt.Errorf("ack: %d outcomes, %w", len(out), errors.Join(err))
		}
	}
	return nil
}

func (s *suite) bounds() error {
	var payloads []string
	for _, c := range "abcde" {
		payloads = append(payloads, strings.Repeat(string(c), 10_000))
	}
	t, err := s.filled(payloads...)
	if err != nil {
		return err
	}
	// What a message takes beside its payload may count too.
	for _, w := range []struct {
		want mailbox.Want
		got  string
	}{{mailbox.Want{}, "a"}, {mailbox.Want{Max: 10, MaxBytes: 25_000}, "bc"}, {mailbox.Want{Max: 10, MaxBytes: 1}, "d"}, {mailbox.Want{Max: 10}, "e"}} {
		got, err := t.Receive(s.ctx, w.want)
		var first string
		for _, m := range got {
			first += string(m.Payload[:1])
		}
		if err != nil || first != w.got {
			return fmt.Errorf("%+v gives %q, want %q: %w", w.want, first, w.got, errors.Join(err))
		}
	}
	return nil
}

func (s *suite) keys() error {
	t := s.topic()
	m := mailbox.Message{Payload: []byte("one"), IdempotencyKey: "conform-1"}
	first, err := t.Send(s.ctx, m)
	if err != nil {
		return err
	}
	again := func(when string) error {
		for name, send := range map[string]func() (mailbox.Sent, error){
			"alone": func() (mailbox.Sent, error) { return t.Send(s.ctx, m) },
			"in a batch": func() (mailbox.Sent, error) {
				sent, err := t.SendBatch(s.ctx, []mailbox.Message{m})
				return append(sent, mailbox.Sent{})[0], err
			},
		} {
			if sent, err := send(); err != nil || !sent.Duplicate || sent.MsgID != first.MsgID {
				return fmt.Errorf("again %s, %s: %+v, %w", name, when, sent, errors.Join(err))
			}
		}
		other := m
		other.Payload = []byte("two")
		if _, err := t.Send(s.ctx, other); !refused(err, 422) {
			return fmt.Errorf("another message under the key, %s: %w", when, errors.Join(err))
		}
		sent, err := t.SendBatch(s.ctx, []mailbox.Message{{Payload: []byte("x")}, other})
		if len(sent) != 2 || err == nil || sent[0].Err != nil || !refused(sent[1].Err, 422) {
			return fmt.Errorf("another message under the key in a batch, %s: %+v, %w", when, sent, errors.Join(err))
		}
		return nil
	}
	if err := again("while it waits"); err != nil {
		return err
	}
	got, err := s.receive(t, mailbox.Want{Max: 10}, "one x")
	if err != nil {
		return err
	}
	if err := again("while it is leased"); err != nil {
		return err
	}
	if _, err := t.Ack(s.ctx, receipts(got)...); err != nil {
		return err
	}
	if err := again("once it is acked"); err != nil {
		return err
	}
	_, err = s.receive(t, mailbox.Want{Max: 10}, "x x")
	return err
}
