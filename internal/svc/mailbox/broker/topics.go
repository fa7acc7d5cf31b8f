// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/core"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/stored"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// Purge ends all messages of a topic, leased ones too, and says how many. Dead
// letters stay.
func (b *Broker) Purge(ctx context.Context, ref queue.TopicRef) (int64, error) {
	t, err := b.core.Find(ref)
	if err != nil {
		return 0, err
	}
	var purged int64
	if err := b.core.Change(t, func(u *core.Turn) error {
		err := u.Log(&record.Purge{Head: u.Head(), Before: u.Queue.NextSeq()})
		purged = u.Effect.Purged
		return err
	}); err != nil {
		return 0, err
	}
	return purged, b.core.Settle(ctx)
}

// Topic tells how a topic stands.
func (b *Broker) Topic(ctx context.Context, ref queue.TopicRef) (TopicStatus, error) {
	t, err := b.core.Find(ref)
	if err != nil {
		return TopicStatus{}, err
	}
	var s TopicStatus
	if err := b.core.Change(t, func(u *core.Turn) error { s = status(t, u); return nil }); err != nil {
		return TopicStatus{}, err
	}
	return s, b.core.Settle(ctx)
}

func status(t *core.Topic, u *core.Turn) TopicStatus {
	s := TopicStatus{Ref: t.Ref(), Config: u.Queue.Config(), Counts: u.Queue.Counts(u.Now), Waiting: u.Waiting}
	if s.Counts.OldestUnacked != 0 {
		s.OldestUnacked = u.Now.Sub(s.Counts.OldestUnacked)
	}
	return s
}

// maxPage is how many entries of a list one call returns.
const maxPage = 1000

// Topics lists a tenant's topics whose names begin with prefix, by name. next is
// where to go on, "" at the end.
func (b *Broker) Topics(ctx context.Context, tenant macronode.TenantID, prefix, cursor string, limit int) (out []TopicStatus, next string, err error) {
	if err := b.core.Failure(); err != nil {
		return nil, "", err
	}
	limit = page(limit)
	var found []*core.Topic
	for _, t := range b.core.All() {
		if ref := t.Ref(); ref.Tenant == tenant && strings.HasPrefix(ref.Name, prefix) && ref.Name > cursor {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(x, y *core.Topic) int { return cmp.Compare(x.Ref().Name, y.Ref().Name) })
	for i, t := range found {
		if i == limit {
			next = found[i-1].Ref().Name
			break
		}
		_ = b.core.Change(t, func(u *core.Turn) error { out = append(out, status(t, u)); return nil }) // gone: not listed
	}
	return out, next, b.core.Settle(ctx)
}

func page(limit int) int {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return limit
}

// Peek lists messages as an operator sees them, oldest first, and leases nothing.
// next is where to go on, "" at the end. One whose record cannot be read is listed
// without what is in the record.
func (b *Broker) Peek(ctx context.Context, ref queue.TopicRef, cursor string, limit int) (out []Peeked, next string, err error) {
	t, err := b.core.Find(ref)
	if err != nil {
		return nil, "", err
	}
	from, err := number(cursor)
	if err != nil {
		return nil, "", err
	}
	var found []queue.Peeked
	var more uint64
	var at queue.Time
	if err := b.core.Change(t, func(u *core.Turn) error {
		found, more = u.Queue.Peek(u.Now, from, page(limit), nil)
		at = u.Now
		return nil
	}); err != nil {
		return nil, "", err
	}
	for i := range found {
		out = append(out, b.peeked(&found[i], at))
	}
	return out, cursorOf(more), b.core.Settle(ctx)
}

func (b *Broker) peeked(f *queue.Peeked, now queue.Time) Peeked {
	p := Peeked{State: State(f.State.String()), Attempt: int(f.Attempts), Bytes: f.Bytes, TS: b.wall(now, f.First)}
	if f.Until > now {
		p.Until = f.Until.Sub(now)
	}
	if s, err := b.core.ReadSend(f.At); err == nil {
		p.ID, p.Key, p.Attrs, p.Hash, p.TS = s.ID, string(s.Key), stored.Attrs(s.Attrs), s.Hash, time.UnixMilli(s.Wall).UTC()
	}
	return p
}

// wall is the wall time of a moment of mailbox time, as the two stand now.
func (b *Broker) wall(now, at queue.Time) time.Time {
	return b.core.Wall().Add(-now.Sub(at)).Round(time.Millisecond).UTC()
}

// mailboxTime is the other way round; a zero time is none.
func (b *Broker) mailboxTime(now queue.Time, at time.Time) queue.Time {
	if at.IsZero() {
		return 0
	}
	return max(1, now.Add(-b.core.Wall().Sub(at)))
}

// number reads a cursor: "" is the beginning.
func number(cursor string) (uint64, error) {
	if cursor == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(cursor, 36, 64)
	if err != nil {
		return 0, core.Refuse(ErrCursor, "", 0)
	}
	return n, nil
}

func cursorOf(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 36)
}
