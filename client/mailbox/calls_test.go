// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/mailbox"
)

// asked is one call that a scripted node was asked.
type asked struct {
	line   string // method and path with its query
	header http.Header
	body   string
}

// script is a node that gives the answers it was told, in their order, the last
// again and again.
type script struct {
	mu      sync.Mutex
	answers []http.HandlerFunc
	asked   []asked
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.asked = append(s.asked, asked{r.Method + " " + r.URL.RequestURI(), r.Header.Clone(), string(body)})
	h := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	s.mu.Unlock()
	h(w, r)
}

func (s *script) calls() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]asked(nil), s.asked...)
}

func say(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		io.WriteString(w, body)
	}
}

func sayJSON(v any) http.HandlerFunc {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a constant of a test
	}
	return say("application/json", string(text))
}

func refuse(k macronode.Kind) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		p := macronode.Errorf(k, "said so").Problem("CORR")
		p.RetryAfterMS = 1
		w.WriteHeader(p.Status)
		json.NewEncoder(w).Encode(p)
	}
}

// hangUp does what it is asked for, and breaks the connection in place of an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func scripted(t *testing.T, answers ...http.HandlerFunc) (*script, *client.Client) {
	t.Helper()
	s := &script{answers: answers}
	srv := httptest.NewServer(s)
	srv.Config.ErrorLog = nil
	t.Cleanup(srv.Close)
	c, err := client.Dial(srv.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return s, c
}

