// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/access/mintkeys"
	"github.com/rustyonions/macronode/revocation"
)

// Name is the service's name in config, metrics and logs.
const Name = "ron-auth"

// KeyStore is what the service needs of the key service.
type KeyStore = mintkeys.Store

// MintKeyName is the key service's name of a tenant's minting key.
func MintKeyName(t macronode.TenantID) string { return mintkeys.Name(t) }

// Purger removes what a service keeps for a tenant that is being deleted. It is
// called again after a crash or an error, and once more after the tenant's last
// call has ended; a tenant of whom nothing is left is no error.
type Purger interface {
	Purge(ctx context.Context, tenant macronode.TenantID) error
}

// Config is what the service works with. All but Stored, InFlight, Purgers, Log
// and Now must be set.
type Config struct {
	KV    store.KV
	Keys  KeyStore
	Audit macronode.Auditor
	Idem  *idem.Keeper
	// Purgers run in order when a tenant is deleted.
	Purgers []Purger
	// Stored tells what a tenant stores; nil: nothing is known of it.
	Stored func(ctx context.Context, tenant macronode.TenantID) (bytes, objects int64, err error)
	// InFlight tells how many calls of a tenant run now, long-running ones
	// left out; nil: none.
	InFlight func(tenant macronode.TenantID) int64
	// NodeID is this node's, and Signer its key, which the list of revocations is
	// signed with; nil: it is not to be had.
	NodeID string
	Signer func() (revocation.Signer, error)
	// Told hears of revocations once they hold, before they are answered; it must
	// be quick. nil: nobody does.
	Told func([]revocation.Entry)
	// DefaultQuota is what a tenant gets that is created without one, before
	// the members that the request names; nil: unlimited.
	DefaultQuota func() macronode.Quota
	Metrics      Metrics
	Log          *slog.Logger     // nil: nothing is logged
	Now          func() time.Time // nil: time.Now
}

// Service is ron-auth. Its methods may be called from any goroutine.
type Service struct {
	store    kvStore
	mints    KeyStore
	kv       store.KV
	audit    macronode.Auditor
	idem     *idem.Keeper
	purgers  []Purger
	stored   func(context.Context, macronode.TenantID) (int64, int64, error)
	inFlight func(macronode.TenantID) int64
	initial  func() macronode.Quota // of a new tenant
	nodeID   string
	signer   func() (revocation.Signer, error)
	told     func([]revocation.Entry)
	m        Metrics
	log      *slog.Logger
	now      func() time.Time

	// change lets one change of tenants run at a time, from the transaction to
	// the change in memory, so that memory never goes back. A channel, so that
	// waiting heeds the context.
	change  chan struct{}
	tenants tenants
	revoked revocations
	keys    mintkeys.Keys

	kick   chan struct{}         // capacity 1: a deletion waits to be carried on
	damage atomic.Pointer[error] // the first damage met in the store

	mu       sync.Mutex
	finished map[macronode.TenantID]chan struct{} // closed when a deletion is complete; guarded by mu
}

var _ macronode.Service = (*Service)(nil)

// New loads tenants and revocations into memory and makes the built-in tenants
// where the store has none.
func New(ctx context.Context, c Config) (*Service, error) {
	if c.KV == nil || c.Keys == nil || c.Audit == nil || c.Idem == nil {
		return nil, errors.New("access: KV, Keys, Audit and Idem are needed")
	}
	if c.Stored == nil {
		c.Stored = func(context.Context, macronode.TenantID) (int64, int64, error) { return 0, 0, nil }
	}
	if c.InFlight == nil {
		c.InFlight = func(macronode.TenantID) int64 { return 0 }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Told == nil {
		c.Told = func([]revocation.Entry) {}
	}
	c.Metrics.fill()
	s := &Service{
		store: kvStore{c.KV}, mints: c.Keys, kv: c.KV, audit: c.Audit, idem: c.Idem, purgers: c.Purgers, stored: c.Stored, inFlight: c.InFlight, initial: c.DefaultQuota, nodeID: c.NodeID, signer: c.Signer, told: c.Told,
		m: c.Metrics, log: c.Log.With("service", Name), now: c.Now,
		change: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		finished: make(map[macronode.TenantID]chan struct{}),
	}
	s.keys.Init(c.Keys, s.tenants.exists)
	if err := s.store.ensureBuiltin(ctx, c.Now().UnixMilli()); err != nil {
		return nil, err
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Name implements macronode.Service.
func (s *Service) Name() string { return Name }

// load puts memory in step with the store. Revocations are only ever added, so
// those in memory stay.
func (s *Service) load(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	list, revs, err := s.store.loadAll(ctx)
	if err != nil {
		return err
	}
	s.tenants.replace(list)
	for _, r := range revs {
		s.revoked.add(r)
	}
	s.gauges()
	return nil
}

// lock waits for the right to change tenants.
func (s *Service) lock(ctx context.Context) error {
	select {
	case s.change <- struct{}{}:
		return nil
	case <-ctx.Done():
		return s.storeError(ctx.Err())
	}
}

func (s *Service) unlock() { <-s.change }

func (s *Service) gauges() {
	s.m.tenants.Set(float64(s.tenants.len()))
	s.m.revocations.Set(float64(s.revoked.len()))
}

// Ready implements macronode.Service: the store answers, and no damage was met.
func (s *Service) Ready(ctx context.Context) error {
	if err := s.damage.Load(); err != nil {
		return *err
	}
	return s.kv.Check(ctx)
}

// Serve implements macronode.Service: it carries deletions through, and notices
// when minting keys were rotated.
func (s *Service) Serve(ctx context.Context) error {
	// A run before this one may have ended between store and memory.
	if err := s.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.damage.Store(nil)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // also where a deletion panics
	wg.Go(func() { s.keys.Watch(ctx) })
	s.deletions(ctx)
	return nil
}

// Wipe forgets the minting keys in memory and overwrites them. It is for the end
// of the node, when no call runs any more.
func (s *Service) Wipe() { s.keys.Wipe() }

// storeError gives a store's error the kind that the caller sees, and notes
// damage, after which the service is not ready.
func (s *Service) storeError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, store.ErrCorrupt) && s.damage.CompareAndSwap(nil, &err) {
		s.log.Error("the store is damaged", "event", "access.damage", "err", err)
	}
	return store.Refusal(err)
}

// record appends an audit event, durable when it returns. Where the log takes
// none, nothing may be done.
func (s *Service) record(ctx context.Context, e macronode.AuditEvent) error {
	if err := s.audit.Append(ctx, e); err != nil {
		return macronode.Wrap(macronode.Unavailable, "the audit log takes no records, so nothing was done", err)
	}
	return nil
}

// failed notes that what was recorded before it was done was not done.
func (s *Service) failed(e macronode.AuditEvent, err error) {
	e.Reason, e.Must = macronode.KindOf(err).String(), true
	s.audit.Record(e)
	s.log.Warn("a change was recorded and then failed", "event", e.Kind, "reason", e.Reason, "err", err)
}
