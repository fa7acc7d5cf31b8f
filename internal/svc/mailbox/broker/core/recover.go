// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/clock"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/head"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/receipt"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/room"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tenants"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/wait"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// markVersion is the first byte of the one record that is the broker's own: a mark
// of the clock. It is no version of package record.
const markVersion = 0xc1

// Open makes a broker of what the log and its snapshots hold, and says what it
// found. Everything that it rests on is durable when it returns. Damage to single
// records is found, counted and passed over; what cannot be passed over (no
// snapshot can be read while the log's beginning is gone) is store.ErrCorrupt.
func Open(cfg Config) (*Core, Found, error) {
	began := time.Now()
	b, err := prepare(cfg)
	if err != nil {
		return nil, Found{}, err
	}
	l := &loading{b: b, remade: make(map[uint32]bool)}
	if err := l.snapshot(); err != nil {
		return nil, l.found, err
	}
	if err := l.tail(); err != nil {
		return nil, l.found, err
	}
	l.tellRemade()
	if err := b.begin(l); err != nil {
		return nil, l.found, err
	}
	l.count()
	l.found.Took = time.Since(began)
	return b, l.found, nil
}

func prepare(cfg Config) (*Core, error) {
	if cfg.Log == nil || cfg.Snapshots == nil || cfg.Defaults == nil {
		return nil, errors.New("mailbox: Log, Snapshots and Defaults are required")
	}
	if cfg.Tenant == nil {
		cfg.Tenant = func() tenants.Load { return tenants.Load{} }
	}
	if cfg.Time == nil {
		cfg.Time = clock.Machine()
	}
	if cfg.Rand == nil {
		cfg.Rand = mathrand.Uint64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.SnapshotBytes <= 0 {
		cfg.SnapshotBytes = DefaultSnapshotBytes
	}
	d := &cfg.Limits
	if d.MaxTopics <= 0 {
		d.MaxTopics = DefaultMaxTopics
	}
	if d.MaxMessageBytes <= 0 {
		d.MaxMessageBytes = DefaultMaxMessageBytes
	}
	d.MaxMessageBytes = min(d.MaxMessageBytes, record.MaxPayload)
	if d.MaxBatch <= 0 {
		d.MaxBatch = DefaultMaxBatch
	}
	d.MaxBatch = min(d.MaxBatch, record.MaxItems)
	if d.MaxWait <= 0 {
		d.MaxWait = DefaultMaxWait
	}
	b := &Core{
		cfg: cfg, log: cfg.Log, timers: wait.NewTimers[*Topic](), down: make(chan struct{}),
		byRef: make(map[queue.TopicRef]*Topic), byNumber: make(map[uint32]*Topic), accounts: make(map[macronode.TenantID]*tenants.Account),
	}
	b.snapshots.Wake = make(chan struct{}, 1)
	return b, nil
}

// loading is the state of one recovery.
type loading struct {
	b      *Core
	found  Found
	from   store.Pos // where the tail begins
	mark   clock.Mark
	latest queue.Time // the latest time that is known to have been
	fresh  bool       // nothing was ever here
	// gapless: what the log lacks from the snapshot on was damaged, not dropped.
	gapless bool
	remade  map[uint32]bool // topics whose making was lost
}

// snapshot reads the latest snapshot that is whole.
func (l *loading) snapshot() error {
	refused, err := l.b.cfg.Snapshots.Load(l.read)
	l.found.SnapshotsRefused = refused
	switch {
	case err == nil:
		l.found.Snapshot, l.gapless = true, true
		var older store.Pos
		if refused == 0 {
			older = room.Older(l.b.cfg.Snapshots.Load)
		}
		l.b.snapshots.Loaded(l.from, older)
		return nil
	case errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrCorrupt):
		// The log alone says it all, as long as its beginning is there.
		segments := l.b.log.Segments()
		if len(segments) > 0 && segments[0].ID > 1 {
			return fmt.Errorf("%w: the log's beginning is gone and no snapshot can be read: %w", store.ErrCorrupt, err)
		}
		l.fresh, l.gapless = true, len(segments) == 0 || int(segments[len(segments)-1].ID) == len(segments)
		_, err := rand.Read(l.b.secret[:])
		return err
	}
	return err
}

