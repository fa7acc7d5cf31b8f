// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
)

// Breakers shows the circuit breakers before the node's dependencies and forces them.
type Breakers interface {
	// Breakers lists them by name.
	Breakers() []BreakerStatus
	// Force is on record before it holds. NotFound, Invalid, or Unavailable
	// where it cannot be recorded.
	Force(ctx context.Context, actor string, f BreakerForce) (BreakerStatus, error)
}

// BreakerForce is what an operator wants of a breaker.
type BreakerForce struct {
	Name, State, Reason string
	For                 time.Duration // 0: until it is taken back, or as long as may be
}

// The documents of the breaker routes. Times are unix milliseconds.
type (
	// BreakerStatus is one breaker.
	BreakerStatus struct {
		Name     string `json:"name"`  // of the dependency
		State    string `json:"state"` // closed, open, half_open
		Mode     string `json:"mode"`  // auto, or forced: open, closed
		Required bool   `json:"required"`
		SinceMS  int64  `json:"since_ms"`
		// UntilMS is when it is tried next, or when the force ends.
		UntilMS     int64  `json:"until_ms,omitempty"`
		Reason      string `json:"reason,omitempty"`
		InFlight    int64  `json:"in_flight"`
		Failures    int64  `json:"failures"` // in a row
		Opened      uint64 `json:"opened"`   // times, since the start
		Refused     uint64 `json:"refused"`  // calls, since the start
		LastFailure string `json:"last_failure,omitempty"`
	}

	// BreakerList is the answer of GET /v1/admin/breakers.
	BreakerList struct {
		Breakers []BreakerStatus `json:"breakers"`
	}

	// BreakerRequest is the body of POST /v1/admin/breakers/{name}.
	BreakerRequest struct {
		State string `json:"state"` // open, closed or auto
		// ForMS ends the force by itself; 0: not, or after the longest that
		// this breaker may be held.
		ForMS  int64  `json:"for_ms,omitempty"`
		Reason string `json:"reason,omitempty"` // at most 200 bytes
	}
)

const (
	maxForce       = 24 * time.Hour
	maxForceReason = 200
)

func (s *Service) breakers(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	return document(200, BreakerList{s.cfg.Breakers.Breakers()})
}

func (s *Service) forceBreaker(ctx context.Context, a *macronode.Admitted, body []byte) (*macronode.Reply, error) {
	var req BreakerRequest
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if req.ForMS < 0 || req.ForMS > maxForce.Milliseconds() || len(req.Reason) > maxForceReason {
		return nil, macronode.Errorf(macronode.Invalid, "for_ms is 0 to %d, and reason has at most %d bytes", maxForce.Milliseconds(), maxForceReason)
	}
	now, err := s.cfg.Breakers.Force(ctx, a.Principal.Actor(), BreakerForce{Name: a.Arg("name"), State: req.State, Reason: req.Reason,
		For: time.Duration(req.ForMS) * time.Millisecond})
	if err != nil {
		return nil, err
	}
	return document(200, now)
}

// keep makes a handler of f that keeps its answers with k, or not at all.
func (s *Service) keep(k *idem.Keeper, f actor) macronode.Handler {
	if k == nil {
		return func(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
			body, err := readAll(a)
			if err != nil {
				return nil, err
			}
			return f(ctx, a, body)
		}
	}
	return k.Wrap(func(ctx context.Context, a *macronode.Admitted, body []byte, _ *idem.Claim) (*macronode.Reply, error) {
		return f(ctx, a, body)
	})
}

// inMemory keeps answers where no breaker stands before: of what an operator does
// while metadata is away, or to bring it back. They last as long as the process,
// and so does what was done.
func (s *Service) inMemory(f actor) macronode.Handler {
	h := s.keep(s.cfg.Spare, f)
	return func(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
		if s.cfg.Spare != nil {
			if _, err := s.cfg.Spare.Sweep(ctx, time.Now()); err != nil {
				return nil, err
			}
		}
		return h(ctx, a)
	}
}
