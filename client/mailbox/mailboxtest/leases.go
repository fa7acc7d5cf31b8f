// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailboxtest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rustyonions/macronode/client/mailbox"
)

func (s *suite) leases() error {
	t, err := s.filled("a")
	if err != nil {
		return err
	}
	first, err := s.receive(t, mailbox.Want{Visibility: soon}, "a")
	if err != nil {
		return err
	}
	if _, err := s.receive(t, mailbox.Want{}, ""); err != nil {
		return fmt.Errorf("while it is leased: %w", err)
	}
	second, err := s.receive(t, mailbox.Want{Visibility: soon, Wait: late}, "a")
	if err != nil {
		return fmt.Errorf("once the lease ended: %w", err)
	}
	if second[0].Attempt != 2 || second[0].Receipt == first[0].Receipt || second[0].MsgID != first[0].MsgID || !second[0].Time.Equal(first[0].Time) {
		return fmt.Errorf("the second delivery is %+v", second[0])
	}
	for name, settle := range map[string]func() ([]mailbox.Outcome, error){
		"ack":    func() ([]mailbox.Outcome, error) { return t.Ack(s.ctx, first[0].Receipt) },
		"nack":   func() ([]mailbox.Outcome, error) { return t.Nack(s.ctx, nil, "", first[0].Receipt) },
		"extend": func() ([]mailbox.Outcome, error) { return t.Extend(s.ctx, late, first[0].Receipt) },
	} {
		if out, err := settle(); len(out) != 1 || !errors.Is(err, mailbox.ErrLeaseLost) {
			return fmt.Errorf("%s of a stale receipt: %+v, %w", name, out, errors.Join(err))
		}
	}
	if _, err := t.Extend(s.ctx, late, second[0].Receipt); err != nil {
		return err
	}
	if _, err := s.receive(t, mailbox.Want{Wait: 2 * soon}, ""); err != nil {
		return fmt.Errorf("after it was extended: %w", err)
	}
	// One of several, and one of another topic.
	other, err := s.filled("b")
	if err != nil {
		return err
	}
	strange, err := s.receive(other, mailbox.Want{}, "b")
	if err != nil {
		return err
	}
	out, err := t.Ack(s.ctx, first[0].Receipt, second[0].Receipt, strange[0].Receipt)
	if len(out) != 3 || err == nil || !errors.Is(out[0].Err, mailbox.ErrLeaseLost) || out[1].Err != nil || out[2].Err == nil {
		return fmt.Errorf("several: %+v, %w", out, errors.Join(err))
	}
	if _, err := t.Ack(s.ctx, strange[0].Receipt); err == nil {
		return errors.New("a receipt of another topic is taken")
	}
	if _, err := other.Ack(s.ctx, strange[0].Receipt); err != nil {
		return fmt.Errorf("after another topic was asked: %w", err)
	}
	return nil
}

func (s *suite) nacks() error {
	t, err := s.filled("a")
	if err != nil {
		return err
	}
	for attempt, delay := range []*time.Duration{new(time.Duration), new(soon), nil} {
		got, err := s.receive(t, mailbox.Want{Wait: late}, "a")
		if err != nil {
			return err
		}
		if got[0].Attempt != attempt+1 {
			return fmt.Errorf("attempt %d is called %d", attempt+1, got[0].Attempt)
		}
		if _, err := t.Nack(s.ctx, delay, "not now", got[0].Receipt); err != nil {
			return err
		}
		if delay != nil && *delay > 0 {
			if _, err := s.receive(t, mailbox.Want{}, ""); err != nil {
				return fmt.Errorf("before the delay ends: %w", err)
			}
		}
	}
	_, err = s.receive(t, mailbox.Want{Wait: late}, "a")
	return err
}

// kill makes every message of t a dead letter.
func (s *suite) kill(t *mailbox.Topic, n int) error {
	if _, err := t.Put(s.ctx, mailbox.Config{MaxAttempts: 2}); err != nil {
		return err
	}
	for range 2 {
		got, err := t.Receive(s.ctx, mailbox.Want{Max: n})
		if err != nil || len(got) != n {
			return fmt.Errorf("%d of %d received: %w", len(got), n, errors.Join(err))
		}
		if _, err := t.Nack(s.ctx, new(time.Duration), "broken", receipts(got)...); err != nil {
			return err
		}
	}
	return nil
}

// done waits for a redrive.
func (s *suite) done(t *mailbox.Topic, j mailbox.Job) (mailbox.Job, error) {
	for end := time.Now().Add(late); j.State == "running"; {
		s.pause(soon / 20)
		var err error
		if j, err = t.Job(s.ctx, j.ID); err != nil {
			return j, err
		}
		if time.Now().After(end) {
			return j, errors.New("the job does not end")
		}
	}
	return j, nil
}

