// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/depth"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// taker is a broker that takes every message, and keeps the last call's.
type taker struct {
	fake
	ref  queue.TopicRef
	got  []broker.Message
	errs []error // by message; nil: taken
}

func newTaker() *taker {
	f := &taker{}
	f.send = func(_ context.Context, ref queue.TopicRef, ms []broker.Message) ([]broker.Sent, error) {
		f.ref, f.got = ref, nil
		sent := make([]broker.Sent, len(ms))
		for i, m := range ms {
			m.Payload = append([]byte{}, m.Payload...) // it is the caller's again afterwards
			f.got = append(f.got, m)
			sent[i].ID = queue.ID{15: byte(i + 1)}
			if i < len(f.errs) && f.errs[i] != nil {
				sent[i] = broker.Sent{Err: f.errs[i]}
			}
		}
		return sent, nil
	}
	return f
}

func TestSendOne(t *testing.T) {
	f := newTaker()
	d := drive(t, f)
	var sent Sent
	out := d.ask(request{op: "mailbox.send", body: "hello", query: "delay_ms=5&key=k&attr=a%3A1&attr=b%3A2", key: "idem"}, &sent)
	m := broker.Message{Payload: []byte("hello"), Delay: 5 * time.Millisecond, Key: "k", Attrs: map[string]string{"a": "1", "b": "2"}}
	m.Request = form.Fingerprint(&m)
	m.IdemKey, m.CorrID = "idem", "corr"
	if out.status != 200 || sent.MsgID != form.ID(queue.ID{15: 1}) || sent.Duplicate || !reflect.DeepEqual(f.got, []broker.Message{m}) {
		t.Errorf("%+v; %+v", sent, f.got)
	}
	if f.ref != (queue.TopicRef{Tenant: tenantOf(7).ID, Name: "jobs"}) {
		t.Errorf("sent to %+v", f.ref)
	}
	// The same over OAP/1, where arguments are a map.
	d.ask(request{op: "mailbox.send", body: "hello", args: []macronode.Arg{{Name: "delay_ms", Value: "5"}, {Name: "key", Value: "k"}, {Name: "attrs", Value: `{"a":"1","b":"2"}`}}, key: "idem"}, &sent)
	if !reflect.DeepEqual(f.got, []broker.Message{m}) {
		t.Errorf("%+v", f.got)
	}
	// Without a key no request is told apart, and a body may be empty.
	d.ask(request{op: "mailbox.send"}, &sent)
	if f.got[0].IdemKey != "" || f.got[0].Request != [32]byte{} || len(f.got[0].Payload) != 0 {
		t.Errorf("%+v", f.got)
	}
	for _, n := range []int{1, 4095, 4096} {
		d.ask(request{op: "mailbox.send", reader: io.LimitReader(zeros{}, int64(n)), length: -1}, &sent)
		if len(f.got[0].Payload) != n {
			t.Errorf("%d bytes of %d", len(f.got[0].Payload), n)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestSendRefused(t *testing.T) {
	f := newTaker()
	d := drive(t, f)
	f.send = func(context.Context, queue.TopicRef, []broker.Message) ([]broker.Sent, error) {
		t.Error("something was sent")
		return nil, io.EOF
	}
	for _, topic := range []string{"A", "_x", "a/b", strings.Repeat("a", 129), "a b"} {
		d.refuse(request{op: "mailbox.send", topic: topic, body: "x"}, macronode.Malformed)
	}
	for _, q := range []string{"stray=1", "delay_ms=x", "delay_ms=-1", "delay_ms=1&delay_ms=2", "attr=x", "ttl_ms=0", "topic=other", "a;b", "%zz", "delay_ms=1&deliver_at_ms=2"} {
		d.refuse(request{op: "mailbox.send", query: q, body: "x"}, macronode.Malformed)
	}
	d.refuse(request{op: "mailbox.send", body: strings.Repeat("x", 4097)}, macronode.TooLarge)
	d.refuse(request{op: "mailbox.send", reader: zeros{}, length: -1}, macronode.TooLarge)
	d.refuse(request{op: "mailbox.send", reader: strings.NewReader("abc"), length: 4}, macronode.ClientGone)
	d.refuse(request{op: "mailbox.send", reader: strings.NewReader("abc"), length: 2}, macronode.Malformed)
	d.refuse(request{op: "mailbox.send", reader: strings.NewReader("abc"), length: 20_000}, macronode.TooLarge)
	d.refuse(request{op: "mailbox.send", reader: iotest.ErrReader(io.ErrClosedPipe), length: 4}, macronode.ClientGone)
	d.refuse(request{op: "mailbox.send", reader: iotest.ErrReader(macronode.Errorf(macronode.TooLarge, "the capability")), length: 4}, macronode.TooLarge)
	// The answer counts against what the capability allows, before anything is sent.
	d.refuse(request{op: "mailbox.send", body: "x", budget: 100}, macronode.TooLarge)
	batch := macronode.Header{"Content-Type": {form.Lines}}
	d.refuse(request{op: "mailbox.send", header: batch, body: `{"text":"a"}`, query: "key=k"}, macronode.Malformed)
	d.refuse(request{op: "mailbox.send", header: batch, body: `{"text":"a"}` + "\n" + `{"text":1}`}, macronode.Malformed)
	d.refuse(request{op: "mailbox.send", header: batch, body: strings.Repeat(`{"text":"a"}`+"\n", 11)}, macronode.TooLarge)
	d.refuse(request{op: "mailbox.send", header: batch, body: `{"text":"a"}`, budget: 200}, macronode.TooLarge)
	d.refuse(request{op: "mailbox.send", header: batch, body: ""}, macronode.Malformed)
	d.refuse(request{op: "mailbox.send", header: macronode.Header{"Content-Type": {"application/cbor"}}, body: "no cbor"}, macronode.Malformed)
}

// What the broker says of a message alone is the call's own refusal, with how long
// to wait.
func TestSendTold(t *testing.T) {
	f := newTaker()
	d := drive(t, f)
	for _, kind := range []macronode.Kind{macronode.QuotaDepth, macronode.TooLarge, macronode.IdempotencyMismatch, macronode.DiskFull, macronode.Unavailable, macronode.Invalid} {
		f.errs = []error{&macronode.Error{Kind: kind, RetryAfter: 7 * time.Second}}
		e := d.refuse(request{op: "mailbox.send", body: "x"}, kind)
		if info := kind.Info(); info.Retryable && e.RetryHint() != 7*time.Second {
			t.Errorf("%s says to wait %s", kind, e.RetryHint())
		}
	}
	f.send = func(context.Context, queue.TopicRef, []broker.Message) ([]broker.Sent, error) {
		return nil, macronode.Errorf(macronode.Draining, "")
	}
	d.refuse(request{op: "mailbox.send", body: "x"}, macronode.Draining)
}

func TestSendBatch(t *testing.T) {
	f := newTaker()
	d := drive(t, f)
	f.errs = []error{nil, &macronode.Error{Kind: macronode.QuotaDepth, RetryAfter: 250 * time.Millisecond, Detail: "full"}, nil}
	lines := `{"text":"a"}` + "\n" + `{"text":"b","idempotency_key":"own"}` + "\n" + `{"text":"c"}`
	want := map[string]any{"results": []any{
		map[string]any{"msg_id": form.ID(queue.ID{15: 1}), "duplicate": false},
		map[string]any{"code": "quota_depth", "detail": "full", "retry_after_ms": 250.0},
		map[string]any{"msg_id": form.ID(queue.ID{15: 3}), "duplicate": false},
	}}
	var got map[string]any
	out := d.ask(request{op: "mailbox.send", header: macronode.Header{"Content-Type": {"Application/X-NDJSON; charset=utf-8"}}, body: lines, key: "all"}, &got)
	if out.ctype != form.JSON || !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	keys := []string{f.got[0].IdemKey, f.got[1].IdemKey, f.got[2].IdemKey}
	if !reflect.DeepEqual(keys, []string{"all 0", "own", "all 2"}) {
		t.Errorf("keys %q", keys)
	}
	one := broker.Message{Payload: []byte("a")}
	if f.got[0].Request != form.Fingerprint(&one) || f.got[1].Request == f.got[0].Request {
		t.Error("requests are not told apart")
	}
	packed, err := cbor.Marshal([]any{map[string]any{"payload": []byte("a")}, map[string]any{"text": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	out = d.ask(request{op: "mailbox.send", header: macronode.Header{"Content-Type": {form.CBOR}, "Accept": {form.CBOR}}, body: string(packed)}, nil)
	var answer struct {
		Results []struct {
			MsgID string `cbor:"msg_id"`
			Code  string `cbor:"code"`
			Retry int64  `cbor:"retry_after_ms"`
		} `cbor:"results"`
	}
	if err := cbor.Unmarshal(out.body, &answer); err != nil || out.ctype != form.CBOR || len(answer.Results) != 2 || answer.Results[0].MsgID != form.ID(queue.ID{15: 1}) ||
		answer.Results[1].Code != "quota_depth" || answer.Results[1].Retry != 250 {
		t.Errorf("%+v, %v", answer, err)
	}
	// One reason for all is the call's refusal, two are not.
	header := macronode.Header{"Content-Type": {form.Lines}}
	full := macronode.Errorf(macronode.QuotaDepth, "full")
	f.errs = []error{full, full}
	d.refuse(request{op: "mailbox.send", header: header, body: `{"text":"a"}` + "\n" + `{"text":"b"}`}, macronode.QuotaDepth)
	f.errs = []error{full, macronode.Errorf(macronode.TooLarge, "")}
	d.ask(request{op: "mailbox.send", header: header, body: `{"text":"a"}` + "\n" + `{"text":"b"}`}, &got)
}

// Keys of a batch's members are never those of another call.
func TestMemberKey(t *testing.T) {
	long := strings.Repeat("k", 128)
	seen := map[string]bool{}
	for _, key := range []string{"a", "a1", long, long[:127], long[:126], long[:127] + "x"} {
		for i := range 12 {
			k := memberKey(key, i)
			if seen[k] || len(k) > macronode.MaxIdempotencyKeyBytes || !strings.Contains(k, " ") {
				t.Errorf("key %q of %d bytes", k, len(k))
			}
			seen[k] = true
		}
	}
}

// A payload over the limit is told of its message; the others are sent.
func TestBatchTooLarge(t *testing.T) {
	f := newTaker()
	d := drive(t, f)
	body := `{"text":"a"}` + "\n" + `{"text":"` + strings.Repeat("x", 5000) + `"}` + "\n" + `{"text":"c","attrs":{"n":"v"}}`
	var got struct {
		Results []struct {
			MsgID     string `json:"msg_id"`
			Duplicate bool   `json:"duplicate"`
			form.Refusal
		} `json:"results"`
	}
	d.ask(request{op: "mailbox.send", header: macronode.Header{"Content-Type": {form.Lines}}, body: body}, &got)
	if len(got.Results) != 3 || got.Results[0].MsgID == "" || got.Results[1].Code != "too_large" || got.Results[2].MsgID == "" || len(f.got) != 2 {
		t.Errorf("%+v, %d sent", got, len(f.got))
	}
	if string(f.got[1].Payload) != "c" {
		t.Error("another message was left out")
	}
	huge := `{"text":"` + strings.Repeat("x", 5000) + `"}`
	f.got = nil
	d.refuse(request{op: "mailbox.send", header: macronode.Header{"Content-Type": {form.Lines}}, body: huge + "\n" + huge}, macronode.TooLarge)
	if f.got != nil {
		t.Error("something was sent")
	}
	// Attributes count.
	d.refuse(request{op: "mailbox.send", body: strings.Repeat("x", 4095), query: "attr=a%3Ab"}, macronode.TooLarge)
	d.ask(request{op: "mailbox.send", body: strings.Repeat("x", 4094), query: "attr=a%3Ab"}, nil)
}

// A tenant's queue_depth holds for senders at the same time too.
func TestQueueDepth(t *testing.T) {
	f := newTaker()
	now := time.UnixMilli(1_700_000_000_000)
	d := drive(t, f, func(c *Config) { c.Now = func() time.Time { return now } })
	held, asked := int64(0), 0
	f.waiting = func() int64 { asked++; return held }
	take := f.send
	f.send = func(ctx context.Context, ref queue.TopicRef, ms []broker.Message) ([]broker.Sent, error) {
		sent, err := take(ctx, ref, ms)
		for i := range sent {
			if sent[i].Err == nil {
				held++
			}
		}
		return sent, err
	}
	tenant := tenantOf(7)
	tenant.Quota.QueueDepth = 3
	send := request{op: "mailbox.send", body: "x", tenant: tenant}
	for range 3 {
		d.ask(send, nil)
	}
	now = now.Add(depth.CountAtLeast)
	if e := d.refuse(send, macronode.QuotaDepth); e.RetryHint() != depth.MaxWait {
		t.Errorf("where nothing leaves it says to wait %s", e.RetryHint())
	}
	if held != 3 || asked != 2 {
		t.Errorf("%d messages are held, counted %d times", held, asked)
	}
	d.refuse(send, macronode.QuotaDepth)
	if asked != 2 {
		t.Error("a storm of refusals counts messages each time")
	}
	held = 1 // two were acknowledged
	now = now.Add(depth.CountAtLeast)
	batch := request{op: "mailbox.send", tenant: tenant, header: macronode.Header{"Content-Type": {form.Lines}}, body: strings.Repeat(`{"text":"a"}`+"\n", 3)}
	// Two left in a twentieth of a second, as far as it saw: the one that is too many
	// takes a bit more than the shortest wait.
	if e := d.refuse(batch, macronode.QuotaDepth); e.RetryHint() != depth.MinWait {
		t.Errorf("it says to wait %s", e.RetryHint())
	}
	f.errs = []error{errors.New("refused")}
	batch.body = strings.Repeat(`{"text":"a"}`+"\n", 2)
	d.ask(batch, nil)
	f.errs = nil
	// Of these two one was refused: there is room for one more without a count.
	d.ask(send, nil)
	if held != 3 {
		t.Errorf("%d messages are held", held)
	}
	// What is being sent counts, though the broker does not know of it yet.
	held = 2
	now = now.Add(depth.CountAtMost)
	var inner error
	take2 := f.send
	f.send = func(ctx context.Context, ref queue.TopicRef, ms []broker.Message) ([]broker.Sent, error) {
		if inner == nil {
			inner = fmt.Errorf("not asked")
			now = now.Add(depth.CountAtMost)
			_, inner = d.do(send)
		}
		return take2(ctx, ref, ms)
	}
	d.ask(send, nil)
	if macronode.KindOf(inner) != macronode.QuotaDepth || held != 3 {
		t.Errorf("a second sender at the same time: %v; %d are held", inner, held)
	}
	// Others have no such quota, and are not counted.
	was := asked
	d.ask(request{op: "mailbox.send", body: "x", tenant: tenantOf(8)}, nil)
	if asked != was {
		t.Error("a tenant without a quota is counted")
	}
}
