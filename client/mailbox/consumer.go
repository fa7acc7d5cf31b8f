// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Defaults of a Consumer.
const (
	DefaultVisibility = 30 * time.Second
	DefaultWait       = 20 * time.Second
	DefaultGrace      = 30 * time.Second
	DefaultMaxHold    = time.Hour

	// maxAtOnce is the most messages that one call is about.
	maxAtOnce = 100
	// lastWords is how long handlers whose grace is over have to heed it.
	lastWords = 2 * time.Second
	// maxReasonBytes is what is told of why a message is nacked.
	maxReasonBytes = 256
)

// Source is where a Consumer's messages come from. A *Topic is one.
type Source interface {
	Receive(ctx context.Context, w Want) ([]Delivery, error)
	Ack(ctx context.Context, receipts ...string) ([]Outcome, error)
	Nack(ctx context.Context, delay *time.Duration, reason string, receipts ...string) ([]Outcome, error)
	Extend(ctx context.Context, visibility time.Duration, receipts ...string) ([]Outcome, error)
}

// Consumer handles the messages of a topic, several at a time, until it is told to
// stop. Any number of consumers may share a topic.
type Consumer struct {
	From Source
	// Handle does the work of one message. Where it returns nil, the message is
	// acked. Where it returns an error or panics, it is nacked with that as the
	// reason, and comes again after the node's back-off, or after what RetryIn says.
	// It is called by several goroutines where Concurrency says so.
	//
	// Its context ends when the message may have been given to somebody else
	// (cause: ErrLeaseLost), and when the grace of a stop is over (ErrStopped).
	Handle func(ctx context.Context, m *Delivery) error
	// Concurrency is how many messages are handled at a time; 0: 1.
	Concurrency int
	// Prefetch is how many more are received ahead; 0: as many as Concurrency,
	// negative: none.
	Prefetch int
	// Visibility is how long a message is hidden from others without word from
	// here: what a crash of this program delays it by. It is extended as long as
	// the message waits or is handled. 0: DefaultVisibility.
	Visibility time.Duration
	// MaxHold bounds that: a message that is handled for longer is given up, and
	// comes again. 0: DefaultMaxHold, negative: no bound.
	MaxHold time.Duration
	// Wait is how long one call waits for messages; 0: DefaultWait.
	Wait time.Duration
	// Grace is how long handlers may go on once the consumer was told to stop;
	// 0: DefaultGrace, negative: none.
	Grace time.Duration
	// Report hears of what went wrong and is dealt with here: refused calls, which
	// are tried again, leases that were lost, handlers that failed (*HandlerError).
	// It is called by several goroutines. nil: nobody does.
	Report func(error)
}

// ErrStopped ends the context of handlers whose grace is over.
var ErrStopped = errors.New("the consumer stops")

// HandlerError tells of a message whose handler failed.
type HandlerError struct {
	MsgID   string
	Attempt int
	Err     error
	Stack   []byte // of a panic
}

func (e *HandlerError) Error() string {
	return fmt.Sprintf("message %s, attempt %d: %v", e.MsgID, e.Attempt, e.Err)
}

// Unwrap returns what the handler returned.
func (e *HandlerError) Unwrap() error { return e.Err }

// retryIn is an error with a delay.
type retryIn struct {
	error
	delay time.Duration
}

func (r *retryIn) Unwrap() error { return r.error }

// RetryIn is err, as a handler's, with the delay after which the message is to come
// again, in place of the node's back-off.
func RetryIn(delay time.Duration, err error) error { return &retryIn{err, max(delay, 0)} }

// Run consumes until ctx ends, and returns nil then, or until the node refuses in a
// way that waiting does not mend (a capability that does not allow it, say), and
// returns that. Before it returns, it stops gracefully: nothing more is received,
// what has not begun is nacked with no delay, handlers may finish within the grace,
// their outcomes are told to the node. Handlers that ignore the end of their context
// as well are an error; their messages come again once their visibility ends.
func (c *Consumer) Run(ctx context.Context) error {
	r, err := newRun(*c, ctx)
	if err != nil {
		return err
	}
	defer r.letGo()
	var keeping, settling, receiving sync.WaitGroup
	keeping.Go(r.keep)
	settling.Go(r.ackAll)
	receiving.Go(r.dispatch)
	fatal := r.fetch(ctx)

	r.stop()
	receiving.Wait()
	settling.Go(r.giveBack)
	late := r.finish()
	close(r.acks.end)
	r.bounded(&settling)
	close(r.quit)
	keeping.Wait()
	return errors.Join(fatal, late)
}

// run is a Consumer at work.
type run struct {
	Consumer
	limit int // of what is held

	work    context.Context // handlers'
	endWork context.CancelCauseFunc
	tell    context.Context // of what is told to the node, until the very end
	endTell context.CancelFunc

	ready   chan *hold
	slots   chan struct{}
	acks    ackQueue
	back    []*hold       // not begun when the end came; dispatch's, then giveBack's
	wake    chan struct{} // of the keeper
	free    chan struct{} // of the fetcher
	stopped chan struct{} // closed by stop
	quit    chan struct{} // closed once nothing is held
	handled sync.WaitGroup

	mu      sync.Mutex
	held    map[*hold]struct{} // guarded by mu
	waiting int                // of them, not begun; guarded by mu
	over    bool               // Run has returned, or is about to; guarded by mu
	grace   <-chan time.Time   // set by stop
	last    <-chan time.Time   // set by stop
}

