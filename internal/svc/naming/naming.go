// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/name/document"
)

// Name is the service's name in config, metrics and logs.
const Name = "ron-naming"

// Limits are the [naming] section of the config bundle. They change live.
type Limits struct {
	MaxNames   int64 // of a tenant
	MaxHistory int64 // versions that a name keeps, the current one too
}

// Bounds of the limits.
const (
	TopNames   = 10_000_000
	TopHistory = 1000
)

// Validate reports a limit that makes no sense.
func (l Limits) Validate() error {
	if l.MaxNames < 1 || l.MaxNames > TopNames || l.MaxHistory < 1 || l.MaxHistory > TopHistory {
		return fmt.Errorf("naming: limits out of range: %d names a tenant, %d versions a name", l.MaxNames, l.MaxHistory)
	}
	return nil
}

// Objects answers with a tenant's object, as svc-storage does: ranges, conditions
// and all.
type Objects interface {
	Get(ctx context.Context, a *macronode.Admitted, addr b3.Addr) (*macronode.Reply, error)
	Stat(ctx context.Context, a *macronode.Admitted, addr b3.Addr) (*macronode.Reply, error)
}

// Journal hears of each change in its transaction.
type Journal interface {
	NameSet(tx store.Tx, tenant macronode.TenantID, name string, addr b3.Addr, version uint64, atMS int64) error
	NameDeleted(tx store.Tx, tenant macronode.TenantID, name string, version uint64, atMS int64) error
}

// Config is what the service works with. KV, Idem, Objects and Audit are required.
type Config struct {
	KV      store.KV
	Idem    *idem.Keeper
	Objects Objects
	Audit   macronode.Auditor
	Limits  Limits
	// Signer signs documents with the node's key; nil: there are none.
	Signer  func() (document.Signer, error)
	Journal Journal // nil: nobody wants to know
	Metrics *Metrics
	Log     *slog.Logger     // nil: nothing is logged
	Now     func() time.Time // nil: time.Now
}

// Service is ron-naming. Its methods may be called from any goroutine.
type Service struct {
	kv      store.KV
	idem    *idem.Keeper
	objects Objects
	audit   macronode.Auditor
	limits  atomic.Pointer[Limits]
	signer  func() (document.Signer, error)
	journal Journal
	m       *Metrics
	log     *slog.Logger
	now     func() time.Time
	hub     hub
	damage  atomic.Pointer[error] // the first damage met in the store
	fatal   chan error            // capacity 1: what ends Serve
}

var _ macronode.Service = (*Service)(nil)

