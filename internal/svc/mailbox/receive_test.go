// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// deliveries are n messages with receipts r1, r2, ...
func deliveries(from, n int) []broker.Delivery {
	out := make([]broker.Delivery, n)
	for i := range out {
		p := []byte(fmt.Sprint("payload ", from+i))
		out[i] = broker.Delivery{ID: queue.ID{15: byte(from + i)}, Receipt: fmt.Sprint("r", from+i), Lease: uint64(from + i), TS: time.UnixMilli(1_700_000_000_000), Attempt: 1, Payload: p, Hash: b3.Sum(p)}
	}
	return out
}

// recorder is a fake whose calls about receipts all work, and are remembered.
func recorder() (*fake, *log) {
	l := &log{}
	f := &fake{}
	f.settle = func(verb string, ref queue.TopicRef, receipts []string, d *time.Duration, reason string) ([]broker.Outcome, error) {
		line := verb + " " + ref.Name + " " + strings.Join(receipts, ",")
		if d != nil {
			line += " " + d.String()
		}
		if reason != "" {
			line += " (" + reason + ")"
		}
		l.add(line)
		out := make([]broker.Outcome, len(receipts))
		for i, r := range receipts {
			out[i] = broker.Outcome{Receipt: r, ID: queue.ID{15: byte(i + 1)}}
		}
		return out, nil
	}
	return f, l
}

func TestReceive(t *testing.T) {
	f, l := recorder()
	d := drive(t, f)
	var want broker.Want
	f.receive = func(_ context.Context, _ queue.TopicRef, w broker.Want) ([]broker.Delivery, error) {
		want = w
		return deliveries(1, 2), nil
	}
	var got Received
	d.ask(request{op: "mailbox.receive", body: `{"max_messages":5,"max_bytes":700,"visibility_ms":1000,"wait_ms":1500}`}, &got)
	if want != (broker.Want{Max: 5, MaxBytes: 700, Visibility: time.Second, Wait: 1500 * time.Millisecond}) {
		t.Errorf("%+v", want)
	}
	if len(got.Messages) != 2 || got.Messages[1].Receipt != "r2" || got.Messages[1].Topic != "jobs" || string(got.Messages[1].Payload) != "payload 2" || got.Messages[1].Attrs == nil {
		t.Errorf("%+v", got)
	}
	out := d.ask(request{op: "mailbox.receive", header: macronode.Header{"Accept": {form.CBOR}}}, nil)
	var packed struct {
		Messages []struct {
			Receipt string `cbor:"receipt"`
			Payload []byte `cbor:"payload"`
		} `cbor:"messages"`
	}
	if err := cbor.Unmarshal(out.body, &packed); err != nil || out.ctype != form.CBOR || len(packed.Messages) != 2 || string(packed.Messages[0].Payload) != "payload 1" {
		t.Errorf("%+v, %v", packed, err)
	}
	if want != (broker.Want{Max: 1}) {
		t.Errorf("where nothing is said: %+v", want)
	}
	// What is asked for at most is cut to what the config allows.
	d.ask(request{op: "mailbox.receive", body: `{"max_messages":1000,"wait_ms":600000}`}, &got)
	if want.Max != 10 || want.Wait != 2*time.Second {
		t.Errorf("%+v", want)
	}
	// What the capability leaves bounds the payloads.
	if _, err := d.do(request{op: "mailbox.receive", body: `{"max_bytes":9000}`, budget: 4000}); err != nil || want.MaxBytes != 3000 {
		t.Errorf("%+v, %v", want, err)
	}
	if l.all() != "" {
		t.Errorf("messages that were sent were given back: %s", l.all())
	}
	f.receive = func(context.Context, queue.TopicRef, broker.Want) ([]broker.Delivery, error) { return nil, nil }
	if out := d.ask(request{op: "mailbox.receive"}, &got); string(out.body) != `{"messages":[]}` {
		t.Errorf("%s", out.body)
	}
}

func TestReceiveRefused(t *testing.T) {
	f, _ := recorder()
	d := drive(t, f)
	f.receive = func(context.Context, queue.TopicRef, broker.Want) ([]broker.Delivery, error) {
		return nil, &macronode.Error{Kind: macronode.QuotaInFlight, RetryAfter: 2 * time.Second}
	}
	if e := d.refuse(request{op: "mailbox.receive"}, macronode.QuotaInFlight); e.RetryHint() != 2*time.Second {
		t.Errorf("it says to wait %s", e.RetryHint())
	}
	d.refuse(request{op: "mailbox.receive", topic: "No"}, macronode.Malformed)
	d.refuse(request{op: "mailbox.receive", query: "wait_ms=1"}, macronode.Malformed)
	d.refuse(request{op: "mailbox.receive", body: `{"stray":1}`}, macronode.Malformed)
	d.refuse(request{op: "mailbox.receive", reader: zeros{}, length: -1}, macronode.TooLarge)
	f.receive = func(context.Context, queue.TopicRef, broker.Want) ([]broker.Delivery, error) {
		return nil, macronode.Errorf(macronode.NotFound, "")
	}
	d.refuse(request{op: "mailbox.receive"}, macronode.NotFound)
}

