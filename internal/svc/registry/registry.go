// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/registry/chain"
	"github.com/rustyonions/macronode/internal/svc/registry/feed"
	"github.com/rustyonions/macronode/registry"
)

// Name is the service's name in config, metrics and logs.
const Name = "svc-registry"

// Config is what the service works with. All but Halves, Changed, Tell, Log and Now
// must be set.
type Config struct {
	KV    store.KV
	Audit macronode.Auditor
	Idem  *idem.Keeper
	// NodeID is this node's, and Key its key, which heads are signed with.
	NodeID string
	Key    registry.NodeSigner
	// Halves are signers with each half of a key of purpose registry of the key
	// service; nil: the node has none.
	Halves func(bundle.Ref) ([]bundle.Signer, error)
	// Changed hears of every change of the state; Tell of every new signed head.
	// They must be quick. nil: nobody does.
	Changed func()
	Tell    func(head []byte)
	Metrics Metrics
	Log     *slog.Logger     // nil: nothing is logged
	Now     func() time.Time // nil: time.Now
}

// Service is svc-registry. Its methods may be called from any goroutine.
type Service struct {
	c   Config
	kv  store.KV
	log *slog.Logger
	now func() time.Time

	// change lets one change run at a time, from what it reads to the change in
	// memory. A channel, so that waiting heeds the context.
	change chan struct{}
	// stuck says that a transaction's outcome is unknown: memory is read again
	// before the next change. Owned by who holds change.
	stuck bool

	chain atomic.Pointer[chain.Chain] // nil: not loaded, or there is none
	// trees guards chain.tree, which grows in place.
	trees  sync.RWMutex
	news   feed.Feed[Changed]
	damage atomic.Pointer[error]
}

var _ macronode.Service = (*Service)(nil)

// New reads and replays the chain. Damage does not fail it: the service says so
// itself, and everything else of the node runs.
func New(ctx context.Context, c Config) (*Service, error) {
	if c.KV == nil || c.Audit == nil || c.Idem == nil || c.NodeID == "" || c.Key == nil {
		return nil, errors.New("registry: KV, Audit, Idem, NodeID and Key are needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Tell == nil {
		c.Tell = func([]byte) {}
	}
	c.Metrics.fill()
	s := &Service{c: c, kv: c.KV, log: c.Log.With("service", Name), now: c.Now, change: make(chan struct{}, 1)}
	if err := s.load(ctx); err != nil && !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, chain.ErrNone) {
		return nil, err
	}
	return s, nil
}

// Name implements macronode.Service.
func (s *Service) Name() string { return Name }

// load puts memory in step with the store, and signs the head where this node is the
// writer and it is not signed.
func (s *Service) load(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	return s.reload(ctx)
}

// reload is load with the lock held.
func (s *Service) reload(ctx context.Context) error {
	c, err := chain.Load(ctx, s.kv)
	switch {
	case errors.Is(err, chain.ErrNone):
		s.chain.Store(nil)
		return err
	case err != nil:
		return s.broken(err)
	}
	s.damage.Store(nil)
	s.stuck = false
	s.show(c)
	if c.Signed == nil && c.State.Writer() == s.c.NodeID {
		return s.signAgain(ctx, c)
	}
	return nil
}

// signAgain signs the head of a chain whose signed head is missing.
func (s *Service) signAgain(ctx context.Context, c *chain.Chain) error {
	text, head, err := s.sign(c.State, c.Tree)
	if err != nil {
		s.log.Warn("the head cannot be signed now", "event", "registry.sign", "error", err)
		return nil
	}
	err = s.kv.Update(ctx, func(tx store.Tx) error { return chain.SetSigned(tx, text) })
	if err != nil {
		return err
	}
	again := *c
	again.Signed, again.Head = text, head
	s.show(&again)
	return nil
}

// sign signs the head of a state.
func (s *Service) sign(state *registry.State, tree *registry.Tree) ([]byte, *registry.Head, error) {
	text, err := registry.SignHead(registry.HeadOf(state, tree), s.c.Key)
	if err != nil {
		return nil, nil, err
	}
	h, err := registry.ParseHead(text)
	if err == nil {
		err = state.Ends(h, tree.Root())
	}
	return text, h, err
}