// read takes a snapshot, or leaves everything as it was.
func (l *loading) read(from io.Reader) (err error) {
	b := l.b
	defer func() {
		if err != nil {
			clear(b.byRef)
			clear(b.byNumber)
			clear(b.accounts)
			l.mark, l.latest, l.from = clock.Mark{}, 0, 0
		}
	}()
	r := bufio.NewReaderSize(from, 256<<10)
	h, err := head.Read(r)
	if err != nil {
		return err
	}
	for {
		more, err := r.ReadByte()
		if err != nil || more > 1 {
			return fmt.Errorf("%w: a list of topics: %w", store.ErrCorrupt, err)
		}
		if more == 0 {
			break
		}
		q, err := queue.Restore(r)
		if err != nil {
			return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
		}
		if b.byRef[q.Ref()] != nil || b.byNumber[q.Number()] != nil {
			return fmt.Errorf("%w: a topic is there twice", store.ErrCorrupt)
		}
		b.enter(q)
		l.latest = max(l.latest, q.Latest())
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return fmt.Errorf("%w: it does not end where it should: %w", store.ErrCorrupt, err)
	}
	l.from, l.mark, b.secret, b.lastNumber = h.From, h.Mark, h.Secret, h.LastNumber
	l.latest = max(l.latest, queue.Time(h.Mark.Time))
	b.lastLease.Store(h.LastLease)
	return nil
}

// tail applies what the log holds from where the snapshot was begun.
func (l *loading) tail() error {
	var e queue.Effect
	return l.b.log.Scan(l.from, func(at store.Pos, raw []byte) error {
		l.found.Records++
		e.Reset()
		return l.record(at, raw, &e)
	}, func(at store.Pos, bytes int64) {
		l.found.DamagedRecords++
		l.found.DamagedBytes += bytes
		l.b.Warn("a damaged record in the log was passed over", "segment", at.Segment(), "offset", at.Offset(), "bytes", bytes)
	})
}

func (l *loading) record(at store.Pos, raw []byte, e *queue.Effect) error {
	if len(raw) > 0 && raw[0] == markVersion {
		m, err := clock.ParseMark(raw[1:])
		if err != nil {
			return l.strange(at, err)
		}
		l.mark, l.latest = m, max(l.latest, queue.Time(m.Time))
		return nil
	}
	r, err := record.Decode(raw)
	if errors.Is(err, record.ErrVersion) {
		return fmt.Errorf("mailbox: the log was written by a later version: %w", err)
	}
	if err != nil {
		return l.strange(at, err)
	}
	h := r.Header()
	l.latest = max(l.latest, h.Now)
	if lease, ok := r.(*record.Lease); ok {
		for _, item := range lease.Items {
			l.b.lastLease.Store(max(l.b.lastLease.Load(), item.Lease))
		}
	}
	if put, ok := r.(*record.TopicPut); ok {
		l.b.lastNumber = max(l.b.lastNumber, h.Topic)
		l.outlive(put.Ref, h.Topic)
		if l.b.byNumber[h.Topic] == nil && l.b.byRef[put.Ref] == nil {
			q, err := queue.New(put, uint64(at))
			if err != nil {
				return l.strange(at, err)
			}
			l.b.enter(q)
			return nil
		}
	}
	if send, ok := r.(*record.Send); ok && l.b.byNumber[h.Topic] == nil {
		l.outlive(send.Ref, h.Topic)
		if err := l.remake(at, send); err != nil {
			return l.strange(at, err)
		}
	}
	for _, n := range [2]uint32{h.Topic, record.Other(r)} {
		t := l.b.byNumber[n]
		if t == nil || uint64(at) <= t.q.Applied() {
			continue // deleted since, or within the snapshot
		}
		if err := t.q.Apply(r, uint64(at), e); err != nil {
			return l.strange(at, err)
		}
		if r.Kind() == record.KindTopicDelete {
			t.gone = true
			l.b.leave(t)
			delete(l.remade, t.number)
		}
	}
	return nil
}