// A wait that a drain or a deadline cuts short found nothing, which is no error.
func TestReceiveCutShort(t *testing.T) {
	f, _ := recorder()
	d := drive(t, f)
	for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"drain": context.WithCancel,
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Millisecond)
		},
	} {
		ctx, cancel := end(t.Context())
		f.receive = func(ctx context.Context, _ queue.TopicRef, _ broker.Want) ([]broker.Delivery, error) {
			if name == "drain" {
				cancel()
			}
			<-ctx.Done()
			return nil, macronode.Wrap(macronode.ClientGone, "", ctx.Err())
		}
		out, err := d.doCtx(ctx, request{op: "mailbox.receive", body: `{"wait_ms":2000}`})
		if err != nil || string(out.body) != `{"messages":[]}` {
			t.Errorf("%s: %s, %v", name, out.body, err)
		}
		cancel()
	}
	// An error that has nothing to do with the end of the call is told.
	ctx, cancel := context.WithCancel(t.Context())
	f.receive = func(context.Context, queue.TopicRef, broker.Want) ([]broker.Delivery, error) {
		cancel()
		return nil, macronode.Errorf(macronode.Unavailable, "")
	}
	if _, err := d.doCtx(ctx, request{op: "mailbox.receive"}); macronode.KindOf(err) != macronode.Unavailable {
		t.Errorf("%v", err)
	}
}

type brokenPipe struct{ after int }

func (w *brokenPipe) Write(p []byte) (int, error) {
	if w.after--; w.after < 0 {
		return len(p) / 2, errors.New("the client is gone")
	}
	return len(p), nil
}

