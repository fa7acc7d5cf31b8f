// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package clienttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/mailbox"
)

// ConformMailbox uses the mailbox of a node by way of c as programs do, and returns
// what was not as it should be, all of it; nil: nothing. The capability of c must
// allow everything with topics. It makes topics whose names begin with "conform-",
// and deletes them again.
func ConformMailbox(ctx context.Context, c *client.Client) error {
	s := &mailSuite{ctx: ctx, c: c}
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"send and receive", s.sendAndReceive}, {"batches", s.batches}, {"bounds of a receive", s.bounds}, {"idempotency keys", s.keys},
		{"leases", s.leases}, {"nacks", s.nacks}, {"dead letters", s.dead}, {"order", s.order}, {"times", s.times}, {"long poll", s.longPoll},
		{"subscriptions", s.subscribe}, {"topics", s.topics}, {"bad questions", s.bad}, {"a consumer", s.consume},
	} {
		if err := part.do(); err != nil {
			s.errs = append(s.errs, fmt.Errorf("%s: %w", part.name, err))
		}
	}
	for _, t := range s.made {
		if err := t.Delete(ctx); err != nil && !refused(err, 404) {
			s.errs = append(s.errs, fmt.Errorf("clean up: %w", err))
		}
	}
	return errors.Join(s.errs...)
}

type mailSuite struct {
	ctx  context.Context
	c    *client.Client
	errs []error
	made []*mailbox.Topic
}

// topic is one that nobody else uses.
func (s *mailSuite) topic() *mailbox.Topic {
	t := mailbox.New(s.c, fmt.Sprintf("conform-%x", rand.Uint64()))
	s.made = append(s.made, t)
	return t
}

// soon is a visibility or delay that a test waits for; late is much more.
const (
	soon = 400 * time.Millisecond
	late = 20 * time.Second
)

// filled is a topic with messages.
func (s *mailSuite) filled(payloads ...string) (*mailbox.Topic, error) {
	t := s.topic()
	ms := make([]mailbox.Message, len(payloads))
	for i, p := range payloads {
		ms[i].Payload = []byte(p)
	}
	_, err := t.SendBatch(s.ctx, ms)
	return t, err
}

// texts are the payloads.
func texts(got []mailbox.Delivery) string {
	var all []string
	for _, m := range got {
		all = append(all, string(m.Payload))
	}
	return strings.Join(all, " ")
}

// receive wants these payloads.
func (s *mailSuite) receive(t *mailbox.Topic, w mailbox.Want, want string) ([]mailbox.Delivery, error) {
	got, err := t.Receive(s.ctx, w)
	if err != nil || texts(got) != want {
		return got, fmt.Errorf("received %q, want %q: %w", texts(got), want, errors.Join(err))
	}
	return got, nil
}

func receipts(got []mailbox.Delivery) []string {
	all := make([]string, len(got))
	for i, m := range got {
		all[i] = m.Receipt
	}
	return all
}

func (s *mailSuite) sendAndReceive() error {
	t := s.topic()
	for _, topic := range []*mailbox.Topic{t, t.InJSON()} {
		for _, n := range []int{0, 1, 100, 5000, 70_000, 700_000} {
			payload := bytes.Repeat([]byte{0, 0xff, 'x', '\n'}, n/4+1)[:n]
			m := mailbox.Message{Payload: payload}
			if n > 1 {
				m.Attrs, m.Key = map[string]string{"content-type": "x/y", "ü": "\" \\ é"}, "key é"
			}
			before := time.Now().Add(-time.Minute)
			sent, err := topic.Send(s.ctx, m)
			if err != nil || len(sent.MsgID) != 26 || sent.Duplicate {
				return fmt.Errorf("%d bytes: %+v, %w", n, sent, errors.Join(err))
			}
			got, err := topic.Receive(s.ctx, mailbox.Want{Max: 10})
			if err != nil || len(got) != 1 {
				return fmt.Errorf("%d bytes: %d messages, %w", n, len(got), errors.Join(err))
			}
			r := got[0]
			if r.MsgID != sent.MsgID || r.Topic != t.Name() || r.Attempt != 1 || r.Key != m.Key || len(r.Attrs) != len(m.Attrs) || r.Attrs["ü"] != m.Attrs["ü"] ||
				r.Receipt == "" || r.CorrID == "" || r.Time.Before(before) || !bytes.Equal(r.Payload, payload) {
				return fmt.Errorf("%d bytes come back as %s of %d", n, r.MsgID, len(r.Payload))
			}
			out, err := topic.Ack(s.ctx, r.Receipt)
			if err != nil || len(out) != 1 || out[0].MsgID != sent.MsgID {
				return fmt.Errorf("ack: %+v, %w", out, errors.Join(err))
			}
			if _, err := topic.Ack(s.ctx, r.Receipt); !errors.Is(err, mailbox.ErrLeaseLost) {
				return fmt.Errorf("a second ack: %w", errors.Join(err))
			}
		}
	}
	_, err := s.receive(t, mailbox.Want{}, "")
	return err
}

