// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/rustyonions/macronode"
)

// atOnce is how many peers are asked for the same at a time.
const atOnce = 2

// errLost ends the calls of those whom another was faster than.
var errLost = errors.New("another peer was faster")

// found is how asking one peer ended.
type found struct {
	peer string
	s    *source
	err  error
}

// search asks those who announced t, less the ones in not, the fastest first: the
// next one as soon as one failed, and a second beside one that lets itself be waited
// for. The first that proves what it sends is the answer. ctx ends the calls, also
// that of the answer later on.
func (f *Fetcher) search(ctx context.Context, t target, w Want, not map[string]bool) (*source, error) {
	h := &hunt{f: f, t: t, w: w, tried: maps.Clone(not), results: make(chan found), cancels: make(map[string]context.CancelCauseFunc)}
	if h.tried == nil {
		h.tried = make(map[string]bool)
	}
	deadline := time.NewTimer(f.cfg.Timeout)
	defer deadline.Stop()
	hedge := time.NewTimer(time.Hour)
	defer hedge.Stop()
	why := errLost
	defer func() { h.leave(why) }()
	for {
		if h.running() == 0 {
			wait, ok := h.next(ctx)
			if !ok {
				return nil, refusal(h.errs)
			}
			hedge.Reset(wait)
		}
		select {
		case r := <-h.results:
			h.ended++
			delete(h.cancels, r.peer)
			if r.err == nil {
				return r.s, nil
			}
			h.errs = append(h.errs, r.err)
		case <-hedge.C:
			if h.running() < atOnce {
				if _, ok := h.next(ctx); ok {
					f.cfg.Metrics.count(outcomeHedged)
				}
			}
		case <-deadline.C:
			why = errStalled
			return nil, refusal(append(h.errs, errStalled))
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// hunt is a search under way. It belongs to the goroutine of search.
type hunt struct {
	f       *Fetcher
	t       target
	w       Want
	tried   map[string]bool
	results chan found
	cancels map[string]context.CancelCauseFunc // of those running
	begun   int
	ended   int
	errs    []error
}

func (h *hunt) running() int { return h.begun - h.ended }

// next asks the next peer, and returns how long to wait before another is asked
// too; false where nobody is left who can be.
func (h *hunt) next(ctx context.Context) (time.Duration, bool) {
	for {
		h.f.mu.Lock()
		ids := h.f.candidates(h.t.tag, h.tried)
		h.f.mu.Unlock()
		if len(ids) == 0 {
			return 0, false
		}
		select {
		case h.f.places <- struct{}{}:
		default:
			h.errs = append(h.errs, macronode.Errorf(macronode.Overload, "too many objects are being fetched from other nodes"))
			return 0, false
		}
		place := func() { <-h.f.places }
		peer := ids[0]
		h.tried[peer] = true
		leave, err := h.f.enter(peer)
		if err != nil {
			place()
			h.errs = append(h.errs, err)
			continue
		}
		h.begun++
		mine, cancel := context.WithCancelCause(ctx)
		h.cancels[peer] = cancel
		go h.ask(ctx, call{mine, cancel, place}, peer, leave)
		return h.f.hedge(peer), true
	}
}

// ask asks one peer, and draws the consequences. ctx is the search's.
func (h *hunt) ask(ctx context.Context, c call, peer string, leave func(error)) {
	began := h.f.cfg.Now()
	s, err := h.f.ask(c, peer, &h.t, h.w)
	excused := ctx.Err() != nil || errors.Is(context.Cause(c.ctx), errLost)
	switch {
	case err == nil:
		h.f.answered(peer, h.f.cfg.Now().Sub(began))
		leave(nil)
	case macronode.KindOf(err) == macronode.NotFound:
		leave(nil)
	case excused:
		leave(context.Canceled)
	default:
		leave(err)
	}
	if err != nil {
		h.f.blame(&h.t, peer, err, excused)
	}
	h.results <- found{peer, s, err}
}

// leave ends what is still running, and gives up what it brings.
func (h *hunt) leave(why error) {
	for _, cancel := range h.cancels {
		cancel(why)
	}
	if left := h.running(); left > 0 {
		go func() {
			for range left {
				if r := <-h.results; r.s != nil {
					r.s.close()
				}
			}
		}()
	}
}
