// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tenants"
	"github.com/rustyonions/macronode/internal/svc/mailbox/depth"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// Name is the service's name in config, metrics and logs.
const Name = "svc-mailbox"

// Broker is what the service needs of one; *broker.Broker is it. Errors have a
// kind that callers may see.
type Broker interface {
	Send(ctx context.Context, ref queue.TopicRef, messages []broker.Message) ([]broker.Sent, error)
	Receive(ctx context.Context, ref queue.TopicRef, w broker.Want) ([]broker.Delivery, error)
	Ack(ctx context.Context, ref queue.TopicRef, receipts []string) ([]broker.Outcome, error)
	Nack(ctx context.Context, ref queue.TopicRef, receipts []string, delay *time.Duration, reason string) ([]broker.Outcome, error)
	Extend(ctx context.Context, ref queue.TopicRef, receipts []string, visibility time.Duration) ([]broker.Outcome, error)
	// Held are the leases in force that a subscription has, whatever run they are from.
	Held(ctx context.Context, ref queue.TopicRef, owner uint64) ([]broker.Holding, error)
	Peek(ctx context.Context, ref queue.TopicRef, cursor string, limit int) ([]broker.Peeked, string, error)

	Topics(ctx context.Context, tenant macronode.TenantID, prefix, cursor string, limit int) ([]broker.TopicStatus, string, error)
	Topic(ctx context.Context, ref queue.TopicRef) (broker.TopicStatus, error)
	PutTopic(ctx context.Context, ref queue.TopicRef, c queue.Config) (created bool, err error)
	DeleteTopic(ctx context.Context, ref queue.TopicRef) error
	Purge(ctx context.Context, ref queue.TopicRef) (int64, error)

	DeadList(ctx context.Context, ref queue.TopicRef, f broker.DeadFilter, cursor string, limit int) ([]broker.Dead, string, error)
	DeadGet(ctx context.Context, ref queue.TopicRef, id queue.ID) (broker.Dead, error)
	DeadDelete(ctx context.Context, ref queue.TopicRef, f broker.DeadFilter) (int64, error)
	Redrive(ctx context.Context, ref queue.TopicRef, s broker.RedriveSpec) (broker.Job, error)
	Jobs(ctx context.Context, ref queue.TopicRef) ([]broker.Job, error)
	JobGet(ctx context.Context, ref queue.TopicRef, id string) (broker.Job, error)
	JobStop(ctx context.Context, ref queue.TopicRef, id string) (broker.Job, error)

	// Waiting is how many messages all topics of a tenant hold that are neither
	// acknowledged nor dead.
	Waiting(tenant macronode.TenantID) (messages int64)
	// Each calls f with every topic.
	Each(f func(t *broker.TopicStatus))
	// Serve does what goes on between calls, until ctx ends or the log fails.
	Serve(ctx context.Context) error
	// Check returns nil while the broker can serve.
	Check(ctx context.Context) error
}

// Settings are the [mailbox] section of the config bundle. They change live.
type Settings struct {
	MaxMessageBytes int64 // of one message: its payload and attributes
	MaxBatch        int   // messages in one send or receive
	MaxTopics       int   // of a tenant
	MaxWait         time.Duration
	Tenant          tenants.Load // what all topics of a tenant hold together; 0: no bound
	Topic           queue.Config // of topics that do not say otherwise
}

// Validate says what makes no sense.
func (s *Settings) Validate() error {
	if s.MaxMessageBytes < 1 || s.MaxMessageBytes > MaxMessageBytes || s.MaxBatch < 1 || s.MaxBatch > form.MaxReceipts || s.MaxTopics < 1 || s.MaxWait < 0 || s.MaxWait > MaxWait {
		return fmt.Errorf("mailbox: limits out of range: %d bytes a message, %d messages a batch, %d topics, %v of wait", s.MaxMessageBytes, s.MaxBatch, s.MaxTopics, s.MaxWait)
	}
	if err := s.Topic.Validate(); err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	return nil
}

// Opened is a broker that is ready, over a store that Close closes.
type Opened struct {
	Broker Broker
	Close  func() error
}

