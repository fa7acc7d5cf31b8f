// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rustyonions/macronode/client/internal/budget"
)

// Defaults of RetryBudget.
const (
	// DefaultRetryRatio is what a call adds to the budget: one retry in ten calls.
	DefaultRetryRatio = 0.1
	// DefaultRetryBurst is how many retries a budget holds at most, and at first.
	DefaultRetryBurst = 20
	// retryPerSec is what a second adds, so that a program that calls seldom is
	// not left without.
	retryPerSec = 1.0
)

// RetryBudget bounds the tries that a Client makes beyond the first of each call,
// over all its calls: a node that fails many of them gets about a tenth more
// work, not five times as much. Each call adds Ratio, each second 1, up to Burst;
// each retry takes 1. Where less than 1 is left, the call ends with its error.
type RetryBudget struct {
	Ratio float64 // at most 1; 0: DefaultRetryRatio
	Burst int     // 0: DefaultRetryBurst
}

// Stats counts what a Client did since Dial.
type Stats struct {
	// Calls are those that were asked for, Retries further tries that were made
	// for them, and NoBudget those that were not, because too many had been.
	Calls, Retries, NoBudget uint64
	// Conns are the connections made; over HTTP they are not counted.
	Conns uint64
}

func newBudget(r RetryBudget) (*budget.Budget, error) {
	if r.Ratio < 0 || r.Ratio > 1 || r.Burst < 0 {
		return nil, errors.New("a retry budget's ratio is between 0 and 1, its burst not negative")
	}
	return budget.New(cmp.Or(r.Ratio, DefaultRetryRatio), retryPerSec, float64(cmp.Or(r.Burst, DefaultRetryBurst))), nil
}

// Stats returns the counts of now.
func (c *Client) Stats() Stats {
	calls, retries, denied := c.budget.Counts()
	return Stats{Calls: calls, Retries: retries, NoBudget: denied, Conns: c.wire.conns()}
}

// retry waits before another try after cause, the try-th. Its error, which wraps
// cause, says that there is none: the budget is spent, or the context ends before
// the wait does. A try that brought what was worth it, or that the node never saw,
// is no burden (free), and costs the budget nothing.
func (c *Client) retry(ctx context.Context, cause error, try int, free bool) error {
	d := pause(cause, try)
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= d {
		return fmt.Errorf("%w before it can be tried again after: %w", context.DeadlineExceeded, cause)
	}
	if !free && !c.budget.Take() {
		return fmt.Errorf("%w; it is not tried again, because too many calls fail", cause)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w while waiting to try again after: %w", ctx.Err(), cause)
	}
}

// pause is as long as the node asked for and a little more, so that those who
// were sent away together do not come back together; where it did not ask, full
// jitter from 100 ms doubling. It is never above maxWait.
func pause(cause error, try int) time.Duration {
	var e *Error
	if errors.As(cause, &e) && e.RetryAfter > 0 {
		d := min(e.RetryAfter, maxWait)
		return min(d+rand.N(d/4+time.Millisecond), maxWait)
	}
	return rand.N(100 * time.Millisecond << min(try, 6))
}