// TestSendSays: what a message is in a call, with a key of its own each.
func TestSendSays(t *testing.T) {
	s, c := scripted(t, sayJSON(map[string]any{"msg_id": "01A", "duplicate": false}))
	jobs := mailbox.New(c, "jobs")
	at := time.UnixMilli(1_800_000_000_123)
	for _, m := range []mailbox.Message{
		{Payload: []byte("a")}, {Payload: []byte("a")}, {}, {Payload: []byte("b"), Key: "k 1", Delay: 1500*time.Microsecond + 1, TTL: time.Hour},
		{DeliverAt: at, IdempotencyKey: "mine"}, {Payload: []byte("c"), Unkeyed: true},
	} {
		if sent, err := jobs.Send(t.Context(), m); err != nil || sent.MsgID != "01A" || sent.Duplicate {
			t.Fatalf("%+v, %v", sent, err)
		}
	}
	got := s.calls()
	keys := map[string]bool{}
	for i, want := range []string{"", "", "", "?delay_ms=2&key=k+1&ttl_ms=3600000", "?deliver_at_ms=1800000000123", ""} {
		if got[i].line != "POST /v1/mailbox/jobs/messages"+want || got[i].header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%+v, want %q", got[i], want)
		}
		keys[got[i].header.Get("Idempotency-Key")] = true
	}
	if len(keys) != 6 || !keys["mine"] || !keys[""] || got[0].body != "a" || got[2].body != "" {
		t.Errorf("keys %v", keys)
	}
	for name, m := range map[string]mailbox.Message{"both times": {Delay: 1, DeliverAt: at}, "both keys": {Unkeyed: true, IdempotencyKey: "x"}} {
		if _, err := jobs.Send(t.Context(), m); err == nil {
			t.Errorf("%s: taken", name)
		}
		if _, err := jobs.SendBatch(t.Context(), []mailbox.Message{m}); err == nil {
			t.Errorf("%s: taken in a batch", name)
		}
	}
	for _, bad := range []string{"", "Jobs", "-a", ".", "..", "a/b", "a%2fb", "é", strings.Repeat("a", 129)} {
		if _, err := mailbox.New(c, bad).Send(t.Context(), mailbox.Message{}); !errors.Is(err, mailbox.ErrTopicName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if len(s.calls()) != 6 {
		t.Error("bad messages or names reach the node")
	}
}

// TestSendIsRepeated: a send with a key survives refusals and broken connections
// under that one key; one without is an error at once.
func TestSendIsRepeated(t *testing.T) {
	s, c := scripted(t, hangUp, refuse(macronode.Overload), sayJSON(map[string]any{"msg_id": "01A", "duplicate": true}))
	jobs := mailbox.New(c, "jobs")
	sent, err := jobs.Send(t.Context(), mailbox.Message{Payload: []byte("x")})
	got := s.calls()
	if err != nil || !sent.Duplicate || len(got) != 3 || got[0].header.Get("Idempotency-Key") == "" || got[0].header.Get("Idempotency-Key") != got[2].header.Get("Idempotency-Key") || got[2].body != "x" {
		t.Errorf("%+v, %v after %d calls", sent, err, len(got))
	}
	for name, h := range map[string]http.HandlerFunc{"broken": hangUp, "overload": refuse(macronode.Overload)} {
		s, c := scripted(t, h)
		jobs := mailbox.New(c, "jobs")
		if _, err := jobs.Send(t.Context(), mailbox.Message{Payload: []byte("x"), Unkeyed: true}); err == nil || len(s.calls()) != 1 {
			t.Errorf("%s, unkeyed: %v after %d calls", name, err, len(s.calls()))
		}
		if _, err := jobs.SendBatch(t.Context(), []mailbox.Message{{}, {Unkeyed: true}}); err == nil || len(s.calls()) != 2 {
			t.Errorf("%s, a batch with one that is unkeyed: %v after %d calls", name, err, len(s.calls()))
		}
		if _, err := jobs.Receive(t.Context(), mailbox.Want{}); err == nil || len(s.calls()) != 3 {
			t.Errorf("%s, receive: %v after %d calls", name, err, len(s.calls()))
		}
	}
}

// TestBatchSays: both forms of a batch, and what became of each message.
func TestBatchSays(t *testing.T) {
	results := map[string]any{"results": []map[string]any{{"msg_id": "01A", "duplicate": false},
		{"code": "quota_depth", "detail": "full", "retry_after_ms": 1500}, {"msg_id": "01B", "duplicate": true}}}
	inCBOR, err := cbor.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1_800_000_000_123)
	ms := []mailbox.Message{{Payload: []byte("\xff\x00"), Attrs: map[string]string{"a": "1"}, Key: "k", Delay: time.Second}, {IdempotencyKey: "mine", TTL: time.Minute}, {DeliverAt: at}}
	s, c := scripted(t, say("application/cbor", string(inCBOR)), sayJSON(results))
	for _, topic := range []*mailbox.Topic{mailbox.New(c, "jobs"), mailbox.New(c, "jobs").InJSON()} {
		sent, err := topic.SendBatch(t.Context(), ms)
		var refused *client.Error
		if len(sent) != 3 || !errors.As(err, &refused) || !errors.As(sent[1].Err, &refused) || sent[0].Err != nil || sent[0].MsgID != "01A" || !sent[2].Duplicate {
			t.Fatalf("%+v, %v", sent, err)
		}
		if refused.Status != 429 || refused.RetryAfter != 1500*time.Millisecond || !refused.Retryable || refused.Detail != "full" {
			t.Errorf("%+v", refused)
		}
	}
	calls := s.calls()
	type line struct {
		Payload  []byte            `json:"payload"`
		Attrs    map[string]string `json:"attrs"`
		Delay    int64             `json:"delay_ms"`
		At       int64             `json:"deliver_at_ms"`
		TTL      int64             `json:"ttl_ms"`
		Key, Idk string
		IdemKey  string `json:"idempotency_key"`
	}
	var fromCBOR, fromJSON []line
	if err := cbor.Unmarshal([]byte(calls[0].body), &fromCBOR); err != nil || calls[0].header.Get("Content-Type") != "application/cbor" || calls[0].header.Get("Accept") != "application/cbor" {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(calls[1].body)); d.More(); {
		var l line
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		fromJSON = append(fromJSON, l)
	}
	for form, lines := range map[string][]line{"CBOR": fromCBOR, "NDJSON": fromJSON} {
		if len(lines) != 3 || string(lines[0].Payload) != "\xff\x00" || lines[0].Attrs["a"] != "1" || lines[0].Key != "k" || lines[0].Delay != 1000 ||
			lines[1].IdemKey != "mine" || lines[1].TTL != 60_000 || lines[2].At != at.UnixMilli() || len(lines[0].IdemKey) < 20 || lines[0].IdemKey == lines[2].IdemKey {
			t.Errorf("%s: %+v", form, lines)
		}
	}
	if strings.Count(calls[1].body, "\n") != 3 || strings.Contains(calls[1].body, "null") {
		t.Errorf("NDJSON: %q", calls[1].body)
	}
	_, c = scripted(t, sayJSON(map[string]any{"results": []any{}}))
	if sent, err := mailbox.New(c, "jobs").SendBatch(t.Context(), ms); err == nil || sent != nil {
		t.Errorf("an answer without results: %+v, %v", sent, err)
	}
}

