// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
)

const (
	// giveBackWait bounds the return of leases whose answer was not sent.
	giveBackWait = 5 * time.Second
	// notSent is the reason that is kept with such a message.
	notSent = "the answer could not be sent"
)

// noMessages are the answers to a receive that found nothing. Nobody changes them.
var noMessages = map[bool][]byte{false: form.Messages("", nil, false), true: form.Messages("", nil, true)}

func (s *Service) receive(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	ref, err := s.ref(a)
	if err != nil {
		return nil, err
	}
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	b, err := s.broker()
	if err != nil {
		return nil, err
	}
	in, err := s.read(a, maxSmallBody)
	if err != nil {
		return nil, err
	}
	ask, err := form.ReadReceive(in.b)
	s.free(&in)
	if err != nil {
		return nil, err
	}
	st := s.settings.Load()
	w := broker.Want{Max: int(min(max(ask.Max, 1), int64(st.MaxBatch))), MaxBytes: ask.MaxBytes, Visibility: ask.Visibility, Wait: min(ask.Wait, st.MaxWait)}
	asCBOR := form.Wants(a.Header.Get("Accept"), form.CBOR)
	if a.ReplyBytes != macronode.NoLimit {
		w.MaxBytes = fitting(w.MaxBytes, a.ReplyBytes, asCBOR)
	}
	got, err := b.Receive(ctx, ref, w)
	if err != nil && !ended(ctx, err) {
		return nil, err
	}
	if len(got) == 0 {
		// Also where the wait was cut short, by a drain or by the caller's own
		// deadline: nothing was there.
		return &macronode.Reply{Status: 200, ContentType: contentType(asCBOR), Body: noMessages[asCBOR]}, nil
	}
	r := &given{s: s, b: b, ref: ref, got: got, text: form.Messages(ref.Name, got, asCBOR)}
	return &macronode.Reply{Status: 200, ContentType: contentType(asCBOR), Stream: r, Length: int64(len(r.text))}, nil
}

// ended reports whether err says no more than that the call's time is over.
func ended(ctx context.Context, err error) bool {
	if ctx.Err() == nil {
		return false
	}
	kind := macronode.KindOf(err)
	return errors.Is(err, ctx.Err()) || kind == macronode.ClientGone || kind == macronode.DeadlineExceeded
}

// fitting is how many bytes of payload an answer of so many has room for, roughly:
// what does not fit after all is given back.
func fitting(asked, reply int64, asCBOR bool) int64 {
	most := reply
	if !asCBOR {
		most = reply / 4 * 3
	}
	if asked > 0 {
		most = min(most, asked)
	}
	return max(most, 1)
}

// given is the answer with messages: until it is written, their leases are nobody's.
type given struct {
	s    *Service
	b    Broker
	ref  topicRef
	got  []broker.Delivery
	text []byte
	sent bool
}

var _ macronode.Stream = (*given)(nil)

// WriteTo implements macronode.Stream.
func (g *given) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(g.text)
	g.sent = err == nil && n == len(g.text)
	return int64(n), err
}

// Close implements macronode.Stream. The leases of an answer that was not written
// go back at once: nobody can know their receipts.
func (g *given) Close() error {
	if g.sent {
		return nil
	}
	receipts := make([]string, len(g.got))
	for i := range g.got {
		receipts[i] = g.got[i].Receipt
	}
	g.s.giveBack(g.b, g.ref, receipts)
	return nil
}

// giveBack makes messages receivable again that were leased for somebody who does
// not have them. Where it fails their visibility does it later.
func (s *Service) giveBack(b Broker, ref topicRef, receipts []string) {
	if len(receipts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), giveBackWait)
	defer cancel()
	var now time.Duration
	if _, err := b.Nack(ctx, ref, receipts, &now, notSent); err != nil {
		s.log.Warn("leases that nobody holds could not be given back; they end with their visibility", "event", "mailbox_release",
			"messages", len(receipts), "error", err)
		return
	}
	s.m.unsent.Add(float64(len(receipts)))
}
