// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// noSnapshots keeps none: a start reads the whole log.
type noSnapshots struct{}

func (noSnapshots) Save(write func(io.Writer) error, seal func() error) error {
	if err := write(io.Discard); err != nil {
		return err
	}
	return seal()
}
func (noSnapshots) Load(func(io.Reader) error) (int, error) { return 0, store.ErrNotFound }

// driveReal returns a driver of a service over a broker in memory, which runs.
func driveReal(t testing.TB, change ...func(*Config)) *driver {
	t.Helper()
	log := mem.NewLog(64 << 20)
	t.Cleanup(func() { _ = log.Close() })
	change = append(change, func(c *Config) {
		c.Open = func(_ context.Context, s func() Settings, events broker.Events) (Opened, error) {
			b, _, err := broker.Open(broker.Config{Log: log, Snapshots: noSnapshots{}, Defaults: func() queue.Config { return s().Topic }, Events: events,
				Limits: broker.Limits{MaxTopics: s().MaxTopics, MaxMessageBytes: MaxMessageBytes, MaxBatch: form.MaxReceipts, MaxWait: MaxWait}})
			return Opened{Broker: b}, err
		}
	})
	d := drive(t, nil, change...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return d
}

// send sends texts to a topic, in one batch.
func (d *driver) send(topic string, texts ...string) (ids []string) {
	d.t.Helper()
	var body strings.Builder
	for _, text := range texts {
		fmt.Fprintf(&body, "{\"text\":%q}\n", text)
	}
	var got struct {
		Results []Sent `json:"results"`
	}
	d.ask(request{op: "mailbox.send", topic: topic, header: macronode.Header{"Content-Type": {form.Lines}}, body: body.String()}, &got)
	for _, r := range got.Results {
		ids = append(ids, r.MsgID)
	}
	return ids
}

// take receives up to n messages.
func (d *driver) take(topic string, n int) []Message {
	d.t.Helper()
	var got Received
	d.ask(request{op: "mailbox.receive", topic: topic, body: fmt.Sprintf(`{"max_messages":%d}`, n)}, &got)
	return got.Messages
}

func receipts(ms []Message) string {
	var list []string
	for _, m := range ms {
		list = append(list, `"`+m.Receipt+`"`)
	}
	return strings.Join(list, ",")
}

func texts(ms []Message) (list []string) {
	for _, m := range ms {
		list = append(list, string(m.Payload))
	}
	return list
}

// kill makes a topic's messages dead: its attempts are used up.
func (d *driver) kill(topic string, reason string) {
	d.t.Helper()
	for range settings().Topic.MaxAttempts {
		got := d.take(topic, 10)
		if len(got) == 0 {
			d.t.Fatal("nothing to kill")
		}
		d.ask(request{op: "mailbox.nack", topic: topic, body: fmt.Sprintf(`{"receipts":[%s],"delay_ms":0,"reason":%q}`, receipts(got), reason)}, nil)
	}
}

func TestTopics(t *testing.T) {
	d := driveReal(t)
	d.send("jobs", "a", "b", "c")
	d.send("mail", "x")
	got := d.take("jobs", 1)
	d.ask(request{op: "mailbox.ack", body: `{"receipts":[` + receipts(got) + `]}`}, nil)
	d.take("jobs", 1)
	var topic Topic
	d.ask(request{op: "mailbox.topic"}, &topic)
	if topic.Topic != "jobs" || topic.Depth.Ready != 1 || topic.Depth.InFlight != 1 || topic.Counts.Sent != 3 || topic.Counts.Acked != 1 || *topic.Config.MaxAttempts != 3 {
		t.Errorf("%+v", topic)
	}
	var list TopicList
	d.ask(request{op: "mailbox.topics"}, &list)
	if len(list.Topics) != 2 || list.Topics[0].Topic != "jobs" || list.Cursor != "" {
		t.Errorf("%+v", list)
	}
	d.ask(request{op: "mailbox.topics", query: "limit=1"}, &list)
	if len(list.Topics) != 1 || list.Cursor == "" {
		t.Errorf("%+v", list)
	}
	d.ask(request{op: "mailbox.topics", query: "limit=1&cursor=" + list.Cursor}, &list)
	if len(list.Topics) != 1 || list.Topics[0].Topic != "mail" {
		t.Errorf("%+v", list)
	}
	d.ask(request{op: "mailbox.topics", query: "prefix=jo"}, &list)
	if len(list.Topics) != 1 {
		t.Errorf("%+v", list)
	}
	var peek PeekList
	d.ask(request{op: "mailbox.peek"}, &peek)
	if len(peek.Messages) != 2 || peek.Messages[0].State != "in_flight" || peek.Messages[0].Attempts != 1 || peek.Messages[0].UntilMS < 1 || peek.Messages[1].State != "ready" {
		t.Errorf("%+v", peek)
	}
	d.ask(request{op: "mailbox.peek", query: "state=ready"}, &peek)
	if len(peek.Messages) != 1 {
		t.Errorf("%+v", peek)
	}
	d.ask(request{op: "mailbox.peek", query: "limit=1"}, &peek)
	d.ask(request{op: "mailbox.peek", query: "limit=1&cursor=" + peek.Cursor}, &peek)
	if len(peek.Messages) != 1 || peek.Messages[0].State != "ready" {
		t.Errorf("%+v", peek)
	}
	var purged Purged
	d.ask(request{op: "mailbox.purge"}, &purged)
	if purged.Purged != 2 {
		t.Errorf("%+v", purged)
	}
	if out := d.ask(request{op: "mailbox.topic.delete", topic: "mail"}, nil); out.status != 204 {
		t.Errorf("%+v", out)
	}
	d.refuse(request{op: "mailbox.topic", topic: "mail"}, macronode.NotFound)
	d.refuse(request{op: "mailbox.receive", topic: "mail"}, macronode.NotFound)
}

func TestPutTopic(t *testing.T) {
	d := driveReal(t)
	var topic Topic
	out := d.ask(request{op: "mailbox.topic.put", body: `{"max_attempts":9,"visibility_ms":1000,"dlq":"graves","ordered":true}`}, &topic)
	if out.status != 201 || *topic.Config.MaxAttempts != 9 || *topic.Config.VisibilityMS != 1000 || *topic.Config.DLQ != "graves" || !*topic.Config.Ordered || *topic.Config.MaxDepth != 1000 {
		t.Errorf("%d %+v", out.status, topic)
	}
	out = d.ask(request{op: "mailbox.topic.put", body: `{}`}, &topic)
	if out.status != 200 || *topic.Config.MaxAttempts != 3 || *topic.Config.DLQ != "" {
		t.Errorf("%d %+v", out.status, topic)
	}
	out = d.ask(request{op: "mailbox.topic.put", topic: "other"}, &topic)
	if out.status != 201 {
		t.Errorf("%d without a body", out.status)
	}
	for _, body := range []string{`{"max_attempts":0}`, `{"max_attempts":-1}`, `{"visibility_ms":0}`, `{"visibility_ms":9223372036854775807}`, `{"replay_window_ms":299999}`, `{"retention_ms":-5}`,
		`{"dlq":"Not A Name"}`, `{"max_depth":0}`, `{"max_bytes":0}`, `{"max_in_flight":0}`, `{"dlq_retention_ms":1}`} {
		d.refuse(request{op: "mailbox.topic.put", body: body}, macronode.Invalid)
	}
	for _, body := range []string{`{"stray":1}`, `[]`, `{"max_attempts":"x"}`, `{}{}`, `{"max_attempts":1.5}`} {
		d.refuse(request{op: "mailbox.topic.put", body: body}, macronode.Malformed)
	}
	// The defaults change live, for topics to come.
	s := settings()
	s.Topic.MaxAttempts = 7
	if err := d.s.SetSettings(s); err != nil {
		t.Fatal(err)
	}
	d.send("later", "x")
	d.ask(request{op: "mailbox.topic", topic: "later"}, &topic)
	if *topic.Config.MaxAttempts != 7 {
		t.Errorf("%+v", topic.Config)
	}
	s.Topic.MaxAttempts = 0
	if d.s.SetSettings(s) == nil {
		t.Error("settings that make no sense are taken")
	}
	d.send("fourth", "x")
	d.send("fifth", "x")
	d.refuse(request{op: "mailbox.topic.put", topic: "sixth"}, macronode.QuotaDepth)
	d.refuse(request{op: "mailbox.send", topic: "sixth", body: "x"}, macronode.QuotaDepth)
}

func TestDeadLetters(t *testing.T) {
	d := driveReal(t)
	ids := d.send("jobs", "poison", "venom")
	d.kill("jobs", "it broke")
	var list DeadList
	poll(t, func() bool { d.ask(request{op: "mailbox.dlq"}, &list); return len(list.Messages) == 2 })
	first := list.Messages[0]
	if first.MsgID != ids[0] || first.Reason != "max_attempts" || first.Attempts != 3 || first.Died == "" || first.Damaged {
		t.Errorf("%+v", first)
	}
	var one DeadLetter
	d.ask(request{op: "mailbox.dlq.get", params: []macronode.Arg{{Name: "msg_id", Value: ids[0]}}}, &one)
	if one.Payload == nil || string(*one.Payload) != "poison" || len(one.History) != 3 || one.History[2].Error != "it broke" {
		t.Errorf("%+v", one)
	}
	for query, n := range map[string]int{"reason=max_attempts": 2, "reason=integrity": 0, "limit=1": 1} {
		d.ask(request{op: "mailbox.dlq", query: query}, &list)
		if len(list.Messages) != n {
			t.Errorf("%s: %+v", query, list)
		}
	}
	var reply JobReply
	d.ask(request{op: "mailbox.redrive", body: `{"dry_run":true,"filter":{"msg_ids":["` + ids[1] + `"]}}`}, &reply)
	dry := []macronode.Arg{{Name: "job", Value: reply.Job.ID}}
	poll(t, func() bool {
		d.ask(request{op: "mailbox.redrive.get", params: dry}, &reply)
		return reply.Job.State == "done"
	})
	if reply.Job.Matched != 1 || reply.Job.Moved != 0 || !reply.Job.DryRun {
		t.Errorf("%+v", reply)
	}
	d.ask(request{op: "mailbox.redrive", body: `{"filter":{"reason":"max_attempts","msg_ids":["` + ids[1] + `"],"after_ms":1,"before_ms":7258118399999},"rate_per_s":1000}`}, &reply)
	job := []macronode.Arg{{Name: "job", Value: reply.Job.ID}}
	poll(t, func() bool {
		d.ask(request{op: "mailbox.redrive.get", params: job}, &reply)
		return reply.Job.State == "done"
	})
	if reply.Job.Moved != 1 || reply.Job.RatePer != 1000 || reply.Job.Ended == "" || !reflect.DeepEqual(reply.Job.Filter.MsgIDs, ids[1:]) {
		t.Errorf("%+v", reply)
	}
	var jobs JobList
	d.ask(request{op: "mailbox.redrive.list"}, &jobs)
	if len(jobs.Jobs) == 0 {
		t.Errorf("%+v", jobs)
	}
	got := d.take("jobs", 5)
	if !reflect.DeepEqual(texts(got), []string{"venom"}) || got[0].MsgID != ids[1] || got[0].Attempt != 4 {
		t.Errorf("redriven: %+v", got)
	}
	d.ask(request{op: "mailbox.redrive.stop", params: job}, &reply)
	if out := d.ask(request{op: "mailbox.dlq.delete", params: []macronode.Arg{{Name: "msg_id", Value: ids[0]}}}, nil); out.status != 204 {
		t.Errorf("%+v", out)
	}
	d.refuse(request{op: "mailbox.dlq.delete", params: []macronode.Arg{{Name: "msg_id", Value: ids[0]}}}, macronode.NotFound)
	d.refuse(request{op: "mailbox.dlq.get", params: []macronode.Arg{{Name: "msg_id", Value: ids[0]}}}, macronode.NotFound)
	d.send("more", "a", "b")
	d.kill("more", "x")
	var deleted Deleted
	poll(t, func() bool {
		d.ask(request{op: "mailbox.dlq", topic: "more"}, &list)
		return len(list.Messages) == 2
	})
	d.ask(request{op: "mailbox.dlq.purge", topic: "more", body: `{"filter":{}}`}, &deleted)
	if deleted.Deleted != 2 {
		t.Errorf("%+v", deleted)
	}
}

func TestDeadRefused(t *testing.T) {
	d := driveReal(t)
	d.send("jobs", "a")
	for _, op := range []macronode.Op{"mailbox.dlq", "mailbox.peek", "mailbox.topics"} {
		for _, q := range []string{"limit=0", "limit=1001", "limit=x", "stray=1", "limit=1&limit=2"} {
			d.refuse(request{op: op, query: q}, macronode.Malformed)
		}
	}
	d.refuse(request{op: "mailbox.dlq", query: "reason=bad"}, macronode.Malformed)
	d.refuse(request{op: "mailbox.dlq", query: "cursor=%21"}, macronode.Malformed)
	d.refuse(request{op: "mailbox.peek", query: "cursor=%21"}, macronode.Malformed)
	d.refuse(request{op: "mailbox.peek", query: "state=gone"}, macronode.Malformed)
	d.refuse(request{op: "mailbox.topics", query: "prefix=A"}, macronode.Malformed)
	d.refuse(request{op: "mailbox.dlq.purge", body: `{}`}, macronode.Malformed)
	d.refuse(request{op: "mailbox.dlq.purge"}, macronode.Malformed)
	for _, f := range []string{`{"reason":"bad"}`, `{"before_ms":0}`, `{"after_ms":-1}`, `{"before_ms":7258118400000}`, `{"msg_ids":[]}`, `{"msg_ids":["x"]}`, `{"stray":1}`,
		`{"msg_ids":["` + strings.Repeat(`01ARZ3NDEKTSV4RRFFQ69G5FAV","`, 1000) + `01ARZ3NDEKTSV4RRFFQ69G5FAV"]}`} {
		d.refuse(request{op: "mailbox.dlq.purge", body: `{"filter":` + f + `}`}, macronode.Malformed)
		d.refuse(request{op: "mailbox.redrive", body: `{"filter":` + f + `}`}, macronode.Malformed)
	}
	// Nothing is moved into a topic that the capability may not cover.
	d.refuse(request{op: "mailbox.redrive", body: `{"to":"other"}`}, macronode.Malformed)
	d.refuse(request{op: "mailbox.redrive", body: `{"rate_per_s":-1}`}, macronode.Malformed)
	for _, op := range []macronode.Op{"mailbox.dlq.get", "mailbox.dlq.delete"} {
		d.refuse(request{op: op, params: []macronode.Arg{{Name: "msg_id", Value: "x"}}}, macronode.Malformed)
	}
	for _, op := range []macronode.Op{"mailbox.redrive.get", "mailbox.redrive.stop"} {
		d.refuse(request{op: op, params: []macronode.Arg{{Name: "job", Value: "x"}}}, macronode.NotFound)
	}
	for _, op := range []macronode.Op{"mailbox.topic", "mailbox.topic.delete", "mailbox.purge", "mailbox.peek", "mailbox.dlq", "mailbox.redrive", "mailbox.redrive.list", "mailbox.subscribe", "mailbox.receive"} {
		d.refuse(request{op: op, topic: "none"}, macronode.NotFound)
		d.refuse(request{op: op, topic: "NONE"}, macronode.Malformed)
		d.refuse(request{op: op, query: "stray=1"}, macronode.Malformed)
	}
	d.refuse(request{op: "mailbox.ack", topic: "none", body: `{"receipts":["x"]}`}, macronode.NotFound)
}

// Another tenant's topic, receipts and cursors are nobody's.
func TestTenants(t *testing.T) {
	d := driveReal(t)
	mine, other := tenantOf(7), tenantOf(8)
	d.send("jobs", "secret")
	got := d.take("jobs", 1)
	list := `{"receipts":[` + receipts(got) + `]}`
	d.refuse(request{op: "mailbox.topic", tenant: other}, macronode.NotFound)
	d.refuse(request{op: "mailbox.receive", tenant: other}, macronode.NotFound)
	d.refuse(request{op: "mailbox.ack", tenant: other, body: list}, macronode.NotFound)
	d.ask(request{op: "mailbox.send", tenant: other, body: "theirs"}, nil)
	// With a topic of the same name it is no receipt of theirs, as any other text.
	theirs := d.refuse(request{op: "mailbox.ack", tenant: other, body: list}, macronode.Malformed)
	garbage := d.refuse(request{op: "mailbox.ack", tenant: other, body: `{"receipts":["garbage"]}`}, macronode.Malformed)
	if theirs.Detail != garbage.Detail {
		t.Errorf("%q and %q tell another's receipt from none", theirs.Detail, garbage.Detail)
	}
	d.send("more", "x")
	d.refuse(request{op: "mailbox.ack", topic: "more", body: list}, macronode.Malformed)
	d.ask(request{op: "mailbox.ack", tenant: mine, body: list}, nil)
	d.refuse(request{op: "mailbox.ack", tenant: mine, body: list}, macronode.LeaseLost)
	// A tenant that is deleted leaves nothing.
	if err := d.s.Purge(t.Context(), other.ID); err != nil {
		t.Fatal(err)
	}
	d.refuse(request{op: "mailbox.topic", tenant: other}, macronode.NotFound)
	d.ask(request{op: "mailbox.topic", tenant: mine}, nil)
}

// Sends that repeat a key say so; with another message they are refused.
func TestDuplicates(t *testing.T) {
	d := driveReal(t)
	var first, again Sent
	send := request{op: "mailbox.send", body: "hello", query: "attr=a%3A1", key: "once"}
	d.ask(send, &first)
	d.ask(send, &again)
	if again.MsgID != first.MsgID || !again.Duplicate || first.Duplicate {
		t.Errorf("%+v, %+v", first, again)
	}
	// The same message in a batch, under its own key, is the same request.
	var batch struct {
		Results []Sent `json:"results"`
	}
	d.ask(request{op: "mailbox.send", header: macronode.Header{"Content-Type": {form.Lines}}, body: `{"text":"hello","attrs":{"a":"1"},"idempotency_key":"once"}`}, &batch)
	if batch.Results[0] != again {
		t.Errorf("%+v", batch)
	}
	send.body = "hallo"
	d.refuse(send, macronode.IdempotencyMismatch)
	send.body, send.query = "hello", "attr=a%3A2"
	d.refuse(send, macronode.IdempotencyMismatch)
	lines := request{op: "mailbox.send", header: macronode.Header{"Content-Type": {form.Lines}}, body: `{"text":"x"}` + "\n" + `{"text":"y"}`, key: "batch"}
	d.ask(lines, &batch)
	ids := []string{batch.Results[0].MsgID, batch.Results[1].MsgID}
	d.ask(lines, &batch)
	if !batch.Results[0].Duplicate || batch.Results[1].MsgID != ids[1] {
		t.Errorf("%+v", batch)
	}
	var topic Topic
	d.ask(request{op: "mailbox.topic"}, &topic)
	if topic.Counts.Sent != 3 {
		t.Errorf("%d messages", topic.Counts.Sent)
	}
}

// Bounds are told with how long to wait.
func TestBounds(t *testing.T) {
	d := driveReal(t)
	d.ask(request{op: "mailbox.topic.put", body: `{"max_depth":2,"max_in_flight":1}`}, nil)
	d.send("jobs", "a", "b")
	if e := d.refuse(request{op: "mailbox.send", body: "c"}, macronode.QuotaDepth); e.RetryAfter <= 0 {
		t.Error("no word of how long to wait")
	}
	got := d.take("jobs", 5)
	if len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
	if e := d.refuse(request{op: "mailbox.receive"}, macronode.QuotaInFlight); e.RetryAfter <= 0 || e.RetryAfter > 30*time.Second {
		t.Errorf("it says to wait %s", e.RetryAfter)
	}
	d.ask(request{op: "mailbox.ack", body: `{"receipts":[` + receipts(got) + `]}`}, nil)
	d.send("jobs", "c")
}

// A client that goes away while it waits holds nothing: what comes next is another's.
func TestWaiterGone(t *testing.T) {
	d := driveReal(t)
	d.send("jobs", "first")
	d.ask(request{op: "mailbox.purge"}, nil)
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan *macronode.Reply, 1)
		go func() {
			r, err := d.reply(ctx, request{op: "mailbox.receive", body: `{"wait_ms":2000}`})
			if err != nil {
				t.Error(err)
			}
			gone <- r
		}()
		poll(t, func() bool {
			var topic Topic
			d.ask(request{op: "mailbox.topic"}, &topic)
			return topic.Waiting == 1
		})
		text := fmt.Sprint("message ", i)
		sent := make(chan struct{})
		go func() { d.send("jobs", text); close(sent) }()
		cancel()
		// Whichever came first: the answer is never written.
		if r := <-gone; r.Stream != nil {
			r.Stream.Close()
		}
		<-sent
		got := d.take("jobs", 1)
		if len(got) != 1 || string(got[0].Payload) != text {
			t.Fatalf("message %d is held by somebody who is gone", i)
		}
		d.ask(request{op: "mailbox.ack", body: `{"receipts":[` + receipts(got) + `]}`}, nil)
	}
}