// outlive ends the topic that has a name which a record gives to a later one: names
// are given again only once their topic is deleted, so the record of that is damaged.
func (l *loading) outlive(ref queue.TopicRef, number uint32) {
	t := l.b.byRef[ref]
	if t == nil || t.number >= number {
		return
	}
	t.gone = true
	l.b.leave(t)
	delete(l.remade, t.number)
	l.b.Warn("the record that deleted a topic is damaged; it is taken for deleted, for a later one has its name",
		"tenant", ref.Tenant.String(), "topic", ref.Name)
}

// remake makes the topic of a message whose own record is damaged, with the default
// config: the damage does not spread to what lies whole behind it. A topic that was
// deleted has no messages behind its end, so it does not come back.
func (l *loading) remake(at store.Pos, s *record.Send) error {
	if !l.gapless || l.b.byRef[s.Ref] != nil {
		return nil
	}
	q, err := queue.New(&record.TopicPut{Head: s.Head, Ref: s.Ref, Config: l.b.cfg.Defaults()}, uint64(at)-1)
	if err != nil {
		return err
	}
	l.b.enter(q)
	l.b.lastNumber = max(l.b.lastNumber, s.Topic)
	l.remade[s.Topic] = true
	return nil
}

// tellRemade says which topics have lost their config.
func (l *loading) tellRemade() {
	for number := range l.remade {
		t := l.b.byNumber[number]
		l.found.TopicsRemade++
		l.b.Warn("the record that made a topic is damaged; it was made again with the default config",
			"tenant", t.ref.Tenant.String(), "topic", t.ref.Name)
	}
}

// strange is a record whose checksum is right and which is none, or does not fit:
// as damaged as if its checksum were wrong.
func (l *loading) strange(at store.Pos, err error) error {
	l.found.DamagedRecords++
	l.b.Warn("a record in the log does not fit and was passed over", "segment", at.Segment(), "offset", at.Offset(), "err", err)
	return nil
}

// begin starts the clock where it was, and makes durable what was read: after a
// kill, the log may hold records that are not on the disk yet.
func (b *Core) begin(l *loading) error {
	b.clock = clock.New(b.cfg.Time, l.mark, int64(l.latest))
	b.receipts = receipt.New(b.secret)
	for _, t := range b.byNumber {
		b.lastLease.Store(max(b.lastLease.Load(), t.q.MaxLease()))
		t.q.Segments(b.segments.Placed)
	}
	if err := b.StampClock(); err != nil {
		return err
	}
	if err := b.Settle(context.Background()); err != nil {
		return err
	}
	if l.fresh || l.found.SnapshotsRefused > 0 || l.found.TopicsRemade > 0 {
		// The secret of receipts is in snapshots alone, and so is a topic made again.
		err := b.SaveSnapshot()
		if errors.Is(err, store.ErrFull) && !l.fresh {
			b.Warn("no room for a snapshot in place of what is damaged: the next start finds it again", "err", err)
			err = nil
		}
		if err != nil {
			return err
		}
	}
	now := b.now()
	for _, t := range b.byNumber {
		t.rearm(b, now)
	}
	return nil
}

// StampClock logs where the clock stands.
func (b *Core) StampClock() error {
	m := b.clock.Mark()
	_, err := b.log.StageOne(true, m.Append([]byte{markVersion}), nil)
	return b.Staging(err)
}

func (l *loading) count() {
	now := l.b.now()
	l.found.Topics = len(l.b.byNumber)
	for _, t := range l.b.byNumber {
		c := t.q.Counts(now)
		l.found.Messages += c.Ready + c.Delayed + c.Leased
		l.found.Dead += c.Dead
	}
}

// Warn says what nobody asked about.
func (b *Core) Warn(text string, args ...any) { b.cfg.Logger.Warn(text, args...) }