func newRun(c Consumer, ctx context.Context) (*run, error) {
	if c.From == nil || c.Handle == nil {
		return nil, errors.New("a consumer needs From and Handle")
	}
	if c.Concurrency < 0 || c.Visibility < 0 || c.Wait < 0 {
		return nil, errors.New("a consumer's Concurrency, Visibility and Wait are not negative")
	}
	c.Concurrency = cmp.Or(c.Concurrency, 1)
	c.Prefetch = max(cmp.Or(c.Prefetch, c.Concurrency), 0)
	c.Visibility = cmp.Or(c.Visibility, DefaultVisibility)
	c.Wait = cmp.Or(c.Wait, DefaultWait)
	c.Grace = max(cmp.Or(c.Grace, DefaultGrace), 0)
	c.MaxHold = cmp.Or(c.MaxHold, DefaultMaxHold)
	if c.Report == nil {
		c.Report = func(error) {}
	}
	r := &run{Consumer: c, limit: c.Concurrency + c.Prefetch, slots: make(chan struct{}, c.Concurrency), wake: make(chan struct{}, 1),
		free: make(chan struct{}, 1), stopped: make(chan struct{}), quit: make(chan struct{}), held: map[*hold]struct{}{}}
	r.ready = make(chan *hold, r.limit)
	r.acks.in, r.acks.end = make(chan *hold, r.limit), make(chan struct{})
	values := context.WithoutCancel(ctx)
	r.work, r.endWork = context.WithCancelCause(values)
	r.tell, r.endTell = context.WithCancel(values)
	return r, nil
}

// letGo ends all that may still be under way.
func (r *run) letGo() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.endWork(ErrStopped)
	r.endTell()
}

// fetch receives until ctx ends; its error is one that does not pass.
func (r *run) fetch(ctx context.Context) error {
	defer close(r.ready)
	fails, empty := 0, 0
	for {
		n := r.room(ctx)
		if n == 0 {
			return nil
		}
		began := time.Now()
		got, err := r.From.Receive(ctx, Want{Max: min(n, maxAtOnce), Visibility: r.Visibility, Wait: r.Wait})
		r.take(got)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && hopeless(err):
			return err
		case err != nil:
			r.Report(fmt.Errorf("receive: %w", err))
			rest(ctx, pause(err, fails))
			fails++
			continue
		case len(got) == 0 && time.Since(began) < min(r.Wait, time.Second)/2:
			// A node that does not wait is not to be asked without end.
			rest(ctx, pause(nil, min(empty, 3)))
			empty++
			continue
		}
		fails, empty = 0, 0
	}
}

// room waits until more messages are wanted, and says how many; 0: ctx ended.
func (r *run) room(ctx context.Context) int {
	for {
		r.mu.Lock()
		n, waiting := r.limit-len(r.held), r.waiting
		r.mu.Unlock()
		if ctx.Err() != nil {
			return 0
		}
		// Not one by one as they are done, where some are there still.
		if n > 0 && waiting <= r.Prefetch/2 {
			return n
		}
		select {
		case <-r.free:
		case <-ctx.Done():
			return 0
		}
	}
}

// take holds what was received.
func (r *run) take(got []Delivery) {
	now := time.Now()
	for i := range got {
		h := &hold{m: &got[i], since: now, ends: now.Add(r.Visibility)}
		r.mu.Lock()
		r.held[h] = struct{}{}
		r.waiting++
		r.mu.Unlock()
		r.ready <- h // has room, unless the node gave more than asked for
	}
	if len(got) > 0 {
		poke(r.wake)
	}
}

// dispatch begins what is ready, as slots become free, and leaves the rest in back.
func (r *run) dispatch() {
	for h := range r.ready {
		select {
		case <-r.stopped:
			r.back = append(r.back, h)
			continue
		default:
		}
		select {
		case r.slots <- struct{}{}:
			r.handled.Go(func() {
				defer func() { <-r.slots }()
				r.handle(h)
			})
		case <-r.stopped:
			r.back = append(r.back, h)
		}
	}
}

// stop says to all that the end has begun.
func (r *run) stop() {
	r.grace, r.last = time.After(r.Grace), time.After(r.Grace+lastWords)
	close(r.stopped)
}

// finish waits for the handlers, and for those whose grace is over not for long.
func (r *run) finish() error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.handled.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-r.grace:
		r.endWork(ErrStopped)
	}
	select {
	case <-done:
		return nil
	case <-r.last:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	return fmt.Errorf("%d handlers did not end in time", len(r.slots))
}

// bounded waits for what is still to be told to the node, within the grace.
func (r *run) bounded(wg *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	select {
	case <-done:
	case <-r.last:
		r.endTell()
		<-done
	}
}

// poke wakes whoever waits on c.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