func deliveries(payloads ...string) map[string]any {
	all := []map[string]any{}
	for i, p := range payloads {
		all = append(all, map[string]any{"msg_id": fmt.Sprint("01", i), "receipt": fmt.Sprint("r", i), "topic": "jobs", "ts": "2026-11-23T10:00:00.123Z", "attempt": 2,
			"attrs": map[string]string{"a": "1"}, "key": "k", "payload_hash": b3.Sum([]byte(p)).String(), "corr_id": "c", "payload": []byte(p)})
	}
	return map[string]any{"messages": all}
}

// TestReceiveSays: what is asked for, both forms of what comes, and nothing of what
// came damaged.
func TestReceiveSays(t *testing.T) {
	good := deliveries("hello", "")
	inCBOR, err := cbor.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	bad := deliveries("one", "two", "three")
	bad["messages"].([]map[string]any)[1]["payload"] = []byte("twö")
	s, c := scripted(t, say("application/cbor", string(inCBOR)), sayJSON(good), sayJSON(bad), sayJSON(map[string]any{"messages": []any{}}))
	jobs := mailbox.New(c, "jobs")
	for _, topic := range []*mailbox.Topic{jobs, jobs.InJSON()} {
		got, err := topic.Receive(t.Context(), mailbox.Want{Max: 5, MaxBytes: 1000, Visibility: time.Minute, Wait: time.Second})
		if err != nil || len(got) != 2 {
			t.Fatalf("%+v, %v", got, err)
		}
		m := got[0]
		if string(m.Payload) != "hello" || m.MsgID != "010" || m.Receipt != "r0" || m.Topic != "jobs" || m.Attempt != 2 || m.Attrs["a"] != "1" || m.Key != "k" || m.CorrID != "c" ||
			!m.Time.Equal(time.Date(2026, 11, 23, 10, 0, 0, 123e6, time.UTC)) {
			t.Errorf("%+v", m)
		}
	}
	calls := s.calls()
	if calls[0].line != "POST /v1/mailbox/jobs/receive" || calls[0].body != `{"max_messages":5,"max_bytes":1000,"visibility_ms":60000,"wait_ms":1000}` ||
		calls[0].header.Get("Accept") != "application/cbor" || calls[1].header.Get("Accept") != "application/json" {
		t.Errorf("%+v", calls)
	}
	got, err := jobs.Receive(t.Context(), mailbox.Want{})
	if !errors.Is(err, client.ErrIntegrity) || len(got) != 2 || string(got[1].Payload) != "three" {
		t.Errorf("of three, one of them damaged: %d, %v", len(got), err)
	}
	if got, err := jobs.Receive(t.Context(), mailbox.Want{}); err != nil || len(got) != 0 {
		t.Errorf("none: %+v, %v", got, err)
	}
}

