// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/clock"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/receipt"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/room"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tenants"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/wait"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// Snapshots keeps snapshots; package snapfile does in files.
type Snapshots interface {
	// Save makes what write writes the latest snapshot, once seal has returned
	// nil. It is durable and whole when Save returns nil.
	Save(write func(io.Writer) error, seal func() error) error
	// Load offers snapshots to read, newest first, until it takes one, and says
	// how many it did not take; store.ErrNotFound where there is none.
	Load(read func(io.Reader) error) (refused int, err error)
}

// Config is what a broker needs. Log, Snapshots and Defaults are required.
type Config struct {
	Log       store.Log
	Snapshots Snapshots
	// Time is the clock's source; nil is the machine's.
	Time clock.Source
	// Rand draws 64 random bits for message ids and back-off; nil is the
	// runtime's generator. The secret of receipts does not come from it.
	Rand func() uint64
	// Defaults is the config of topics that are created by their first send.
	Defaults func() queue.Config
	// Tenant is what all topics of a tenant may hold together, asked at each call; nil,
	// and 0 for a kind, is no bound.
	Tenant func() tenants.Load
	Limits Limits
	Events Events
	Logger *slog.Logger // nil logs nothing
	// SnapshotBytes of log are written between snapshots; 0: DefaultSnapshotBytes.
	SnapshotBytes int64
}

// Defaults of Config and Limits.
const (
	DefaultSnapshotBytes   = 256 << 20
	DefaultMaxTopics       = 10_000
	DefaultMaxMessageBytes = 1 << 20
	DefaultMaxBatch        = 1000
	DefaultMaxWait         = 20 * time.Second
)

// MaxReceiveBytes bounds the payloads of one receive, whatever is asked for; one
// message goes out however large.
const MaxReceiveBytes = 16 << 20

// Events tells what happens, for metrics. All are called without a lock held, may
// be nil, and must be quick.
type Events struct {
	Sent       func(ref queue.TopicRef, messages int64)
	Duplicates func(ref queue.TopicRef, messages int64)
	Delivered  func(ref queue.TopicRef, messages int64)
	Acked      func(ref queue.TopicRef, sinceSend time.Duration)
	Requeued   func(ref queue.TopicRef, why string, messages int64) // nack, lapsed
	Died       func(ref queue.TopicRef, reason string, messages int64)
	Damaged    func(ref queue.TopicRef, messages int64)
}

// Core is the mailbox. It is safe for concurrent use.
type Core struct {
	cfg       Config
	log       store.Log
	clock     *clock.Clock
	receipts  *receipt.Maker
	secret    [receipt.SecretBytes]byte
	timers    *wait.Timers[*Topic]
	lastLease atomic.Uint64 // the highest number given out

	catalogue  sync.RWMutex // guards what is below it
	byRef      map[queue.TopicRef]*Topic
	byNumber   map[uint32]*Topic
	accounts   map[macronode.TenantID]*tenants.Account
	lastNumber uint32

	down    chan struct{} // closed when the broker has failed or stopped
	downMu  sync.Mutex
	downErr error // guarded by downMu

	segments  room.Segments
	snapshots room.Snapshots
}

// Topic is one topic with who waits for it.
type Topic struct {
	number uint32
	ref    queue.TopicRef

	mu    sync.Mutex // guards what is below it
	q     *queue.Topic
	line  wait.Line
	drain wait.Drain
	share tenants.Share
	gone  bool  // deleted
	armed int64 // the earliest time that the timers know; 0 none
}

// Check returns nil while the broker can serve.
func (b *Core) Check(ctx context.Context) error {
	if err := b.Failure(); err != nil {
		return err
	}
	return Failed(b.log.Check(ctx))
}

// fail ends this run: everything is refused from now on, and who waits is told.
func (b *Core) fail(err error) error {
	b.downMu.Lock()
	first := b.downErr == nil
	if first {
		b.downErr = Failed(err)
		close(b.down)
	}
	err = b.downErr
	b.downMu.Unlock()
	return err
}

// Failure is why the broker refuses everything; nil while it does not.
func (b *Core) Failure() error {
	select {
	case <-b.down:
		b.downMu.Lock()
		defer b.downMu.Unlock()
		return b.downErr
	default:
		return nil
	}
}

// Staging judges an error of Stage: a full disk, and a record that is too large,
// are told to who asked; anything else is the log's end.
func (b *Core) Staging(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, store.ErrFull) {
		select {
		case b.snapshots.Wake <- struct{}{}: // there may be room to give back
		default:
		}
	}
	if told := Failed(err); macronode.KindOf(told) != macronode.Unavailable {
		return told
	}
	return b.fail(err)
}

// Settle waits until all that was staged so far is durable. It, or settle, comes
// before every answer.
func (b *Core) Settle(ctx context.Context) error { return b.settle(ctx, b.log.Staged()) }

// settle waits until what was staged before end is durable: not for what others
// staged since, which may take the disk's next turn.
func (b *Core) settle(ctx context.Context, end store.Pos) error {
	macronode.Yield(ctx) // nothing is left to do but to wait, and to answer
	err := b.log.SyncTo(ctx, end)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return store.Refusal(ctx.Err())
	}
	return b.fail(err)
}

// Wall is the wall clock, for people to read.
func (b *Core) Wall() time.Time { return b.clock.Wall() }

func (b *Core) now() queue.Time { return queue.Time(b.clock.Now()) }

// rests is where that ends in the log on which the topic's state rests. Who answers
// from the state settles that first. The caller holds the topic's lock.
func (t *Topic) rests() store.Pos { return store.Pos(t.q.Applied()) + 1 }

// Find returns the topic of that name. That there is none is told when it is durable.
func (b *Core) Find(ref queue.TopicRef) (*Topic, error) {
	t, err := b.find(ref)
	if errors.Is(err, ErrNoTopic) {
		if err := b.Settle(context.Background()); err != nil {
			return nil, err
		}
	}
	return t, err
}

func (b *Core) find(ref queue.TopicRef) (*Topic, error) {
	if err := b.Failure(); err != nil {
		return nil, err
	}
	b.catalogue.RLock()
	t := b.byRef[ref]
	b.catalogue.RUnlock()
	if t == nil {
		return nil, Refuse(ErrNoTopic, "", 0)
	}
	return t, nil
}