// New returns a service that works once its handlers are called.
func New(c Config) (*Service, error) {
	if c.KV == nil || c.Idem == nil || c.Objects == nil || c.Audit == nil {
		return nil, errors.New("naming: KV, Idem, Objects and Audit are required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	s := &Service{kv: c.KV, idem: c.Idem, objects: c.Objects, audit: c.Audit, signer: c.Signer, journal: c.Journal, m: c.Metrics,
		log: c.Log.With("service", Name), now: c.Now, fatal: make(chan error, 1)}
	return s, s.SetLimits(c.Limits)
}

// SetLimits makes l hold for changes that begin from now on.
func (s *Service) SetLimits(l Limits) error {
	if err := l.Validate(); err != nil {
		return err
	}
	s.limits.Store(&l)
	return nil
}

// Name implements macronode.Service.
func (s *Service) Name() string { return Name }

// Ready implements macronode.Service: the store answers, and no damage was met.
func (s *Service) Ready(ctx context.Context) error {
	if err := s.damage.Load(); err != nil {
		return *err
	}
	return s.kv.Check(ctx)
}

// Serve implements macronode.Service. There is nothing to do between calls: it
// counts what is there, and returns where metadata turns out to be damaged.
func (s *Service) Serve(ctx context.Context) error {
	s.damage.Store(nil)
	select {
	case <-s.fatal: // of the run before
	default:
	}
	if err := s.count(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.fatal:
		return err
	}
}

// count puts the gauges right, from the totals of every tenant.
func (s *Service) count(ctx context.Context) error {
	var names uint64
	lo, hi := []byte(keyPrefix), after([]byte(keyPrefix))
	for lo != nil {
		var tenant macronode.TenantID
		found := false
		err := s.kv.View(ctx, func(r store.Reader) error {
			err := r.Scan(lo, hi, func(k, _ []byte) bool {
				found = len(k) > len(keyPrefix)+len(tenant)
				copy(tenant[:], k[len(keyPrefix):])
				return false
			})
			if err != nil || !found {
				return err
			}
			u, err := getTotals(r, tenant)
			names += u.names
			return err
		})
		if err != nil {
			return s.storeError(err)
		}
		if !found {
			break
		}
		lo = after(append([]byte(keyPrefix), tenant[:]...))
	}
	s.m.names.Set(float64(names))
	return nil
}

// storeError gives a store's error the kind that the caller sees. Damage ends
// Serve: nothing that metadata says can be believed then.
func (s *Service) storeError(err error) error {
	if err != nil && errors.Is(err, store.ErrCorrupt) {
		if s.damage.CompareAndSwap(nil, &err) {
			s.log.Error("the store is damaged", "event", "naming.damage", "error", err)
		}
		select {
		case s.fatal <- err:
		default:
		}
	}
	return store.Refusal(err)
}

// Lookup returns what a tenant's name points at; NotFound where there is none. name
// is in its normal form.
func (s *Service) Lookup(ctx context.Context, tenant macronode.TenantID, name string) (Entry, error) {
	r, err := s.lookup(ctx, tenant, name)
	if err != nil {
		return Entry{}, err
	}
	e, err := r.entry(name)
	return e, s.storeError(err)
}

func (s *Service) lookup(ctx context.Context, tenant macronode.TenantID, name string) (record, error) {
	var rec record
	err := s.kv.View(ctx, func(r store.Reader) error {
		b, err := r.Get(nameKey(tenant, keyName, name))
		if err != nil {
			return err
		}
		rec, err = decodeRecord(b)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		s.m.misses.Inc()
		return rec, errNoName()
	}
	if err != nil {
		return rec, s.storeError(err)
	}
	s.m.hits.Inc()
	return rec, nil
}

// Names returns at most limit of a tenant's names that come after one ("": from the
// first), in the order of their bytes. Fewer say that these were the last.
func (s *Service) Names(ctx context.Context, tenant macronode.TenantID, afterName string, limit int) (list []Entry, err error) {
	lo := key(tenant, keyName)
	hi := after(lo)
	if afterName != "" {
		lo = append(nameKey(tenant, keyName, afterName), 0)
	}
	err = s.kv.View(ctx, func(r store.Reader) error {
		list = list[:0]
		var bad error
		err := r.Scan(lo, hi, func(k, v []byte) bool {
			rec, err := decodeRecord(v)
			if err == nil {
				var e Entry
				if e, err = rec.entry(string(k[len(keyPrefix)+17:])); err == nil {
					list = append(list, e)
				}
			}
			bad = err
			return bad == nil && len(list) < limit
		})
		return errors.Join(err, bad)
	})
	return list, s.storeError(err)
}

// purgeBatch bounds one transaction of Purge, which other writers wait for.
const purgeBatch = 512

// Purge drops everything of a tenant that is being deleted. It may be repeated.
func (s *Service) Purge(ctx context.Context, tenant macronode.TenantID) error {
	lo := append([]byte(keyPrefix), tenant[:]...)
	for {
		var keys [][]byte
		var gone totals
		err := s.kv.Reclaim(ctx, func(tx store.Tx) (err error) {
			keys = keys[:0]
			if gone, err = getTotals(tx, tenant); err != nil {
				return err
			}
			err = tx.Scan(lo, after(lo), func(k, _ []byte) bool {
				keys = append(keys, bytes.Clone(k))
				return len(keys) < purgeBatch
			})
			for _, k := range keys {
				err = errors.Join(err, tx.Delete(k))
			}
			return err
		})
		if err != nil {
			return s.storeError(err)
		}
		if len(keys) < purgeBatch {
			// The totals go with the last batch: they sort last.
			s.m.names.Sub(float64(gone.names))
			s.hub.wake(tenant)
			return nil
		}
	}
}