func (s *suite) dead() error {
	t, err := s.filled("a", "b", "c")
	if err != nil {
		return err
	}
	if err := s.kill(t, 3); err != nil {
		return err
	}
	if _, err := s.receive(t, mailbox.Want{}, ""); err != nil {
		return fmt.Errorf("after the last attempt: %w", err)
	}
	page, cursor, err := t.DeadLetters(s.ctx, "max_attempts", "", 2)
	if err != nil || len(page) != 2 || cursor == "" {
		return fmt.Errorf("a page of %d, cursor %q: %w", len(page), cursor, errors.Join(err))
	}
	rest, cursor, err := t.DeadLetters(s.ctx, "max_attempts", cursor, 2)
	if err != nil || len(rest) != 1 || cursor != "" {
		return fmt.Errorf("a last page of %d, cursor %q: %w", len(rest), cursor, errors.Join(err))
	}
	if none, _, err := t.DeadLetters(s.ctx, "integrity", "", 0); err != nil || len(none) != 0 {
		return fmt.Errorf("%d are damaged: %w", len(none), errors.Join(err))
	}
	d, err := t.DeadLetter(s.ctx, page[1].MsgID)
	if err != nil || string(d.Payload) != "b" || d.Reason != "max_attempts" || d.Attempts != 2 || d.LastError != "broken" || d.Died.Before(d.Time) || d.Damaged || len(d.History) == 0 {
		return fmt.Errorf("a dead letter is %+v: %w", d, errors.Join(err))
	}
	if err := t.DeleteDead(s.ctx, rest[0].MsgID); err != nil {
		return err
	}
	if err := t.DeleteDead(s.ctx, rest[0].MsgID); !refused(err, 404) {
		return fmt.Errorf("a second delete: %w", errors.Join(err))
	}
	job, err := t.Redrive(s.ctx, mailbox.Redrive{DryRun: true})
	if err == nil {
		job, err = s.done(t, job)
	}
	if err != nil || job.Matched != 2 || job.Moved != 0 || !job.DryRun {
		return fmt.Errorf("a dry run: %+v, %w", job, errors.Join(err))
	}
	job, err = t.Redrive(s.ctx, mailbox.Redrive{Filter: mailbox.DeadFilter{MsgIDs: []string{page[1].MsgID}}, RatePerSec: 1000})
	if err != nil || job.ID == "" {
		return fmt.Errorf("a redrive: %+v, %w", job, errors.Join(err))
	}
	got, err := s.receive(t, mailbox.Want{Max: 10, Wait: late}, "b")
	if err != nil {
		return fmt.Errorf("after a redrive: %w", err)
	}
	if got[0].MsgID != page[1].MsgID || !got[0].Time.Equal(d.Time) {
		return fmt.Errorf("a redriven message is %+v", got[0])
	}
	jobs, err := t.Jobs(s.ctx)
	if err != nil || !slices.ContainsFunc(jobs, func(j mailbox.Job) bool { return j.ID == job.ID }) {
		return fmt.Errorf("%d jobs: %w", len(jobs), errors.Join(err))
	}
	if j, err := s.done(t, job); err != nil || j.Moved != 1 || j.Ended == "" {
		return fmt.Errorf("the job is %+v: %w", j, errors.Join(err))
	}
	if n, err := t.DeleteDeadLetters(s.ctx, mailbox.DeadFilter{Reason: "max_attempts"}); err != nil || n != 1 {
		return fmt.Errorf("%d deleted: %w", n, errors.Join(err))
	}
	return nil
}

func (s *suite) order() error {
	t := s.topic()
	var ms []mailbox.Message
	for _, m := range []string{"a1", "a2", "b1", "a3", "b2"} {
		ms = append(ms, mailbox.Message{Payload: []byte(m), Key: m[:1]})
	}
	if _, err := t.SendBatch(s.ctx, ms); err != nil {
		return err
	}
	for _, want := range []string{"a1 b1", "a2 b2", "a3"} {
		got, err := s.receive(t, mailbox.Want{Max: 10}, want)
		if err != nil {
			return err
		}
		if _, err := s.receive(t, mailbox.Want{Max: 10}, ""); err != nil {
			return fmt.Errorf("behind %s: %w", want, err)
		}
		if _, err := t.Ack(s.ctx, receipts(got)...); err != nil {
			return err
		}
	}
	return nil
}