// show makes c what is served.
func (s *Service) show(c *chain.Chain) {
	s.chain.Store(c)
	m := &s.c.Metrics
	m.entries.Set(float64(c.State.Size()))
	m.descriptors.Set(float64(c.State.Len()))
	m.signers.Set(float64(len(c.State.Signers().Signers)))
	writer := 0.0
	if c.State.Writer() == s.c.NodeID {
		writer = 1
	}
	m.writer.Set(writer)
	s.news.Wake()
	s.c.Changed()
}

// broken notes damage, after which the service is not ready.
func (s *Service) broken(err error) error {
	if errors.Is(err, store.ErrCorrupt) {
		s.log.Error("the registry's chain does not verify", "event", "registry.damage", "error", err)
		s.damage.Store(&err)
		s.chain.Store(nil)
	}
	return err
}

// lock waits for the right to change something.
func (s *Service) lock(ctx context.Context) error {
	select {
	case s.change <- struct{}{}:
		return nil
	case <-ctx.Done():
		return store.Refusal(ctx.Err())
	}
}

func (s *Service) unlock() { <-s.change }

// begin locks, and is the chain that a change may be made to.
func (s *Service) begin(ctx context.Context) (*chain.Chain, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	if s.stuck {
		if err := s.reload(ctx); err != nil {
			s.unlock()
			return nil, store.Refusal(err)
		}
	}
	c, err := s.open()
	if err != nil {
		s.unlock()
		return nil, err
	}
	return c, nil
}

// open is the chain that is served.
func (s *Service) open() (*chain.Chain, error) {
	if c := s.chain.Load(); c != nil {
		return c, nil
	}
	if s.damage.Load() != nil {
		return nil, macronode.Errorf(macronode.Unavailable, "the registry's chain does not verify")
	}
	return nil, macronode.Errorf(macronode.NotFound, "there is no registry here")
}

// Ready implements macronode.Service: the chain verified, and the store answers.
func (s *Service) Ready(ctx context.Context) error {
	if err := s.damage.Load(); err != nil {
		return *err
	}
	if s.chain.Load() == nil {
		return chain.ErrNone
	}
	return s.kv.Check(ctx)
}

// Serve implements macronode.Service: it ends proposals whose time is over, and
// forgets those that were closed long ago.
func (s *Service) Serve(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := cmp.Or(s.sweep(ctx), s.compact(ctx)); err != nil && ctx.Err() == nil {
			if errors.Is(err, store.ErrCorrupt) {
				return s.broken(err)
			}
			s.log.Warn("proposals could not be looked through", "event", "registry.sweep", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// State is the state of the registry; nil where there is none that verifies.
func (s *Service) State() *registry.State {
	if c := s.chain.Load(); c != nil {
		return c.State
	}
	return nil
}

// Signed is the signed head; nil where there is none.
func (s *Service) Signed() []byte {
	if c := s.chain.Load(); c != nil {
		return c.Signed
	}
	return nil
}

// record appends an audit event, durable when it returns. Where the log takes none,
// nothing may be done.
func (s *Service) record(ctx context.Context, e macronode.AuditEvent) error {
	if err := s.c.Audit.Append(ctx, e); err != nil {
		return macronode.Wrap(macronode.Unavailable, "the audit log takes no records, so nothing was done", err)
	}
	return nil
}

// failed notes that what was recorded before it was done was not done.
func (s *Service) failed(e macronode.AuditEvent, err error) {
	e.Reason = macronode.KindOf(err).String()
	s.c.Audit.Record(e)
	s.log.Warn("a change was recorded and then failed", "event", e.Kind, "reason", e.Reason, "error", err)
}

// refusal gives the errors of the rules the kinds that callers see.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, registry.ErrMalformed):
		return macronode.Errorf(macronode.Malformed, "%s", err.Error())
	case errors.Is(err, registry.ErrStale):
		return macronode.Errorf(macronode.Conflict, "%s", err.Error())
	case errors.Is(err, registry.ErrRule), errors.Is(err, registry.ErrSignature), errors.Is(err, registry.ErrExpired):
		return macronode.Errorf(macronode.Invalid, "%s", err.Error())
	}
	return store.Refusal(err)
}

func subject(kind string, id fmt.Stringer) string { return "registry/" + kind + "/" + id.String() }
