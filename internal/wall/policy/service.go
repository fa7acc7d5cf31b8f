// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
	"github.com/rustyonions/macronode/internal/wall/policy/shadow"
)

// Name is the service's.
const Name = "ron-policy"

// Set is a checked bundle, ready to be put in force. It does not change.
type Set struct {
	*rules.Set
	source   Source // where it came from; nil: the service's own
	envelope []byte // as it was verified; empty where it was loaded bare
}

// DefaultCacheTTL is the config's default of cache_ttl_ms.
const DefaultCacheTTL = 250 * time.Millisecond

// Source is where the pinned bundle is kept: a KMS object.
type Source interface {
	// Fetch returns the envelope as it is stored now. It ends with ctx.
	Fetch(ctx context.Context) (envelope []byte, err error)
}

// Verifier checks a DSSE envelope of type PayloadType against the node's trust
// anchors and returns its payload.
type Verifier interface {
	Verify(envelope []byte) (payload []byte, err error)
}

// VerifierFunc is a function that is a Verifier.
type VerifierFunc func(envelope []byte) ([]byte, error)

// Verify implements Verifier.
func (f VerifierFunc) Verify(envelope []byte) ([]byte, error) { return f(envelope) }

// SignFunc puts a payload of the given type into a signed envelope.
type SignFunc func(payloadType string, payload []byte) (envelope []byte, err error)

// Seal signs a payload that loads.
func Seal(b []byte, sign SignFunc) (envelope []byte, err error) {
	if _, err := rules.Load(b); err != nil {
		return nil, err
	}
	return sign(PayloadType, b)
}

// Config is what the service needs.
type Config struct {
	Source   Source   // required
	Verifier Verifier // required
	// Pin is the hash that the bundle must have ("blake3:HEX"). It is used
	// where Serve runs before any Swap.
	Pin string
	// CacheTTL bounds the age of cached decisions, and how long the source may
	// be unreachable. At least a millisecond.
	CacheTTL time.Duration
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: discard
	Metrics  *Metrics         // nil: none
	Watch    *shadow.Watcher  // sees every evaluated decision; nil: nobody does
}

// Validate reports every problem.
func (c *Config) Validate() error {
	var errs []error
	if c.Source == nil {
		errs = append(errs, errors.New("policy: no source"))
	}
	if c.Verifier == nil {
		errs = append(errs, errors.New("policy: no verifier"))
	}
	if !payload.IsHash(c.Pin) {
		errs = append(errs, fmt.Errorf("policy: bundle hash %q is not of the form blake3:HEX", c.Pin))
	}
	if c.CacheTTL < time.Millisecond {
		errs = append(errs, errors.New("policy: cache_ttl_ms must be at least 1"))
	}
	return errors.Join(errs...)
}

// Service decides, and keeps looking whether the pinned bundle is still there.
// All methods may be called from any goroutine.
type Service struct {
	cfg   Config
	set   atomic.Pointer[Set] // nil: none yet
	ttl   atomic.Int64        // nanoseconds
	start time.Time

	// How fresh the set is: when the source last answered, in nanoseconds since
	// start, and whether it failed since.
	good    atomic.Int64
	failing atomic.Bool

	swapped chan struct{} // wakes Serve
	logged  sync.Map      // *rule: its failure was logged

	refused string // what Serve logged last; owned by Serve

	replaying atomic.Bool // one replay at a time
}

var (
	_ macronode.Service = (*Service)(nil)
	_ wall.Decider      = (*Service)(nil)
)

// New makes the service. It refuses everything until the first Swap, or until
// Serve has read the bundle itself.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, start: cfg.Now(), swapped: make(chan struct{}, 1)}
	s.ttl.Store(int64(cfg.CacheTTL))
	return s, nil
}

// Name implements macronode.Service.
func (s *Service) Name() string { return Name }

// ErrPin says that a bundle is not the pinned one.
var ErrPin = errors.New("the policy bundle's hash is not the pinned one")

// Prepare verifies an envelope's signature, that its payload has the hash pin,
// and all that Load checks. It changes nothing: Swap does.
func (s *Service) Prepare(envelope []byte, pin string) (*Set, error) {
	return s.prepare(s.cfg.Source, envelope, pin)
}

// PrepareFrom is Prepare with the envelope read from src, which Serve reads
// again after the swap: for a reload that names another KMS object.
func (s *Service) PrepareFrom(ctx context.Context, src Source, pin string) (*Set, error) {
	envelope, err := src.Fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("policy source: %w", err)
	}
	return s.prepare(src, envelope, pin)
}

