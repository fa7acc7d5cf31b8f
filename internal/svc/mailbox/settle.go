// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"errors"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

type topicRef = queue.TopicRef

// maxOutcomeBytes is more than the answer says of one receipt, beside the receipt.
const maxOutcomeBytes = 96

// settling is what ack, nack and extend have in common: read is the body's reader,
// do the broker's work, after what subscriptions are told of each receipt that it
// worked for.
func (s *Service) settling(read func([]byte) (form.Settle, error), do func(context.Context, Broker, topicRef, *form.Settle) ([]broker.Outcome, error),
	after func(*form.Settle, *broker.Outcome)) macronode.Handler {
	work := func(ctx context.Context, a *macronode.Admitted, body []byte, _ *idem.Claim) (*macronode.Reply, error) {
		b, ref, err := s.at(a)
		if err != nil {
			return nil, err
		}
		q, err := read(body) // it keeps nothing of the body
		if err != nil {
			return nil, err
		}
		if err := answerable(a, len(body), len(body)+len(q.Receipts)*maxOutcomeBytes); err != nil {
			return nil, err
		}
		outcomes, err := do(ctx, b, ref, &q)
		if err != nil {
			return nil, err
		}
		for i := range outcomes {
			if outcomes[i].Err == nil || errors.Is(outcomes[i].Err, broker.ErrLeaseLost) {
				after(&q, &outcomes[i])
			}
		}
		if err := allLost(outcomes); err != nil {
			return nil, err
		}
		return answer(a, 200, form.JSON, form.Outcomes(outcomes, outcomeCode))
	}
	keyed := s.idem.Wrap(work)
	return func(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
		if a.IdempotencyKey != "" {
			return keyed(ctx, a)
		}
		in, err := s.read(a, maxSettleBytes)
		if err != nil {
			return nil, err
		}
		defer s.free(&in)
		return work(ctx, a, in.b, nil)
	}
}

func (s *Service) ack() macronode.Handler {
	return s.settling(form.ReadAck, func(ctx context.Context, b Broker, ref topicRef, q *form.Settle) ([]broker.Outcome, error) {
		return b.Ack(ctx, ref, q.Receipts)
	}, s.released)
}

func (s *Service) nack() macronode.Handler {
	return s.settling(form.ReadNack, func(ctx context.Context, b Broker, ref topicRef, q *form.Settle) ([]broker.Outcome, error) {
		return b.Nack(ctx, ref, q.Receipts, q.Delay, q.Reason)
	}, s.released)
}

func (s *Service) extend() macronode.Handler {
	return s.settling(form.ReadExtend, func(ctx context.Context, b Broker, ref topicRef, q *form.Settle) ([]broker.Outcome, error) {
		return b.Extend(ctx, ref, q.Receipts, q.Visibility)
	}, func(q *form.Settle, o *broker.Outcome) {
		if o.Err == nil {
			s.subs.extended(o.Receipt, q.Visibility)
		} else {
			s.subs.settled(o.Receipt)
		}
	})
}

// released tells the subscription that delivered a message that its lease is over.
func (s *Service) released(_ *form.Settle, o *broker.Outcome) { s.subs.settled(o.Receipt) }

// allLost is the refusal where every receipt is stale, or none is a receipt.
func allLost(outcomes []broker.Outcome) error {
	lost, bad := 0, 0
	for i := range outcomes {
		switch err := outcomes[i].Err; {
		case err == nil:
		case errors.Is(err, broker.ErrReceipt):
			bad++
		case errors.Is(err, broker.ErrLeaseLost):
			lost++
		}
	}
	switch {
	case len(outcomes) == 0:
		return nil
	case lost == len(outcomes):
		return macronode.Errorf(macronode.LeaseLost, "none of the %d receipts holds a lease any more", lost)
	case bad == len(outcomes):
		return macronode.Errorf(macronode.Malformed, "none of the %d receipts is one of this topic", bad)
	}
	return nil
}

// badReceipt is the code of a receipt that was never one of the topic.
const badReceipt = "bad_receipt"

func outcomeCode(err error) string {
	if errors.Is(err, broker.ErrReceipt) {
		return badReceipt
	}
	return macronode.KindOf(err).String()
}
