// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"io"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
)

const (
	defaultCredit = 32
	maxCredit     = 1000
	// keepAlive is how often a quiet stream says that it lives.
	keepAlive = 15 * time.Second
	// pushMessages and pushBytes are what a stream takes from its topic at a time.
	pushMessages = 64
	pushBytes    = 1 << 20
)

// subscribe answers with a stream of messages, as many at a time as the caller has
// credit for.
func (s *Service) subscribe(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	ref, err := s.ref(a)
	if err != nil {
		return nil, err
	}
	if err := a.OnlyArgs("credit", "visibility_ms", "cursor"); err != nil {
		return nil, err
	}
	credit, err := a.NumberArg("credit", defaultCredit, 1, maxCredit)
	if err != nil {
		return nil, err
	}
	ms, err := a.NumberArg("visibility_ms", 0, 1, uint64(form.MaxVisibility.Milliseconds()))
	if err != nil {
		return nil, err
	}
	cursor := a.Arg("cursor")
	if cursor == "" {
		cursor = a.Header.Get("Last-Event-Id")
	}
	id, after, ok := parseCursor(cursor)
	if !ok {
		return nil, macronode.Errorf(macronode.Malformed, "the cursor is not one that a subscription gave")
	}
	b, err := s.broker()
	if err != nil {
		return nil, err
	}
	topic, err := b.Topic(ctx, ref)
	if err != nil {
		return nil, err
	}
	visibility := time.Duration(ms) * time.Millisecond //nolint:gosec // at most MaxVisibility
	if visibility == 0 {
		visibility = topic.Config.Visibility
	}
	p := &push{s: s, b: b, credit: int(credit), visibility: visibility, asCBOR: form.Wants(a.Header.Get("Accept"), form.CBORSeq)}
	p.ctx, p.cancel = context.WithCancel(ctx)
	var surplus []string
	if p.sub, surplus, err = s.subs.attach(ctx, b, ref, id, after, p.cancel); err != nil {
		p.cancel()
		if ctx.Err() != nil {
			err = macronode.Wrap(macronode.ClientGone, "", err)
		}
		return nil, err
	}
	s.giveBack(b, ref, surplus)
	s.m.subscriptions.Inc()
	r := &macronode.Reply{Status: 200, ContentType: form.EventStream, Stream: p, Length: -1, Header: macronode.Header{"Cache-Control": {"no-store"}}}
	if p.asCBOR {
		r.ContentType = form.CBORSeq
	}
	return r, nil
}

// push is the stream of a subscription.
type push struct {
	s          *Service
	b          Broker
	sub        *subscription
	ctx        context.Context // of the call
	cancel     context.CancelFunc
	credit     int
	visibility time.Duration
	asCBOR     bool

	w     io.Writer
	n     int64
	spent []byte // memory of the write before
}

var _ macronode.Stream = (*push)(nil)

// WriteTo implements macronode.Stream. The end of the call, by its client, a drain
// or the capability's end, is the stream's ordinary end.
func (p *push) WriteTo(w io.Writer) (int64, error) {
	p.w = w
	// At once, so that the client knows that it is connected.
	err := p.write(p.beat("retry: 1000\n\n"))
	for err == nil && p.ctx.Err() == nil {
		free, next := p.sub.places(p.credit)
		if free == 0 {
			err = p.idle(next)
			continue
		}
		var got []broker.Delivery
		got, err = p.b.Receive(p.ctx, p.sub.ref, broker.Want{Max: min(free, pushMessages), MaxBytes: pushBytes, Visibility: p.visibility, Wait: keepAlive, Owner: p.sub.id})
		switch {
		case len(got) > 0:
			err = p.deliver(got)
		case err == nil:
			err = p.write(p.beat(": still here\n\n"))
		case p.ctx.Err() != nil || macronode.KindOf(err) == macronode.NotFound:
			// The call is over, or the topic was deleted.
			return p.n, nil
		case macronode.KindOf(err) == macronode.QuotaInFlight:
			err = p.idle(p.s.now().Add(macronode.AsError(err).RetryHint()))
		}
	}
	if p.ctx.Err() != nil {
		err = nil
	}
	return p.n, err
}

// idle waits until there may be room again: a lease was settled, or one ends at
// next; a quiet stream says that it lives.
func (p *push) idle(next time.Time) error {
	wait := keepAlive
	if !next.IsZero() {
		wait = min(wait, max(next.Sub(p.s.now()), time.Millisecond))
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-p.sub.room:
		return nil
	case <-p.ctx.Done():
		return nil
	case <-t.C:
		if wait < keepAlive {
			return nil
		}
		return p.write(p.beat(": still here\n\n"))
	}
}

// beat is the sign of life of the stream's form.
func (p *push) beat(text string) []byte {
	if p.asCBOR {
		return []byte{form.CBORNull}
	}
	return []byte(text)
}

// deliver writes messages that were leased. Where they cannot be written, their
// leases are given back.
func (p *push) deliver(got []broker.Delivery) error {
	until := p.s.now().Add(p.visibility)
	b := p.spent[:0]
	for i := range got {
		d := &got[i]
		// Noted before it is written: its ack may be faster than Write returns.
		cursor := p.sub.deliver(d, until)
		if p.asCBOR {
			b = form.AppendMessageCBOR(b, p.sub.ref.Name, cursor, d)
			continue
		}
		b = append(b, "id: "...)
		b = append(b, cursor...)
		b = append(b, "\nevent: message\ndata: "...)
		b = form.AppendMessage(b, p.sub.ref.Name, cursor, d)
		b = append(b, "\n\n"...)
	}
	err := p.write(b)
	if cap(b) <= pushBytes {
		p.spent = b
	}
	if err == nil {
		return nil
	}
	receipts := make([]string, len(got))
	for i := range got {
		receipts[i] = got[i].Receipt
		p.s.subs.settled(receipts[i])
	}
	p.s.giveBack(p.b, p.sub.ref, receipts)
	return err
}

func (p *push) write(b []byte) error {
	m, err := p.w.Write(b)
	p.n += int64(m)
	if f, ok := p.w.(macronode.Flusher); ok && err == nil {
		err = f.Flush()
	}
	return err
}

// Close implements macronode.Stream.
func (p *push) Close() error {
	p.cancel()
	p.s.subs.detach(p.sub)
	p.s.m.subscriptions.Dec()
	return nil
}