// TestSettleSays: acks, nacks and extensions, what became of each receipt, and that
// they are repeated.
func TestSettleSays(t *testing.T) {
	mixed := sayJSON(map[string]any{"results": []map[string]any{{"receipt": "a", "msg_id": "01A", "ok": true},
		{"receipt": "b", "ok": false, "code": "lease_lost"}, {"receipt": "c", "ok": false, "code": "bad_receipt"}}})
	one := sayJSON(map[string]any{"results": []map[string]any{{"receipt": "a", "msg_id": "01A", "ok": true}}})
	s, c := scripted(t, hangUp, mixed, refuse(macronode.LeaseLost), one, one, one, one, mixed)
	jobs := mailbox.New(c, "jobs")
	out, err := jobs.Ack(t.Context(), "a", "b", "c")
	if len(out) != 3 || !errors.Is(err, mailbox.ErrLeaseLost) || out[0].Err != nil || out[0].MsgID != "01A" || out[1].Err != mailbox.ErrLeaseLost || out[2].Err != mailbox.ErrReceipt {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = jobs.Ack(t.Context(), "a", "b")
	if len(out) != 2 || !errors.Is(err, mailbox.ErrLeaseLost) || out[1].Err != mailbox.ErrLeaseLost || out[1].Receipt != "b" {
		t.Errorf("all lost: %+v, %v", out, err)
	}
	for _, delay := range []*time.Duration{nil, new(time.Duration)} {
		if _, err := jobs.Nack(t.Context(), delay, "no", "a"); err != nil {
			t.Error(err)
		}
	}
	if _, err := jobs.Extend(t.Context(), time.Minute, "a"); err != nil {
		t.Error(err)
	}
	for _, receipt := range []string{"b", "a"} { // another's answer, and one about more
		if out, err := jobs.Ack(t.Context(), receipt); err == nil || out != nil {
			t.Errorf("an answer about others: %+v, %v", out, err)
		}
	}
	if out, err := jobs.Ack(t.Context()); err != nil || out != nil {
		t.Errorf("about none: %+v, %v", out, err)
	}
	want := []string{`ack {"receipts":["a","b","c"]}`, `ack {"receipts":["a","b","c"]}`, `ack {"receipts":["a","b"]}`, `nack {"receipts":["a"],"reason":"no"}`,
		`nack {"receipts":["a"],"delay_ms":0,"reason":"no"}`, `extend {"receipts":["a"],"visibility_ms":60000}`, `ack {"receipts":["b"]}`, `ack {"receipts":["a"]}`}
	calls := s.calls()
	if len(calls) != len(want) {
		t.Fatalf("%d calls", len(calls))
	}
	for i, w := range want {
		if got := strings.TrimPrefix(calls[i].line, "POST /v1/mailbox/jobs/") + " " + calls[i].body; got != w {
			t.Errorf("%s, want %s", got, w)
		}
	}
}

// event is a server-sent event with a message.
func event(n int, payload string) string {
	m := deliveries(payload)["messages"].([]map[string]any)[0]
	m["cursor"] = fmt.Sprint("sub.", n)
	text, _ := json.Marshal(m)
	return fmt.Sprintf("id: sub.%d\nevent: message\ndata: %s\n\n", n, text)
}

// sequence is messages of a CBOR sequence, with a sign of life before each.
func sequence(t *testing.T, first int, payloads ...string) string {
	t.Helper()
	var b strings.Builder
	for i, p := range payloads {
		m := deliveries(p)["messages"].([]map[string]any)[0]
		m["cursor"] = fmt.Sprint("sub.", first+i)
		text, err := cbor.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteByte(0xf6)
		b.Write(text)
	}
	return b.String()
}

// TestSubscribeGoesOn: a stream that breaks is made anew behind what came last, in
// either form.
func TestSubscribeGoesOn(t *testing.T) {
	cut := sequence(t, 2, "two", "three")
	for name, tc := range map[string]struct {
		answers []http.HandlerFunc
		json    bool
	}{
		"CBOR": {[]http.HandlerFunc{say("application/cbor-seq", sequence(t, 1, "one")), refuse(macronode.Draining), say("application/cbor-seq", cut[:len(cut)-20]),
			say("application/cbor-seq", sequence(t, 3, "three"))}, false},
		"events": {[]http.HandlerFunc{say("text/event-stream", "retry: 1000\n\n: still here\n\n"+event(1, "one")), hangUp, say("text/event-stream", event(2, "two")+event(3, "three")[:40]),
			say("text/event-stream; charset=utf-8", strings.ReplaceAll(event(3, "three"), "\n", "\r\n"))}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := scripted(t, tc.answers...)
			topic := mailbox.New(c, "jobs")
			if tc.json {
				topic = topic.InJSON()
			}
			broken := 0
			sub := topic.Subscribe(t.Context(), mailbox.Follow{Credit: 7, Visibility: time.Second, Report: func(error) { broken++ }})
			defer sub.Close()
			for i, want := range []string{"one", "two", "three"} {
				m, err := sub.Next()
				if err != nil || string(m.Payload) != want || sub.Cursor() != fmt.Sprint("sub.", i+1) {
					t.Fatalf("%d: %+v, %v at %s", i, m, err, sub.Cursor())
				}
			}
			var lines []string
			for _, call := range s.calls() {
				lines = append(lines, strings.TrimPrefix(call.line, "GET /v1/mailbox/jobs/subscribe?"))
			}
			got := strings.Join(lines, " ")
			if want := "credit=7&visibility_ms=1000 credit=7&cursor=sub.1&visibility_ms=1000 credit=7&cursor=sub.1&visibility_ms=1000 credit=7&cursor=sub.2&visibility_ms=1000"; got != want || broken == 0 {
				t.Errorf("asked %s; %d breaks reported", got, broken)
			}
		})
	}
}

