// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// hold is a message that was received and not settled.
type hold struct {
	m     *Delivery
	since time.Time

	// Guarded by the run's mu.
	ends    time.Time // its visibility, as far as is known here
	again   time.Time // not extended before, for that failed
	begun   bool
	settled bool                    // its handler is done
	lost    bool                    // somebody else may have it
	cancel  context.CancelCauseFunc // of its handler
}

// begin marks h as handled from now on; not, if it was lost.
func (r *run) begin(h *hold) (context.Context, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
	h.begun = true
	if h.lost {
		delete(r.held, h)
		poke(r.free)
		return nil, false
	}
	ctx, cancel := context.WithCancelCause(r.work)
	h.cancel = cancel
	poke(r.free)
	return ctx, true
}

// release forgets h.
func (r *run) release(holds ...*hold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range holds {
		delete(r.held, h)
		if !h.begun {
			h.begun = true
			r.waiting--
		}
	}
	poke(r.free)
}

// handle lets the handler do its work, and tells what came of it.
func (r *run) handle(h *hold) {
	ctx, ok := r.begin(h)
	if !ok {
		return
	}
	err := errors.New("the handler ended its goroutine")
	var stack []byte
	defer func() {
		if v := recover(); v != nil {
			err, stack = fmt.Errorf("panic: %v", v), debug.Stack()
		}
		h.cancel(nil)
		r.outcome(h, err, stack)
	}()
	err = r.Handle(ctx, h.m)
}

// outcome settles h after its handler.
func (r *run) outcome(h *hold, err error, stack []byte) {
	r.mu.Lock()
	over, lost := r.over, h.lost
	h.settled = true
	r.mu.Unlock()
	if err != nil {
		r.Report(&HandlerError{MsgID: h.m.MsgID, Attempt: h.m.Attempt, Err: err, Stack: stack})
	}
	switch {
	case over:
		return // nobody is there any more to tell it
	case lost:
		if err == nil {
			r.Report(fmt.Errorf("message %s was handled, but its lease ended before: it comes again: %w", h.m.MsgID, ErrLeaseLost))
		}
		r.release(h)
	case err == nil:
		select {
		case r.acks.in <- h: // has room for all that are held
		case <-r.quit:
		}
	default:
		r.nack(h, err)
	}
}

// nack gives one message back.
func (r *run) nack(h *hold, err error) {
	var delay *time.Duration
	var in *retryIn
	switch {
	case errors.As(err, &in):
		delay = &in.delay
	case r.work.Err() != nil:
		delay = new(time.Duration) // it was cut off, and is not to blame
	}
	ctx, cancel := context.WithDeadline(r.tell, r.endOf(h))
	defer cancel()
	if _, nerr := r.From.Nack(ctx, delay, reasonOf(err), h.m.Receipt); nerr != nil {
		r.Report(fmt.Errorf("message %s could not be nacked: %w", h.m.MsgID, nerr))
	}
	r.release(h)
}

// reasonOf is what the node is told of a failure.
func reasonOf(err error) string {
	s := strings.ToValidUTF8(err.Error(), "?")
	for len(s) > maxReasonBytes {
		s = strings.ToValidUTF8(s[:maxReasonBytes], "")
	}
	return s
}

// giveBack nacks what has not begun, for others to take at once.
func (r *run) giveBack() {
	for holds := range slices.Chunk(r.back, maxAtOnce) {
		ctx, cancel := context.WithDeadline(r.tell, r.endOf(holds...))
		if _, err := r.From.Nack(ctx, new(time.Duration), "the consumer stopped", receiptsOf(holds)...); err != nil {
			r.Report(fmt.Errorf("%d messages that had not begun could not be given back: %w", len(holds), err))
		}
		cancel()
		r.release(holds...)
	}
}

func receiptsOf(holds []*hold) []string {
	receipts := make([]string, len(holds))
	for i, h := range holds {
		receipts[i] = h.m.Receipt
	}
	return receipts
}

// endOf is when the last of the leases ends.
func (r *run) endOf(holds ...*hold) (end time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range holds {
		if h.ends.After(end) {
			end = h.ends
		}
	}
	return end
}

// ackQueue is what is to be acked: all that gathers while one call is under way
// goes with the next.
type ackQueue struct {
	in  chan *hold
	end chan struct{} // closed once no more come
}

// gather waits for some, and takes what else is there; nil: none are left.
func (q *ackQueue) gather() (some []*hold) {
	select {
	case h := <-q.in:
		some = append(some, h)
	case <-q.end:
	}
	for len(some) < maxAtOnce {
		select {
		case h := <-q.in:
			some = append(some, h)
		default:
			return some
		}
	}
	return some
}

// ackAll acks until the queue has ended. What cannot be acked is tried again until
// the lease ends.
func (r *run) ackAll() {
	for {
		some := r.acks.gather()
		if some == nil {
			return
		}
		for try := 0; len(some) > 0; try++ {
			ctx, cancel := context.WithDeadline(r.tell, r.endOf(some...))
			outcomes, err := r.From.Ack(ctx, receiptsOf(some)...)
			if outcomes != nil {
				for i, o := range outcomes {
					if o.Err != nil {
						r.Report(fmt.Errorf("message %s was handled, but comes again: %w", some[i].m.MsgID, o.Err))
					}
				}
				cancel()
				r.release(some...)
				break
			}
			hope := !hopeless(err)
			if hope {
				rest(ctx, pause(err, try))
			}
			cancel()
			now := time.Now()
			some = slices.DeleteFunc(some, func(h *hold) bool {
				if hope && r.tell.Err() == nil && r.endOf(h).After(now) {
					return false
				}
				r.Report(fmt.Errorf("message %s was handled, but comes again, for it could not be acked: %w", h.m.MsgID, err))
				r.release(h)
				return true
			})
		}
	}
}
