// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
)

const (
	// answerDelete is how long a call waits for its deletion to be complete
	// before it is told that it goes on.
	answerDelete = 2 * time.Second
	// settle is how long calls that had passed auth before a deletion may take
	// until they are counted as in flight.
	settle = 100 * time.Millisecond
	// maxSettle is how long a deletion waits for the tenant's last calls. It is
	// longer than any request but a stream that is kept open on purpose.
	maxSettle = 15 * time.Minute
	// maxRetry bounds the back-off of a deletion whose purge fails.
	maxRetry = 30 * time.Second
	// retryDelete is how long a deletion that cannot go on waits at first.
	retryDelete = 250 * time.Millisecond
)

func (s *Service) deleteTenant(ctx context.Context, a *macronode.Admitted, body []byte, _ *idem.Claim) (*macronode.Reply, error) {
	x, err := s.named(a)
	if err != nil {
		return nil, err
	}
	if err := noBody(body); err != nil {
		return nil, err
	}
	if builtin(x.ID) {
		return nil, macronode.Errorf(macronode.Invalid, "the built-in tenants can not be deleted")
	}
	done, err := s.Delete(ctx, a.Actor(), x.ID)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(answerDelete)
	defer timer.Stop()
	select {
	case <-done:
		return &macronode.Reply{Status: 204}, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	if x = s.tenants.get(x.ID); x == nil {
		return &macronode.Reply{Status: 204}, nil
	}
	return jsonReply(202, show(x))
}

// Delete begins the deletion of a tenant, or joins one that runs. When it
// returns, all capabilities of the tenant are dead, durably; the channel is
// closed when nothing is left of it, which takes Serve to run.
func (s *Service) Delete(ctx context.Context, actor string, id macronode.TenantID) (<-chan struct{}, error) {
	x := s.tenants.get(id)
	if x == nil {
		return nil, noTenant()
	}
	done := s.watch(id)
	if !x.deleting {
		_, err := s.modify(ctx, id, change{
			actor: actor, kind: "tenant.delete", attrs: map[string]any{"label": x.Label}, frees: true,
			edit: func(r *tenantRecord) error { r.Deleting = true; return nil },
		})
		now := s.tenants.get(id)
		if err != nil && now != nil && !now.deleting {
			return nil, err
		}
		s.keys.Forget(id) // err: another call was first
	}
	if s.tenants.get(id) == nil { // complete already, perhaps before watch
		s.complete(id)
	}
	s.wake()
	return done, nil
}

// watch returns the channel that tells the end of a tenant's deletion.
func (s *Service) watch(id macronode.TenantID) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.finished[id]
	if !ok {
		c = make(chan struct{})
		s.finished[id] = c
	}
	return c
}

func (s *Service) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// burial is one deletion as the loop sees it.
type burial struct {
	began time.Time // when this run first saw it
	next  time.Time
	wait  time.Duration
}

// deletions carries deletions through until ctx ends.
func (s *Service) deletions(ctx context.Context) {
	work := map[macronode.TenantID]*burial{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		case <-timer.C:
		}
		list := s.tenants.deleting()
		s.m.deleting.Set(float64(len(list)))
		pause := time.Hour
		for _, x := range list {
			b := work[x.ID]
			if b == nil {
				// Calls that were let in just before need a moment to be counted.
				b = &burial{began: time.Now(), next: time.Now().Add(settle)}
				work[x.ID] = b
			}
			if until := time.Until(b.next); until > 0 {
				pause = min(pause, until)
				continue
			}
			if s.carryOn(ctx, x, b) {
				delete(work, x.ID)
				continue
			}
			pause = min(pause, max(0, time.Until(b.next)))
		}
		timer.Reset(pause)
	}
}

// carryOn takes one step and reports whether the deletion is complete.
func (s *Service) carryOn(ctx context.Context, x *tenant, b *burial) bool {
	// Whoever runs now may still write, so what is purged is final only if
	// nobody ran before the purge began.
	busy := s.inFlight(x.ID) > 0 && time.Since(b.began) < maxSettle
	err := s.purge(ctx, x)
	if err == nil && busy {
		b.wait, b.next = 0, time.Now().Add(retryDelete)
		return false
	}
	if err == nil {
		err = s.finish(ctx, x)
	}
	if err == nil {
		return true
	}
	if ctx.Err() == nil {
		s.log.Warn("a tenant's deletion is held up", "event", "tenant.delete", "tenant", x.ID.String(), "err", err)
	}
	b.wait = min(max(2*b.wait, retryDelete), maxRetry)
	b.next = time.Now().Add(b.wait)
	return false
}

func (s *Service) purge(ctx context.Context, x *tenant) error {
	for _, p := range s.purgers {
		if err := p.Purge(ctx, x.ID); err != nil {
			return err
		}
	}
	return nil
}

// finish removes the minting keys and then the record: while the record is
// there, a crash leads back here.
func (s *Service) finish(ctx context.Context, x *tenant) error {
	if err := s.mints.DeleteMint(ctx, MintKeyName(x.ID)); err != nil {
		return err
	}
	if err := s.record(ctx, macronode.AuditEvent{
		Stream: "node", Kind: "tenant.deleted", Actor: "node", Subject: tenantSubject(x.ID), Attrs: map[string]any{"label": x.Label},
	}); err != nil {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if err := s.store.bury(ctx, x, s.now().UnixMilli()); err != nil {
		return s.storeError(err)
	}
	s.tenants.remove(x)
	s.revoked.forget(x.ID)
	s.gauges()
	s.m.deleting.Set(float64(len(s.tenants.deleting())))
	s.complete(x.ID)
	return nil
}

// complete tells those who wait for a tenant's deletion.
func (s *Service) complete(id macronode.TenantID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.finished[id]; ok {
		close(c)
		delete(s.finished, id)
	}
}