// TestSubscribeEnds: with its context, when it is closed, and with what no waiting
// mends; not with a message that came damaged.
func TestSubscribeEnds(t *testing.T) {
	_, c := scripted(t, refuse(macronode.NotFound))
	sub := mailbox.New(c, "jobs").Subscribe(t.Context(), mailbox.Follow{})
	var refused *client.Error
	for range 2 {
		if _, err := sub.Next(); !errors.As(err, &refused) || refused.Status != 404 {
			t.Errorf("no topic: %v", err)
		}
	}
	block := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/cbor-seq")
		io.WriteString(w, strings.Replace(sequence(t, 1, "hello"), "hello", "hellO", 1)+sequence(t, 2, "fine"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	_, c = scripted(t, block)
	sub = mailbox.New(c, "jobs").Subscribe(t.Context(), mailbox.Follow{})
	if _, err := sub.Next(); !errors.Is(err, client.ErrIntegrity) {
		t.Errorf("damaged: %v", err)
	}
	if m, err := sub.Next(); err != nil || string(m.Payload) != "fine" {
		t.Errorf("after that: %+v, %v", m, err)
	}
	time.AfterFunc(10*time.Millisecond, sub.Close)
	if _, err := sub.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("closed: %v", err)
	}
}

// FuzzAnswers: no answer of a node makes the client panic, and none that is damaged
// gets through.
func FuzzAnswers(f *testing.F) {
	good := deliveries("hello", "")
	inJSON, _ := json.Marshal(good)
	inCBOR, _ := cbor.Marshal(good)
	f.Add(inJSON, false)
	f.Add(inCBOR, true)
	f.Add([]byte{0xa1, 0x68, 'm', 'e', 's', 's', 'a', 'g', 'e', 's', 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, text []byte, isCBOR bool) {
		form := "application/json"
		if isCBOR {
			form = "application/cbor"
		}
		c, err := client.Dial("http://127.0.0.1:1", client.Options{Retries: -1, DialTCP: answering(form, text)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		jobs := mailbox.New(c, "jobs")
		got, _ := jobs.Receive(t.Context(), mailbox.Want{})
		for _, m := range got {
			if b3.Sum(m.Payload) != m.Hash {
				t.Error("a damaged message gets through")
			}
		}
		_, _ = jobs.SendBatch(t.Context(), []mailbox.Message{{}})
		_, _ = jobs.Ack(t.Context(), "a")
		_, _ = jobs.Status(t.Context())
	})
}

// answering makes connections on which every question has this answer.
func answering(form string, text []byte) func(context.Context, string) (net.Conn, error) {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", form, len(text))
	return func(context.Context, string) (net.Conn, error) {
		node, conn := net.Pipe()
		go func() {
			defer node.Close()
			r, err := http.ReadRequest(bufio.NewReader(node))
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(node, head+string(text))
		}()
		return conn, nil
	}
}