func (s *Service) prepare(src Source, envelope []byte, pin string) (*Set, error) {
	if !payload.IsHash(pin) {
		return nil, fmt.Errorf("policy: bundle hash %q is not of the form blake3:HEX", pin)
	}
	b, err := s.open(envelope, pin)
	if err != nil {
		return nil, err
	}
	set, err := rules.Load(b)
	if err != nil {
		return nil, err
	}
	if set.Expired(s.cfg.Now()) {
		return nil, fmt.Errorf("the policy bundle expired at %s", set.Expires().Format(time.RFC3339))
	}
	return &Set{Set: set, source: src, envelope: bytes.Clone(envelope)}, nil
}

// open takes the pinned payload out of an envelope.
func (s *Service) open(envelope []byte, pin string) ([]byte, error) {
	if len(envelope) > payload.MaxEnvelopeBytes {
		return nil, fmt.Errorf("policy envelope is over %d bytes", payload.MaxEnvelopeBytes)
	}
	b, err := s.cfg.Verifier.Verify(envelope)
	if err != nil {
		return nil, fmt.Errorf("policy signature: %w", err)
	}
	if len(b) > payload.MaxBytes {
		return nil, fmt.Errorf("policy payload is over %d bytes", payload.MaxBytes)
	}
	if payload.Hash(b) != pin {
		return nil, ErrPin
	}
	return b, nil
}

// Swap puts a prepared set in force, at once and for all calls that begin
// after it. The old set's cached decisions go with it.
func (s *Service) Swap(set *Set) {
	s.set.Store(set)
	s.markGood()
	s.logged.Clear()
	select {
	case s.swapped <- struct{}{}:
	default:
	}
}

// SetCacheTTL changes the time to live of decisions, and of the source's silence.
func (s *Service) SetCacheTTL(d time.Duration) { s.ttl.Store(int64(max(d, time.Millisecond))) }

// Set is the set in force; nil before the first.
func (s *Service) Set() *Set { return s.set.Load() }

// Quotas is what the bundle in force says of quotas.
func (s *Service) Quotas() Quotas {
	if set := s.set.Load(); set != nil {
		return set.Set.Quotas()
	}
	return Quotas{}
}

// silence is how long Serve may be late with its own reading, beyond the time
// to live, before the source counts as away though no reading failed: a
// restart of the service, or a machine short of breath.
const silence = 2 * time.Second

// unavailable says why there is no policy to ask; "" where there is one.
func (s *Service) unavailable(set *Set, now time.Time) string {
	if set == nil {
		return "no policy is loaded"
	}
	if set.Expired(now) {
		return "the policy bundle has expired"
	}
	age := now.Sub(s.start) - time.Duration(s.good.Load())
	ttl := time.Duration(s.ttl.Load())
	if (s.failing.Load() && age > ttl) || age > ttl+silence {
		return "the policy source is unreachable"
	}
	return ""
}

// Ready implements macronode.Service.
func (s *Service) Ready(context.Context) error {
	if why := s.unavailable(s.set.Load(), s.cfg.Now()); why != "" {
		return errors.New(why)
	}
	return nil
}

// Decide implements wall.Decider. The slices of the decision are shared:
// callers must not change them. A cached decision costs no allocation.
func (s *Service) Decide(_ context.Context, r *wall.PolicyRequest) (wall.Decision, error) {
	now := s.cfg.Now()
	set := s.set.Load()
	if why := s.unavailable(set, now); why != "" {
		s.cfg.Metrics.decided(rules.Failed, 0)
		return wall.Decision{}, macronode.Wrap(macronode.PolicyUnavailable, "", errors.New(why))
	}
	a := set.Decide(r, now, time.Duration(s.ttl.Load()))
	if len(a.Failures) > 0 {
		s.logFailures(set, a)
	}
	s.cfg.Watch.See(r, set.Set, a)
	s.cfg.Metrics.decided(a.Outcome, s.cfg.Now().Sub(now))
	return a.Decision, nil
}

// logFailures tells the operator, once a rule and set, that a rule fails.
func (s *Service) logFailures(set *Set, a rules.Answer) {
	for _, f := range a.Failures {
		if _, seen := s.logged.LoadOrStore(f.PolicyID, true); !seen {
			s.cfg.Log.Error("a policy failed to evaluate; requests it applies to are denied", "service", Name,
				"event", "policy_error", "policy", string(f.PolicyID), "reason", f.Message, "bundle_hash", set.Hash())
		}
	}
}
