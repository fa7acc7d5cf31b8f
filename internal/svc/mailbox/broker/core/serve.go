// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rustyonions/macronode/internal/store"
)

// laterWait is how long a topic is put off for which the disk had no room.
const laterWait = 2 * time.Second

// Serve does what happens by itself: delays and leases that end, retention, and
// beside it what more does until its context is done. It returns nil when ctx is done, after a last snapshot; everything is
// refused from then on. When the log has failed it returns that error.
func (b *Core) Serve(ctx context.Context, more ...func(context.Context) error) error {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for _, f := range append(more, b.keepTime) {
		wg.Go(func() {
			if err := f(inner); err != nil && inner.Err() == nil {
				_ = b.fail(err) // what it returns is what everybody is told
			}
		})
	}
	select {
	case <-ctx.Done():
	case <-b.down:
	}
	stop()
	wg.Wait()
	return b.stop()
}

// stop ends the run: with a snapshot where it was a good one.
func (b *Core) stop() error {
	if err := b.Failure(); err != nil {
		b.callEverybody()
		return err
	}
	err := b.StampClock()
	if err == nil {
		err = b.SaveSnapshot()
	}
	if errors.Is(err, store.ErrFull) {
		b.Warn("no room for a last snapshot: the next start reads more of the log")
		err = nil
	}
	_ = b.fail(Refuse(ErrStopped, "", 0))
	b.callEverybody()
	return err
}

// callEverybody wakes all who wait, to be told that nothing comes.
func (b *Core) callEverybody() {
	for _, t := range b.All() {
		t.mu.Lock()
		t.line.CallAll()
		t.mu.Unlock()
	}
}

// CatchUp looks at each topic in which something is due, and says when the next
// will be, in mailbox time; 0 where none will.
func (b *Core) CatchUp() (next int64, err error) {
	for {
		t, next, _ := b.timers.Take(int64(b.now()))
		if t == nil {
			return next, nil
		}
		if err := b.look(t); err != nil {
			if b.Failure() != nil {
				return 0, err
			}
			b.lookAgain(t, err)
		}
	}
}

// maxNap is how long keepTime sleeps at most: the runtime's timers do not count
// while the machine is suspended, and mailbox time does.
const maxNap = 5 * time.Second

// keepTime catches up whenever something is due.
func (b *Core) keepTime(ctx context.Context) error {
	timer := time.NewTimer(maxNap)
	defer timer.Stop()
	for {
		next, err := b.CatchUp()
		if err != nil {
			return err
		}
		nap := maxNap
		if next != 0 {
			nap = min(nap, time.Duration(next-int64(b.now()))*time.Millisecond)
		}
		timer.Reset(max(nap, 0))
		select {
		case <-timer.C:
		case <-b.timers.Sooner:
		case <-ctx.Done():
			return nil
		}
	}
}

// lookAgain puts off a topic for which the disk had no room, or no answer.
func (b *Core) lookAgain(t *Topic, err error) {
	b.Warn("what is due in a topic could not be recorded", "err", err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = int64(b.now()) + laterWait.Milliseconds()
	b.timers.Arm(t, t.armed)
}
