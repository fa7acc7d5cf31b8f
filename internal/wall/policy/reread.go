// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"context"
	"time"

	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

// How often the source is read: twice in a time to live, so that one reading falls
// into each; when it fails, so often and with so little patience that its return is
// seen within a second, however long it was away.
const (
	readingsPerTTL = 2
	retryEvery     = 250 * time.Millisecond
	retryTimeout   = 500 * time.Millisecond
	minReadEvery   = 5 * time.Millisecond
	minReadTimeout = 250 * time.Millisecond
	maxReadTimeout = 2 * time.Second
)

// Serve implements macronode.Service: it reads the pinned object again and
// again, so that the node knows when it cannot. The pinned content is the only
// one that counts; another one in its place is refused and the set in force
// stays.
func (s *Service) Serve(ctx context.Context) error {
	defer s.watch(ctx)()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.swapped:
		case <-timer.C:
		}
		s.read(ctx)
		timer.Reset(s.every())
	}
}

func (s *Service) every() time.Duration {
	d := max(time.Duration(s.ttl.Load())/readingsPerTTL, minReadEvery)
	if s.failing.Load() || s.unavailable(s.set.Load(), s.cfg.Now()) != "" {
		d = min(d, retryEvery)
	}
	return d
}

// patience is how long one reading may take.
func (s *Service) patience() time.Duration {
	d := min(max(time.Duration(s.ttl.Load()), minReadTimeout), maxReadTimeout)
	if s.failing.Load() {
		d = min(d, retryTimeout)
	}
	return d
}

// read reads the source once and takes note of what came.
func (s *Service) read(ctx context.Context) {
	set := s.set.Load()
	src, pin := s.cfg.Source, s.cfg.Pin
	if set != nil {
		pin = set.Hash()
		if set.source != nil {
			src = set.source
		}
	}
	began := s.sinceStart()
	fetch, cancel := context.WithTimeout(ctx, s.patience())
	envelope, err := src.Fetch(fetch)
	cancel()
	if s.set.Load() != set || ctx.Err() != nil {
		return // a reload came between: what was read is not about the set in force
	}
	if err != nil {
		if s.failing.CompareAndSwap(false, true) {
			s.cfg.Log.Warn("the policy source cannot be read", "service", Name, "event", "policy_source", "outcome", "away", "reason", err.Error())
		}
		return
	}
	if set == nil {
		s.first(src, envelope, pin)
		return
	}
	s.good.Store(began)
	if s.failing.CompareAndSwap(true, false) {
		s.cfg.Log.Info("the policy source is back", "service", Name, "event", "policy_source", "outcome", "back")
	}
	s.compare(set, envelope)
}

// first loads the bundle where nobody did before Serve.
func (s *Service) first(src Source, envelope []byte, pin string) {
	next, err := s.prepare(src, envelope, pin)
	if err != nil {
		s.refuse(envelope, err)
		return
	}
	if s.set.CompareAndSwap(nil, next) {
		s.markGood()
	}
}

// compare looks whether the source still holds the pinned content; it may have
// been signed again.
func (s *Service) compare(set *Set, envelope []byte) {
	if bytes.Equal(envelope, set.envelope) {
		s.refused = ""
		return
	}
	if _, err := s.open(envelope, set.Hash()); err != nil {
		s.refuse(envelope, err)
	}
}

// refuse counts a content that is not in order, and logs it once.
func (s *Service) refuse(envelope []byte, err error) {
	s.cfg.Metrics.refusedSource()
	text := err.Error() + " " + payload.Hash(envelope[:min(len(envelope), payload.MaxEnvelopeBytes)])
	if s.refused == text {
		return
	}
	s.refused = text
	s.cfg.Log.Error("the policy source holds a bundle that is refused", "service", Name, "event", "policy_source",
		"outcome", "refused", "reason", err.Error())
}

func (s *Service) sinceStart() int64 { return int64(s.cfg.Now().Sub(s.start)) }

func (s *Service) markGood() {
	s.good.Store(s.sinceStart())
	s.failing.Store(false)
}
