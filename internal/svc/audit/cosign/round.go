// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package cosign

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rustyonions/macronode/tlog"
)

// maxLines bounds what is taken of a witness's answer.
const maxLines = 16

// Serve shows checkpoints to witnesses until ctx ends. It returns an error only of
// the log.
func (c *Cosigner) Serve(ctx context.Context, log Log) error {
	if err := c.remember(ctx, log); err != nil {
		return err
	}
	for ctx.Err() == nil {
		c.mu.Lock()
		s, changed := c.settings, c.changed
		c.mu.Unlock()
		grown, began := log.Grown(), c.cfg.Now()
		wait, err := c.step(ctx, log, &s)
		c.tell()
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err := rest(ctx, changed, grown, wait, s.Interval-c.cfg.Now().Sub(began)); err != nil {
			return nil //nolint:nilerr // the end
		}
	}
	return nil
}

// rest waits for something to do: a change of settings ends it at once, growth once
// least has passed, and wait, where it is not 0, in any case.
func rest(ctx context.Context, changed, grown <-chan struct{}, wait, least time.Duration) error {
	if least > 0 {
		t := time.NewTimer(least)
		defer t.Stop()
		select {
		case <-t.C:
		case <-changed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var due <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-grown:
	case <-changed:
	case <-due:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// answer is what a witness said.
type answer struct {
	w     Witness
	lines []string // signatures that hold
	err   error
}

// step shows the newest checkpoint to the witnesses that have not signed it. wait is
// when to try again, 0: when the log has grown.
func (c *Cosigner) step(ctx context.Context, log Log, s *Settings) (wait time.Duration, err error) {
	p := log.Published()
	if p == nil || len(s.Witnesses) == 0 {
		return 0, nil
	}
	now := c.cfg.Now()
	c.mu.Lock()
	whole := c.newest != nil && c.newest.Size == p.Size && len(c.newest.By) == len(s.Witnesses)
	enough := c.newest != nil && c.newest.Size == p.Size && len(c.newest.By) >= s.Quorum
	if !enough && c.due.IsZero() {
		c.due = now
	}
	var ask []Witness
	for _, w := range s.Witnesses {
		st := c.state(w)
		switch {
		case enough && st.signed == p.Size:
		case now.Before(st.again):
			wait = least(wait, st.again.Sub(now))
		default:
			ask = append(ask, w)
		}
	}
	c.mu.Unlock()
	if whole || len(ask) == 0 {
		return wait, nil
	}
	// An answer may take its time, but not keep newer checkpoints from the others.
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	answers := make(chan answer, len(ask))
	var group sync.WaitGroup
	for _, w := range ask {
		group.Go(func() {
			lines, err := c.ask(ctx, log, w, p)
			answers <- answer{w, lines, err}
		})
	}
	defer group.Wait()
	note := c.begun(p)
	for range ask {
		a := <-answers
		c.note(a, p)
		note = append(note, strings.Join(a.lines, "")...)
		if a.err == nil {
			if err := c.keep(ctx, log, s, p, note); err != nil {
				return wait, err
			}
		} else {
			c.mu.Lock()
			wait = least(wait, c.state(a.w).wait)
			c.mu.Unlock()
			c.tell()
		}
	}
	return wait, nil
}

func least(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}

// begun is the note with the signatures that it has.
func (c *Cosigner) begun(p *tlog.Signed) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.newest != nil && c.newest.Checkpoint == p.Checkpoint {
		return slices.Clone(c.newest.Note)
	}
	return slices.Clone(p.Note)
}

// note remembers what became of asking a witness.
func (c *Cosigner) note(a answer, p *tlog.Signed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.state(a.w)
	switch {
	case a.err == nil:
		c.rounds.WithLabelValues(resultSigned).Inc()
		*st = state{size: p.Size, signed: p.Size}
		return
	case errors.Is(a.err, ErrRefused):
		c.rounds.WithLabelValues(resultRefused).Inc()
	default:
		c.rounds.WithLabelValues(resultFailed).Inc()
		// One that refused still does, as far as anybody knows.
		if errors.Is(st.err, ErrRefused) {
			a.err = st.err
		}
	}
	st.err = a.err
	st.wait = min(max(2*st.wait, retryAfter), retryMost)
	st.again = c.cfg.Now().Add(st.wait)
}

// keep makes the note the newest one with a quorum, once it has that.
func (c *Cosigner) keep(ctx context.Context, log Log, s *Settings, p *tlog.Signed, note []byte) error {
	by := signers(note, s.Witnesses)
	if len(by) < s.Quorum {
		return nil
	}
	// The round may be over for the others: what they said is kept all the same.
	if err := log.KeepCosigned(context.WithoutCancel(ctx), note); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = time.Time{}
	c.set(&Cosigned{p.Checkpoint, slices.Clone(note), by})
	return nil
}

// ask shows p to a witness and returns the signature lines that hold.
func (c *Cosigner) ask(ctx context.Context, log Log, w Witness, p *tlog.Signed) ([]string, error) {
	c.mu.Lock()
	old := c.state(w).size
	c.mu.Unlock()
	for corrected := false; ; corrected = true {
		if old > p.Size {
			return nil, fmt.Errorf("%w: it signed a tree of %d records, and this log has %d: records were lost, or it saw another log", ErrRefused, old, p.Size)
		}
		proof, err := tlog.ProveConsistency(old, p.Size, log)
		if err != nil {
			return nil, err
		}
		raw, err := w.Client.AddCheckpoint(ctx, old, proof.Path, p.Note)
		var at *SizeError
		if errors.As(err, &at) && !corrected && at.Size != old {
			old = at.Size
			continue
		}
		if at != nil {
			return nil, fmt.Errorf("%w: it signed another tree of %d records", ErrRefused, at.Size)
		}
		if err != nil {
			return nil, err
		}
		return verified(raw, w, p)
	}
}

// verified are the lines of an answer that are the witness's signatures.
func verified(raw []byte, w Witness, p *tlog.Signed) (out []string, err error) {
	text := p.Text() + "\n"
	n := 0
	for line := range strings.Lines(string(raw)) {
		if n++; n > maxLines {
			break
		}
		// Each alone: an unknown key's line is nothing, a bad one of a known key too.
		if s, err := tlog.Open([]byte(text+line), w.Keys...); err == nil && s.Checkpoint == p.Checkpoint {
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: its answer has no signature by its key", ErrRefused)
	}
	return out, nil
}