func (s *mailSuite) batches() error {
	t := s.topic()
	for _, topic := range []*mailbox.Topic{t, t.InJSON()} {
		var ms []mailbox.Message
		for i := range 100 {
			ms = append(ms, mailbox.Message{Payload: fmt.Appendf(nil, "%03d", i), Attrs: map[string]string{"n": fmt.Sprint(i)}})
		}
		sent, err := topic.SendBatch(s.ctx, ms)
		if err != nil || len(sent) != 100 {
			return fmt.Errorf("%d sent: %w", len(sent), errors.Join(err))
		}
		got, err := topic.Receive(s.ctx, mailbox.Want{Max: 100})
		if err != nil || len(got) != 100 {
			return fmt.Errorf("%d received: %w", len(got), errors.Join(err))
		}
		for i, m := range got {
			if m.MsgID != sent[i].MsgID || string(m.Payload) != string(ms[i].Payload) || m.Attrs["n"] != fmt.Sprint(i) {
				return fmt.Errorf("message %d is %s", i, m.Payload)
			}
		}
		out, err := topic.Ack(s.ctx, receipts(got)...)
		if err != nil || len(out) != 100 {
			return fmt.Errorf("ack: %d outcomes, %w", len(out), errors.Join(err))
		}
	}
	return nil
}

func (s *mailSuite) bounds() error {
	var payloads []string
	for _, c := range "abcde" {
		payloads = append(payloads, strings.Repeat(string(c), 10_000))
	}
	t, err := s.filled(payloads...)
	if err != nil {
		return err
	}
	// What a message takes beside its payload may count too.
	for _, w := range []struct {
		want mailbox.Want
		got  string
	}{{mailbox.Want{}, "a"}, {mailbox.Want{Max: 10, MaxBytes: 25_000}, "bc"}, {mailbox.Want{Max: 10, MaxBytes: 1}, "d"}, {mailbox.Want{Max: 10}, "e"}} {
		got, err := t.Receive(s.ctx, w.want)
		var first string
		for _, m := range got {
			first += string(m.Payload[:1])
		}
		if err != nil || first != w.got {
			return fmt.Errorf("%+v gives %q, want %q: %w", w.want, first, w.got, errors.Join(err))
		}
	}
	return nil
}

func (s *mailSuite) keys() error {
	t := s.topic()
	m := mailbox.Message{Payload: []byte("one"), IdempotencyKey: "conform-1"}
	first, err := t.Send(s.ctx, m)
	if err != nil {
		return err
	}
	again := func(when string) error {
		for name, send := range map[string]func() (mailbox.Sent, error){
			"alone": func() (mailbox.Sent, error) { return t.Send(s.ctx, m) },
			"in a batch": func() (mailbox.Sent, error) {
				sent, err := t.SendBatch(s.ctx, []mailbox.Message{m})
				return append(sent, mailbox.Sent{})[0], err
			},
		} {
			if sent, err := send(); err != nil || !sent.Duplicate || sent.MsgID != first.MsgID {
				return fmt.Errorf("again %s, %s: %+v, %w", name, when, sent, errors.Join(err))
			}
		}
		other := m
		other.Payload = []byte("two")
		if _, err := t.Send(s.ctx, other); !refused(err, 422) {
			return fmt.Errorf("another message under the key, %s: %w", when, errors.Join(err))
		}
		sent, err := t.SendBatch(s.ctx, []mailbox.Message{{Payload: []byte("x")}, other})
		if len(sent) != 2 || err == nil || sent[0].Err != nil || !refused(sent[1].Err, 422) {
			return fmt.Errorf("another message under the key in a batch, %s: %+v, %w", when, sent, errors.Join(err))
		}
		return nil
	}
	if err := again("while it waits"); err != nil {
		return err
	}
	got, err := s.receive(t, mailbox.Want{Max: 10}, "one x")
	if err != nil {
		return err
	}
	if err := again("while it is leased"); err != nil {
		return err
	}
	if _, err := t.Ack(s.ctx, receipts(got)...); err != nil {
		return err
	}
	if err := again("once it is acked"); err != nil {
		return err
	}
	_, err = s.receive(t, mailbox.Want{Max: 10}, "x x")
	return err
}

