// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"errors"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tenants"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/wait"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// together is the refusal of each kind that a tenant may have so much of.
var together = [...]struct {
	err    error
	detail string
}{
	tenants.Messages: {ErrDepth, "the tenant's topics hold as many messages as they may together"},
	tenants.Bytes:    {ErrBytes, "the tenant's topics hold as many bytes as they may together"},
	tenants.InFlight: {ErrInFlight, "as many messages of the tenant are leased as may be together"},
	tenants.Keys:     {ErrDedupFull, "the tenant's topics remember as many idempotency keys as they may together"},
}

// full is the refusal of n of a kind that the tenant has no room for.
func (t *Topic) full(now queue.Time, k tenants.Kind, n int64) error {
	return Refuse(together[k].err, together[k].detail, t.share.Of.Wait(k, int64(now), n))
}

// admit takes room in the topic and in its tenant's account for a message, or refuses
// it. What it took of the account for one that is refused, or not staged, rearm gives
// back. The caller holds the topic's lock.
func (t *Topic) admit(now queue.Time, r *record.Send, most *tenants.Load) error {
	if err := t.q.Admit(now, r); err != nil {
		return t.refused(now, err)
	}
	need := tenants.Load{tenants.Messages: 1, tenants.Bytes: int64(r.Len()+7) &^ 7}
	if len(r.Idem) > 0 {
		need[tenants.Keys] = 1
	}
	for k, n := range need {
		if k := tenants.Kind(k); n > 0 && !t.share.Take(k, n, most[k]) {
			return t.full(now, k, n)
		}
	}
	return nil
}

// freshen looks at all topics of a tenant that has no room left, now and then: what
// ended by time alone counts no more.
func (b *Core) freshen(t *Topic, most *tenants.Load) {
	if !t.share.Of.Stale(int64(b.now()), most) {
		return
	}
	for _, other := range b.All() {
		if other.ref.Tenant == t.ref.Tenant {
			_ = b.Change(other, func(*Turn) error { return nil }) // gone: it holds nothing
		}
	}
}

// Sum is how much of a kind a tenant's topics hold together.
func (b *Core) Sum(tenant macronode.TenantID, k tenants.Kind) int64 {
	b.catalogue.RLock()
	defer b.catalogue.RUnlock()
	if a := b.accounts[tenant]; a != nil {
		return a.Sum(k)
	}
	return 0
}

// refused gives a topic's refusal of a message its kind and a wait. The caller
// holds the topic's lock.
func (t *Topic) refused(now queue.Time, err error) error {
	next := func() time.Duration {
		if at, ok := t.q.NextChange(now); ok {
			return max(at.Sub(now), wait.Least)
		}
		return 0
	}
	switch {
	case errors.Is(err, queue.ErrDepth):
		return Refuse(ErrDepth, "the topic holds as many messages as it may", t.drain.For(int64(now), 1, next()))
	case errors.Is(err, queue.ErrBytes):
		return Refuse(ErrBytes, "the topic holds as many bytes as it may", t.drain.For(int64(now), 1, next()))
	case errors.Is(err, queue.ErrAge):
		return Refuse(ErrAge, "the oldest message of the topic waits longer than the topic allows", t.drain.For(int64(now), 1, next()))
	case errors.Is(err, queue.ErrDedupFull):
		return Refuse(ErrDedupFull, "the topic remembers as many idempotency keys as it may",
			min(max(t.q.KeyRoom(now).Sub(now), wait.Least), record.MaxRetention))
	case errors.Is(err, queue.ErrTooLarge):
		return Refuse(ErrTooLarge, "the message does not fit into a record", 0)
	}
	return Refuse(ErrInvalid, "the message would expire before it is due", 0)
}