// Config is what the service works with. Open and Idem are required.
type Config struct {
	// Open makes a broker of what is on disk. It is called again after a broker
	// failed, once the one before is closed. settings is what holds at any time.
	Open func(ctx context.Context, settings func() Settings, events broker.Events) (Opened, error)
	// Idem keeps the first answers of operators' routes; sends have the replay
	// window of their topic instead.
	Idem     *idem.Keeper
	Settings Settings
	Metrics  *Metrics         // nil: nothing is counted
	Log      *slog.Logger     // nil: nothing is logged
	Now      func() time.Time // nil: time.Now
}

// Service is svc-mailbox.
type Service struct {
	open    func(ctx context.Context, settings func() Settings, events broker.Events) (Opened, error)
	idem    *idem.Keeper
	m       *Metrics
	log     *slog.Logger
	now     func() time.Time
	batches *form.Batches

	settings atomic.Pointer[Settings]
	current  atomic.Pointer[Broker] // nil: none is open
	bodies   sync.Pool              // *[]byte of poolBytes
	subs     subscribers
	depth    depth.Keeper

	opening sync.Mutex // held by who opens or closes
	opened  *Opened
}

var _ macronode.Service = (*Service)(nil)

// New returns a service that has no broker yet: Prepare or Serve opens it.
func New(c Config) (*Service, error) {
	if c.Open == nil || c.Idem == nil {
		return nil, errors.New("mailbox: Open and Idem are required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil, nil)
	}
	batches, err := form.NewBatches()
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	s := &Service{open: c.Open, idem: c.Idem, m: c.Metrics, log: c.Log.With("service", Name), now: c.Now, batches: batches}
	s.bodies.New = func() any { b := make([]byte, poolBytes); return &b }
	s.subs.now = c.Now
	return s, s.SetSettings(c.Settings)
}

// SetSettings makes v hold for calls that begin from now on, and for topics that
// are created from now on.
func (s *Service) SetSettings(v Settings) error {
	if err := v.Validate(); err != nil {
		return err
	}
	s.settings.Store(&v)
	return nil
}

// Prepare opens the broker, so that what is wrong with it is known before anything
// is served. Serve takes it over.
func (s *Service) Prepare(ctx context.Context) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.opened != nil {
		return nil
	}
	o, err := s.open(ctx, func() Settings { return *s.settings.Load() }, s.m.events())
	if err != nil {
		return err
	}
	s.opened = &o
	s.current.Store(&o.Broker)
	return nil
}

// Close closes the broker, where one is open.
func (s *Service) Close() error {
	s.opening.Lock()
	defer s.opening.Unlock()
	o := s.opened
	s.opened = nil
	s.current.Store(nil)
	if o == nil || o.Close == nil {
		return nil
	}
	return o.Close()
}

// Name implements macronode.Service.
func (s *Service) Name() string { return Name }

// Serve implements macronode.Service: it opens the broker unless Prepare did, runs
// it until ctx ends or it fails, and closes it. After a failure of the log, the
// next call makes a new broker of what is on disk.
func (s *Service) Serve(ctx context.Context) error {
	err := s.Prepare(ctx)
	if err == nil {
		err = (*s.current.Load()).Serve(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil
	}
	return errors.Join(err, s.Close())
}

// Ready implements macronode.Service.
func (s *Service) Ready(ctx context.Context) error {
	b, err := s.broker()
	if err != nil {
		return err
	}
	return b.Check(ctx)
}

// broker is the one that is open.
func (s *Service) broker() (Broker, error) {
	if b := s.current.Load(); b != nil {
		return *b, nil
	}
	return nil, macronode.Errorf(macronode.Unavailable, "the mailbox is being opened")
}

// Purge drops everything of a tenant that is being deleted.
func (s *Service) Purge(ctx context.Context, tenant macronode.TenantID) error {
	b, err := s.broker()
	if err != nil {
		return err
	}
	for {
		topics, _, err := b.Topics(ctx, tenant, "", "", maxPage)
		if err != nil || len(topics) == 0 {
			return err
		}
		for i := range topics {
			if err := b.DeleteTopic(ctx, topics[i].Ref); err != nil && macronode.KindOf(err) != macronode.NotFound {
				return err
			}
		}
	}
}
