// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/core"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// Holding is a lease that a subscription has.
type Holding struct {
	Receipt string
	Lease   uint64
	Left    time.Duration // until it ends
}

// Held are the leases in force that were made for an owner (Want.Owner), the oldest
// first: also after a restart, for leases are in the log. A message whose bytes
// cannot be read is left out; its lease ends by itself.
func (b *Broker) Held(ctx context.Context, ref queue.TopicRef, owner uint64) ([]Holding, error) {
	t, err := b.core.Find(ref)
	if err != nil || owner == 0 {
		return nil, err
	}
	var held []queue.Held
	var now queue.Time
	if err := b.core.Change(t, func(u *core.Turn) error {
		held, now = u.Queue.Owned(u.Now, owner, nil), u.Now
		return nil
	}); err != nil {
		return nil, err
	}
	slices.SortFunc(held, func(x, y queue.Held) int { return cmp.Compare(x.Lease, y.Lease) })
	out := make([]Holding, 0, len(held))
	for i := range held {
		h := &held[i]
		if s, err := b.core.ReadSend(h.At); err == nil {
			out = append(out, Holding{Receipt: b.core.Receipt(t, s.ID, h.Seq, h.Lease), Lease: h.Lease, Left: h.Until.Sub(now)})
		}
	}
	return out, b.core.Settle(ctx)
}