func (s *mailSuite) leases() error {
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

func (s *mailSuite) nacks() error {
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
func (s *mailSuite) kill(t *mailbox.Topic, n int) error {
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
func (s *mailSuite) done(t *mailbox.Topic, j mailbox.Job) (mailbox.Job, error) {
	for end := time.Now().Add(late); j.State == "running"; {
		time.Sleep(soon / 20)
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

func (s *mailSuite) dead() error {
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

func (s *mailSuite) order() error {
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

func (s *mailSuite) times() error {
	t := s.topic()
	began := time.Now()
	for _, m := range []mailbox.Message{{Payload: []byte("delayed"), Delay: soon}, {Payload: []byte("at"), DeliverAt: time.Now().Add(2 * soon)},
		{Payload: []byte("expires"), Delay: time.Millisecond, TTL: 20 * time.Millisecond}} {
		if _, err := t.Send(s.ctx, m); err != nil {
			return err
		}
	}
	time.Sleep(soon / 4)
	for _, want := range []string{"delayed", "at"} {
		got, err := s.receive(t, mailbox.Want{Wait: late}, want)
		if err != nil {
			return err
		}
		if _, err := t.Ack(s.ctx, got[0].Receipt); err != nil {
			return err
		}
		if took := time.Since(began); took < soon || want == "at" && took < 2*soon-10*time.Millisecond {
			return fmt.Errorf("%s comes after %v", want, took)
		}
	}
	_, err := s.receive(t, mailbox.Want{}, "")
	return err
}

func (s *mailSuite) longPoll() error {
	t, err := s.filled("a")
	if err != nil {
		return err
	}
	if _, err := s.receive(t, mailbox.Want{}, "a"); err != nil {
		return err
	}
	began := time.Now()
	if _, err := s.receive(t, mailbox.Want{Wait: soon}, ""); err != nil || time.Since(began) < soon/2 {
		return fmt.Errorf("nothing comes after %v: %w", time.Since(began), errors.Join(err))
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		time.Sleep(soon / 2)
		_, _ = t.Send(s.ctx, mailbox.Message{Payload: []byte("b")})
	})
	began = time.Now()
	if _, err := s.receive(t, mailbox.Want{Wait: late}, "b"); err != nil || time.Since(began) > late/2 {
		return fmt.Errorf("a message wakes after %v: %w", time.Since(began), errors.Join(err))
	}
	ctx, cancel := context.WithTimeout(s.ctx, soon)
	defer cancel()
	if _, err := t.Receive(ctx, mailbox.Want{Wait: late}); err != nil && !errors.Is(err, context.DeadlineExceeded) && !refused(err, 504) {
		return fmt.Errorf("a context that ends: %w", err)
	}
	return nil
}

func (s *mailSuite) subscribe() error {
	for _, topic := range []*mailbox.Topic{s.topic(), s.topic().InJSON()} {
		if _, err := topic.SendBatch(s.ctx, []mailbox.Message{{Payload: []byte("a")}, {Payload: []byte("b")}, {Payload: []byte("c")}}); err != nil {
			return err
		}
		sub := topic.Subscribe(s.ctx, mailbox.Follow{Credit: 2, Visibility: late})
		var got []mailbox.Delivery
		for range 2 {
			m, err := sub.Next()
			if err != nil {
				return err
			}
			got = append(got, *m)
		}
		time.Sleep(soon / 4)
		if p, _, err := topic.Peek(s.ctx, "ready", "", 0); err != nil || len(p) != 1 || p[0].Attempts != 0 {
			return fmt.Errorf("beyond the credit: %+v, %w", p, errors.Join(err))
		}
		if _, err := topic.Ack(s.ctx, got[0].Receipt); err != nil {
			return err
		}
		if m, err := sub.Next(); err != nil || string(m.Payload) != "c" || texts(got) != "a b" {
			return fmt.Errorf("after an ack: %s then %+v, %w", texts(got), m, errors.Join(err))
		}
		// Another stream goes on: what the first was given is not given again.
		cursor := sub.Cursor()
		sub.Close()
		sub = topic.Subscribe(s.ctx, mailbox.Follow{Credit: 3, Visibility: late, Cursor: cursor})
		if _, err := topic.Send(s.ctx, mailbox.Message{Payload: []byte("d")}); err != nil {
			return err
		}
		m, err := sub.Next()
		if err != nil || string(m.Payload) != "d" {
			return fmt.Errorf("behind the cursor: %+v, %w", m, errors.Join(err))
		}
		sub.Close()
	}
	return nil
}

func (s *mailSuite) topics() error {
	t, err := s.filled("a", "b", "c")
	if err != nil {
		return err
	}
	if _, err := s.receive(t, mailbox.Want{}, "a"); err != nil {
		return err
	}
	if _, err := t.Send(s.ctx, mailbox.Message{Payload: []byte("d"), Delay: late}); err != nil {
		return err
	}
	st, err := t.Status(s.ctx)
	if d := st.Depth; err != nil || st.Topic != t.Name() || d.Ready != 2 || d.InFlight != 1 || d.Delayed != 1 || d.Dead != 0 || st.Counts["sent"] != 4 || st.Config.MaxAttempts < 1 {
		return fmt.Errorf("the status is %+v: %w", st, errors.Join(err))
	}
	yes := true
	put, err := t.Put(s.ctx, mailbox.Config{MaxAttempts: 7, Visibility: mailbox.Millis(time.Minute), Ordered: &yes})
	if err != nil || put.Config.MaxAttempts != 7 || put.Config.Visibility != mailbox.Millis(time.Minute) || put.Config.Ordered == nil || !*put.Config.Ordered || put.Config.Retention == 0 {
		return fmt.Errorf("after a put: %+v, %w", put.Config, errors.Join(err))
	}
	if _, err := t.Put(s.ctx, mailbox.Config{ReplayWindow: mailbox.Millis(time.Second)}); !refused(err, 422) {
		return fmt.Errorf("a replay window of a second: %w", errors.Join(err))
	}
	list, _, err := mailbox.Topics(s.ctx, s.c, t.Name(), "", 10)
	if err != nil || len(list) != 1 || list[0].Topic != t.Name() || list[0].Depth.Ready != 2 {
		return fmt.Errorf("the list is %+v: %w", list, errors.Join(err))
	}
	page, cursor, err := t.Peek(s.ctx, "", "", 2)
	if err != nil || len(page) != 2 || cursor == "" || page[0].State != "in_flight" || page[0].Attempts != 1 || page[1].State != "ready" {
		return fmt.Errorf("peek: %+v, cursor %q, %w", page, cursor, errors.Join(err))
	}
	page, _, err = t.Peek(s.ctx, "", cursor, 10)
	if err != nil || len(page) != 2 || page[1].State != "delayed" || page[1].Until <= 0 {
		return fmt.Errorf("peek behind the cursor: %+v, %w", page, errors.Join(err))
	}
	if n, err := t.Purge(s.ctx); err != nil || n != 4 {
		return fmt.Errorf("%d purged: %w", n, errors.Join(err))
	}
	if err := t.Delete(s.ctx); err != nil {
		return err
	}
	_, status := t.Status(s.ctx)
	_, receive := t.Receive(s.ctx, mailbox.Want{})
	_, ack := t.Ack(s.ctx, "x")
	for name, err := range map[string]error{"status": status, "receive": receive, "ack": ack, "delete": t.Delete(s.ctx)} {
		if !refused(err, 404) {
			return fmt.Errorf("%s of what is not there: %w", name, errors.Join(err))
		}
	}
	return nil
}

func (s *mailSuite) bad() error {
	t, err := s.filled("a")
	if err != nil {
		return err
	}
	at := "/v1/mailbox/" + t.Name()
	for _, q := range []struct{ method, path, form, body string }{
		{"POST", "/v1/mailbox/UPPER/messages", "", "x"}, {"POST", at + "/messages?delay_ms=x", "", "x"}, {"POST", at + "/messages?delay_ms=1&deliver_at_ms=99", "", "x"},
		{"POST", at + "/messages", "application/x-ndjson", `{"payload":"YQ==","text":"a"}`}, {"POST", at + "/messages", "application/x-ndjson", "{}"},
		{"POST", at + "/messages", "application/x-ndjson", `{"text":"a","nonsense":1}`}, {"POST", at + "/messages", "application/x-ndjson", ""},
		{"POST", at + "/messages", "application/cbor", "\xff"}, {"POST", at + "/receive", "", `{"nonsense":1}`}, {"POST", at + "/receive", "", `[]`},
		{"POST", at + "/ack", "", `{"receipts":[]}`}, {"POST", at + "/ack", "", `{"receipts":["nonsense"]}`}, {"GET", at + "/messages?limit=0", "", ""},
		{"GET", at + "/subscribe?credit=0", "", ""},
	} {
		r := client.Request{Method: q.method, Path: q.path, Header: http.Header{}}
		if q.body != "" {
			r.Body, r.Length = strings.NewReader(q.body), int64(len(q.body))
		}
		if q.form != "" {
			r.Header.Set("Content-Type", q.form)
		}
		resp, err := s.c.Do(s.ctx, r)
		if err == nil {
			resp.Body.Close()
		}
		if !refused(err, 400) {
			return fmt.Errorf("%s %s %.40q: %w", q.method, strings.TrimPrefix(q.path, at), q.body, errors.Join(err))
		}
	}
	attrs := map[string]string{}
	for i := range mailbox.MaxAttrs + 1 {
		attrs[fmt.Sprint(i)] = ""
	}
	if _, err := t.Send(s.ctx, mailbox.Message{Attrs: attrs}); !refused(err, 400) {
		return fmt.Errorf("too many attributes: %w", errors.Join(err))
	}
	// A line in each way that a payload can stand in it.
	body := `{"text":"t\u00e4xt"}` + "\n\n" + `{"json":{"a":[1]}}` + "\n" + `{"payload":"AAE="}`
	resp, err := s.c.Do(s.ctx, client.Request{Method: "POST", Path: at + "/messages", Body: strings.NewReader(body), Length: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/x-ndjson"}, "Idempotency-Key": {"conform-batch"}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var out struct{ Results []json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || len(out.Results) != 3 {
		return fmt.Errorf("%d results: %w", len(out.Results), errors.Join(err))
	}
	_, err = s.receive(t, mailbox.Want{Max: 10}, "a täxt {\"a\":[1]} \x00\x01")
	return err
}

// consume runs a consumer over good messages and one that always fails.
func (s *mailSuite) consume() error {
	const messages = 60
	t := s.topic()
	ms := make([]mailbox.Message, messages)
	for i := range ms {
		ms[i].Payload = fmt.Append(nil, i)
	}
	if _, err := t.Put(s.ctx, mailbox.Config{MaxAttempts: 2}); err != nil {
		return err
	}
	if _, err := t.SendBatch(s.ctx, ms); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(s.ctx, 2*late)
	defer stop()
	var mu sync.Mutex
	handled := map[string]int{}
	c := mailbox.Consumer{From: t, Concurrency: 8, Wait: soon, Handle: func(_ context.Context, m *mailbox.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		if handled[string(m.Payload)]++; string(m.Payload) == "13" {
			if m.Attempt == 2 {
				defer time.AfterFunc(soon, stop)
			}
			return errors.New("unlucky")
		}
		return nil
	}}
	if err := c.Run(ctx); err != nil {
		return err
	}
	for i := range messages {
		if n := handled[fmt.Sprint(i)]; n != 1 && (i != 13 || n != 2) {
			return fmt.Errorf("message %d was handled %d times", i, n)
		}
	}
	st, err := t.Status(s.ctx)
	if err != nil || st.Depth.Ready+st.Depth.InFlight+st.Depth.Delayed != 0 || st.Depth.Dead != 1 {
		return fmt.Errorf("left: %+v, %w", st.Depth, errors.Join(err))
	}
	return nil
}
