// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/rustyonions/macronode/client"
)

// keep extends the leases of what waits and what is handled, well before they end,
// several with one call.
func (r *run) keep() {
	for {
		due, next := r.due(time.Now())
		if len(due) > 0 {
			r.extend(due)
			continue
		}
		t := time.NewTimer(next)
		select {
		case <-t.C:
		case <-r.wake:
		case <-r.quit:
			t.Stop()
			return
		}
		t.Stop()
	}
}

// due returns what is to be extended now, or how long nothing is. Leases that have
// ended by then are lost.
func (r *run) due(now time.Time) (due []*hold, next time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Those that follow soon go along.
	soon := now.Add(r.Visibility / 10)
	next = time.Hour
	first := false
	for h := range r.held {
		if h.settled || h.lost {
			continue
		}
		if !h.ends.After(now) {
			r.lose(h)
			continue
		}
		at := h.ends.Add(-r.Visibility / 3)
		if at.Before(h.again) {
			at = h.again
		}
		if r.MaxHold > 0 && h.begun && h.since.Add(r.MaxHold).Before(now) || at.After(h.ends) {
			at = h.ends // to be lost
		}
		first = first || !at.After(now)
		if at.Before(h.ends) && !at.After(soon) && len(due) < maxAtOnce {
			due = append(due, h)
		}
		next = min(next, at.Sub(now))
	}
	if !first {
		return nil, next
	}
	return due, 0
}

// lose marks h as somebody else's. Its caller holds mu.
func (r *run) lose(h *hold) {
	h.lost = true
	if h.cancel != nil {
		h.cancel(ErrLeaseLost)
	}
}

// extend extends leases in one call.
func (r *run) extend(due []*hold) {
	now := time.Now()
	// A call that takes long leaves time for another.
	ctx, cancel := context.WithTimeout(r.tell, r.Visibility/6)
	defer cancel()
	outcomes, err := r.From.Extend(ctx, r.Visibility, receiptsOf(due)...)
	if outcomes == nil && err == nil {
		err = errResults
	}
	if outcomes == nil {
		r.Report(fmt.Errorf("the leases of %d messages could not be extended: %w", len(due), err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, h := range due {
		switch {
		case outcomes == nil:
			h.again = time.Now().Add(min(pause(err, 0), r.Visibility/12) + r.Visibility/60)
		case outcomes[i].Err == nil:
			h.ends, h.again = now.Add(r.Visibility), time.Time{}
		case !h.settled:
			r.lose(h)
		}
	}
}

// Waits between tries.
const (
	pauseFirst = 100 * time.Millisecond
	pauseMost  = 30 * time.Second
)

// pause is how long to wait after a failure, the try-th in a row: as long as the
// node asks for and a little more, so that those who were sent away together do not
// come back together; where it did not ask, full jitter from 100 ms doubling.
func pause(cause error, try int) time.Duration {
	var refused *client.Error
	if errors.As(cause, &refused) && refused.RetryAfter > 0 {
		return refused.RetryAfter + rand.N(refused.RetryAfter/4+time.Millisecond)
	}
	most := min(pauseFirst<<min(try, 16), pauseMost)
	return most/10 + rand.N(most)
}

// rest waits, at most until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// hopeless reports whether waiting does not mend a failure. That a topic is not
// there does: its first message may come.
func hopeless(err error) bool {
	var refused *client.Error
	if !errors.As(err, &refused) {
		return errors.Is(err, ErrTopicName) || errors.Is(err, client.ErrPlaintext)
	}
	switch refused.Status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return false
	}
	return refused.Status/100 == 4 || refused.Status == http.StatusNotImplemented
}
