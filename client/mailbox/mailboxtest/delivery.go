// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailboxtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/mailbox"
)

func (s *suite) times() error {
	t := s.topic()
	began := time.Now()
	for _, m := range []mailbox.Message{{Payload: []byte("delayed"), Delay: soon}, {Payload: []byte("at"), DeliverAt: time.Now().Add(2 * soon)},
		{Payload: []byte("expires"), Delay: time.Millisecond, TTL: 20 * time.Millisecond}} {
		if _, err := t.Send(s.ctx, m); err != nil {
			return err
		}
	}
	s.pause(soon / 4) // the third has expired
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

func (s *suite) longPoll() error {
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
		s.pause(soon / 2)
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

func (s *suite) subscribe() error {
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
		s.pause(soon / 4) // for what should not come
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

func (s *suite) topics() error {
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

func (s *suite) bad() error {
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
func (s *suite) consume() error {
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