func TestMetrics(t *testing.T) {
	reg := metrics.New(false)
	m := NewMetrics(reg, func(macronode.TenantID) string { return "acme" })
	d := driveReal(t, func(c *Config) { c.Metrics = m })
	d.s.Watch(reg)
	d.send("jobs", "a", "b")
	d.ask(request{op: "mailbox.send", body: "c", key: "k"}, nil)
	d.ask(request{op: "mailbox.send", body: "c", key: "k"}, nil)
	got := d.take("jobs", 2)
	d.ask(request{op: "mailbox.ack", body: `{"receipts":[` + receipts(got[:1]) + `]}`}, nil)
	d.ask(request{op: "mailbox.nack", body: `{"receipts":[` + receipts(got[1:]) + `],"delay_ms":600000}`}, nil)
	d.take("jobs", 1)
	_, text, err := reg.Expose("")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`mailbox_enqueue_total{topic="acme/jobs"} 3`, `mailbox_dequeue_total{topic="acme/jobs"} 3`, `mailbox_duplicates_total 1`, `mailbox_requeue_total{why="nack"} 1`,
		`mailbox_requeue_total{why="lapsed"} 0`, `mailbox_ack_seconds_count 1`, `mailbox_send_seconds_count 3`, `mailbox_depth{topic="acme/jobs"} 1`, `mailbox_in_flight{topic="acme/jobs"} 1`,
		`mailbox_dlq_total{reason="max_attempts"} 0`, `mailbox_damaged_total 0`, `mailbox_oldest_unacked_seconds{topic="acme/jobs"}`, `mailbox_depth{topic="_other"} 0`, `mailbox_unsent_total 0`, `mailbox_subscriptions 0`,
	} {
		if !strings.Contains(string(text), "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
	if stray, err := reg.Stray(); err != nil || len(stray) > 0 {
		t.Errorf("%v %v", stray, err)
	}
}

// poll waits until f holds.
func poll(t testing.TB, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to pass")
		}
		<-tick.C
	}
}

// BenchmarkSend is what the service itself adds to a send of 1 KiB.
func BenchmarkSend(b *testing.B) {
	f := &fake{}
	one := []broker.Sent{{}}
	f.send = func(context.Context, queue.TopicRef, []broker.Message) ([]broker.Sent, error) { return one, nil }
	d := drive(b, f)
	route := d.routes["mailbox.send"]
	body := make([]byte, 1024)
	for name, key := range map[string]string{"plain": "", "keyed": "0123456789abcdef"} {
		b.Run(name, func(b *testing.B) {
			r := strings.NewReader(string(body))
			c := &macronode.Call{Header: macronode.Header{}, IdempotencyKey: key, Binding: &route.Binding, Length: 1024, Body: r, CorrID: "corr"}
			c.AddParam("topic", "jobs")
			a := &macronode.Admitted{Call: c, Tenant: tenantOf(7), ReplyBytes: macronode.NoLimit}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = r.Seek(0, io.SeekStart)
				if _, err := route.Handler(b.Context(), a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