// Leases whose answer did not leave the node go back at once, with no delay.
func TestReceiveGivesBack(t *testing.T) {
	f, l := recorder()
	d := drive(t, f)
	f.receive = func(context.Context, queue.TopicRef, broker.Want) ([]broker.Delivery, error) {
		return deliveries(1, 2), nil
	}
	reply, err := d.reply(t.Context(), request{op: "mailbox.receive"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reply.Stream.WriteTo(&brokenPipe{}); err == nil {
		t.Error("a broken pipe is no error")
	}
	reply.Stream.Close()
	const back = "nack jobs r1,r2 0s (the answer could not be sent)"
	if l.all() != back {
		t.Errorf("after half of it was written: %q", l.all())
	}
	// The wall refuses to send it: it is closed without having been written.
	if reply, err = d.reply(t.Context(), request{op: "mailbox.receive"}); err != nil {
		t.Fatal(err)
	}
	reply.Stream.Close()
	if l.all() != back+"\n"+back {
		t.Errorf("where nothing was written: %q", l.all())
	}
}

func TestSettle(t *testing.T) {
	f, l := recorder()
	d := drive(t, f)
	var got Outcomes
	d.ask(request{op: "mailbox.ack", body: `{"receipts":["a","b"]}`}, &got)
	d.ask(request{op: "mailbox.nack", body: `{"receipts":["a"],"delay_ms":0,"reason":"later"}`}, &got)
	d.ask(request{op: "mailbox.nack", body: `{"receipts":["a"]}`}, &got)
	d.ask(request{op: "mailbox.extend", body: `{"receipts":["a"],"visibility_ms":1500}`}, &got)
	if want := "ack jobs a,b\nnack jobs a 0s (later)\nnack jobs a\nextend jobs a 1.5s"; l.all() != want {
		t.Errorf("%s", l.all())
	}
	for _, op := range []macronode.Op{"mailbox.ack", "mailbox.nack", "mailbox.extend"} {
		d.refuse(request{op: op}, macronode.Malformed)
		d.refuse(request{op: op, body: `{"receipts":[]}`}, macronode.Malformed)
		d.refuse(request{op: op, body: `{"receipts":["a"],"stray":1,"visibility_ms":1}`}, macronode.Malformed)
		d.refuse(request{op: op, topic: "NO", body: `{"receipts":["a"],"visibility_ms":1}`}, macronode.Malformed)
		d.refuse(request{op: op, query: "x=1", body: `{"receipts":["a"],"visibility_ms":1}`}, macronode.Malformed)
		d.refuse(request{op: op, reader: zeros{}, length: -1}, macronode.TooLarge)
		fits := map[macronode.Op]string{"mailbox.extend": `{"receipts":["a"],"visibility_ms":1}`}[op]
		if fits == "" {
			fits = `{"receipts":["a"]}`
		}
		d.refuse(request{op: op, body: fits, budget: 90}, macronode.TooLarge)
	}
	// A second call with the same key gets the first answer, and does nothing.
	was := l.all()
	first := d.ask(request{op: "mailbox.ack", body: `{"receipts":["k"]}`, key: "once"}, &got)
	done := l.all()
	again := d.ask(request{op: "mailbox.ack", body: `{"receipts":["k"]}`, key: "once"}, &got)
	if !reflect.DeepEqual(first, again) || l.all() != done || done == was {
		t.Error("a repeated ack was done again")
	}
	d.refuse(request{op: "mailbox.ack", body: `{"receipts":["other"]}`, key: "once"}, macronode.IdempotencyMismatch)
}

// lease_lost is the call's refusal where every receipt is stale, and only then.
func TestSettleStale(t *testing.T) {
	f := &fake{}
	d := drive(t, f)
	lost := &macronode.Error{Kind: macronode.LeaseLost, Err: broker.ErrLeaseLost}
	bad := &macronode.Error{Kind: macronode.Malformed, Err: broker.ErrReceipt}
	for _, c := range []struct {
		errs []error
		kind macronode.Kind // NumKinds: none
		text string
	}{
		{[]error{nil}, macronode.NumKinds, `[{"receipt":"r0","msg_id":"00000000000000000000000000","ok":true}]`},
		{[]error{lost}, macronode.LeaseLost, ""},
		{[]error{lost, lost}, macronode.LeaseLost, ""},
		{[]error{lost, nil}, macronode.NumKinds, `[{"receipt":"r0","ok":false,"code":"lease_lost"},{"receipt":"r1","msg_id":"00000000000000000000000000","ok":true}]`},
		{[]error{bad}, macronode.Malformed, ""},
		{[]error{bad, bad}, macronode.Malformed, ""},
		{[]error{bad, lost}, macronode.NumKinds, `[{"receipt":"r0","ok":false,"code":"bad_receipt"},{"receipt":"r1","ok":false,"code":"lease_lost"}]`},
	} {
		f.settle = func(_ string, _ queue.TopicRef, receipts []string, _ *time.Duration, _ string) ([]broker.Outcome, error) {
			out := make([]broker.Outcome, len(receipts))
			for i := range out {
				out[i] = broker.Outcome{Receipt: receipts[i], Err: c.errs[i]}
			}
			return out, nil
		}
		var receipts []string
		for i := range c.errs {
			receipts = append(receipts, fmt.Sprintf(`"r%d"`, i))
		}
		list := `{"receipts":[` + strings.Join(receipts, ",")
		for op, body := range map[macronode.Op]string{"mailbox.ack": list + "]}", "mailbox.nack": list + "]}", "mailbox.extend": list + `],"visibility_ms":9}`} {
			out, err := d.do(request{op: op, body: body})
			if macronode.KindOf(err) != c.kind || err == nil && string(out.body) != `{"results":`+c.text+`}` {
				t.Errorf("%s of %v: %s, %v", op, c.errs, out.body, err)
			}
		}
	}
	f.settle = func(string, queue.TopicRef, []string, *time.Duration, string) ([]broker.Outcome, error) {
		return nil, macronode.Errorf(macronode.NotFound, "")
	}
	d.refuse(request{op: "mailbox.ack", body: `{"receipts":["a"]}`}, macronode.NotFound)
}

// A service whose broker failed is run again, over what is on disk.
func TestServeAgain(t *testing.T) {
	opened, closed := 0, 0
	f, _ := recorder()
	f.topic.Ref.Name = "jobs"
	d := drive(t, f, func(c *Config) {
		c.Open = func(context.Context, func() Settings, broker.Events) (Opened, error) {
			opened++
			return Opened{Broker: f, Close: func() error { closed++; return nil }}, nil
		}
	})
	if err := d.s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	failed := errors.New("the log failed")
	f.serve = func(context.Context) error { return failed }
	if err := d.s.Serve(t.Context()); !errors.Is(err, failed) || opened != 1 || closed != 1 {
		t.Errorf("%v; %d opened, %d closed", err, opened, closed)
	}
	if err := d.s.Ready(t.Context()); macronode.KindOf(err) != macronode.Unavailable {
		t.Errorf("without a broker: %v", err)
	}
	d.refuse(request{op: "mailbox.send", body: "x"}, macronode.Unavailable)
	d.refuse(request{op: "mailbox.topic"}, macronode.Unavailable)
	ctx, cancel := context.WithCancel(t.Context())
	f.serve = func(ctx context.Context) error {
		d.ask(request{op: "mailbox.topic"}, nil)
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	if err := d.s.Serve(ctx); err != nil || opened != 2 || closed != 2 {
		t.Errorf("%v; %d opened, %d closed", err, opened, closed)
	}
	f.err = failed
	if err := d.s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.s.Ready(t.Context()); !errors.Is(err, failed) {
		t.Errorf("a broker that cannot serve: %v", err)
	}
}
