// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// fake is a broker of which a test says what it does. What it does not say panics.
type fake struct {
	Broker
	send    func(ctx context.Context, ref queue.TopicRef, ms []broker.Message) ([]broker.Sent, error)
	receive func(ctx context.Context, ref queue.TopicRef, w broker.Want) ([]broker.Delivery, error)
	settle  func(verb string, ref queue.TopicRef, receipts []string, d *time.Duration, reason string) ([]broker.Outcome, error)
	waiting func() int64
	held    func(ref queue.TopicRef, owner uint64) []broker.Holding
	topic   broker.TopicStatus
	err     error
	serve   func(ctx context.Context) error
}

func (f *fake) Send(ctx context.Context, ref queue.TopicRef, ms []broker.Message) ([]broker.Sent, error) {
	return f.send(ctx, ref, ms)
}

func (f *fake) Receive(ctx context.Context, ref queue.TopicRef, w broker.Want) ([]broker.Delivery, error) {
	return f.receive(ctx, ref, w)
}

func (f *fake) Ack(_ context.Context, ref queue.TopicRef, r []string) ([]broker.Outcome, error) {
	return f.settle("ack", ref, r, nil, "")
}

func (f *fake) Nack(_ context.Context, ref queue.TopicRef, r []string, d *time.Duration, reason string) ([]broker.Outcome, error) {
	return f.settle("nack", ref, r, d, reason)
}

func (f *fake) Extend(_ context.Context, ref queue.TopicRef, r []string, d time.Duration) ([]broker.Outcome, error) {
	return f.settle("extend", ref, r, &d, "")
}

func (f *fake) Held(_ context.Context, ref queue.TopicRef, owner uint64) ([]broker.Holding, error) {
	return f.held(ref, owner), f.err
}

func (f *fake) Topic(context.Context, queue.TopicRef) (broker.TopicStatus, error) {
	return f.topic, f.err
}
func (f *fake) Waiting(macronode.TenantID) int64 { return f.waiting() }
func (f *fake) Check(context.Context) error      { return f.err }

func (f *fake) Serve(ctx context.Context) error {
	if f.serve != nil {
		return f.serve(ctx)
	}
	<-ctx.Done()
	return ctx.Err()
}

// settings are those of a bundle that says nothing, but smaller.
func settings() Settings {
	return Settings{MaxMessageBytes: 4096, MaxBatch: 10, MaxTopics: 5, MaxWait: 2 * time.Second, Topic: queue.Config{
		Retention: 24 * time.Hour, DeadRetention: 48 * time.Hour, ReplayWindow: 5 * time.Minute, Visibility: 30 * time.Second, MaxAttempts: 3,
		MaxDepth: 1000, MaxBytes: 1 << 20, MaxInFlight: 100, MaxKeys: 1000,
	}}
}

// driver calls routes as the wall does.
type driver struct {
	t      testing.TB
	s      *Service
	routes map[macronode.Op]macronode.Route
}

// drive returns a driver of a service over b.
func drive(t testing.TB, b Broker, change ...func(*Config)) *driver {
	t.Helper()
	kv := mem.NewKV(mem.KVConfig{})
	t.Cleanup(func() { _ = kv.Close() })
	c := Config{Idem: idem.New(idem.Config{KV: kv}), Settings: settings(),
		Open: func(context.Context, func() Settings, broker.Events) (Opened, error) { return Opened{Broker: b}, nil }}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	d := &driver{t: t, s: s, routes: make(map[macronode.Op]macronode.Route)}
	for _, r := range s.Routes() {
		d.routes[r.Op] = r
	}
	return d
}

// request is a call to make.
type request struct {
	op     macronode.Op
	topic  string // "": jobs
	params []macronode.Arg
	query  string
	args   []macronode.Arg // of OAP/1
	header macronode.Header
	body   string
	reader io.Reader // instead of body
	length int64     // with reader
	key    string
	tenant *macronode.Tenant // nil: acme
	budget int64             // 0: none
}

func tenantOf(n byte) *macronode.Tenant {
	return &macronode.Tenant{ID: macronode.TenantID{15: n}, Label: "acme", Quota: macronode.UnlimitedQuota()}
}

// response is a reply, received whole.
type response struct {
	status int
	ctype  string
	body   []byte
}

func (d *driver) reply(ctx context.Context, r request) (*macronode.Reply, error) {
	d.t.Helper()
	route, ok := d.routes[r.op]
	if !ok {
		d.t.Fatalf("no operation %s", r.op)
	}
	c := &macronode.Call{Method: route.Method, Query: r.query, Args: r.args, Header: r.header, IdempotencyKey: r.key, CorrID: "corr", Binding: &route.Binding, Length: int64(len(r.body))}
	if c.Header == nil {
		c.Header = macronode.Header{}
	}
	switch {
	case r.reader != nil:
		c.Body, c.Length = r.reader, r.length
	case r.body != "":
		c.Body = strings.NewReader(r.body)
	}
	if r.topic == "" {
		r.topic = "jobs"
	}
	if strings.Contains(route.Pattern, "{topic}") {
		c.AddParam("topic", r.topic)
	}
	for _, p := range r.params {
		c.AddParam(p.Name, p.Value)
	}
	if r.tenant == nil {
		r.tenant = tenantOf(7)
	}
	a := &macronode.Admitted{Call: c, Tenant: r.tenant, Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: r.tenant.ID}, ReplyBytes: macronode.NoLimit}
	if r.budget != 0 {
		a.ReplyBytes = r.budget
	}
	return route.Handler(ctx, a)
}

func (d *driver) do(r request) (response, error) { return d.doCtx(d.t.Context(), r) }

func (d *driver) doCtx(ctx context.Context, r request) (response, error) {
	d.t.Helper()
	reply, err := d.reply(ctx, r)
	if err != nil {
		return response{}, err
	}
	out := response{reply.Status, reply.ContentType, reply.Body}
	if reply.Stream != nil {
		var b bytes.Buffer
		n, err := reply.Stream.WriteTo(&b)
		if err == nil && reply.Length >= 0 && n != reply.Length {
			d.t.Errorf("%d bytes, %d were announced", n, reply.Length)
		}
		if err := reply.Stream.Close(); err != nil {
			d.t.Error(err)
		}
		if err != nil {
			return response{}, err
		}
		out.body = b.Bytes()
	}
	return out, nil
}

// ask makes a call that must work and reads its answer into v.
func (d *driver) ask(r request, v any) response {
	d.t.Helper()
	out, err := d.do(r)
	if err != nil {
		d.t.Fatalf("%s: %v", r.op, err)
	}
	if v != nil {
		dec := json.NewDecoder(bytes.NewReader(out.body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(v); err != nil {
			d.t.Fatalf("%s: the answer of %d bytes is not its document: %v", r.op, len(out.body), err)
		}
	}
	return out
}

// refuse makes a call that must be refused with this kind.
func (d *driver) refuse(r request, kind macronode.Kind) *macronode.Error {
	d.t.Helper()
	_, err := d.do(r)
	if err == nil || macronode.KindOf(err) != kind {
		d.t.Errorf("%s %.60q ?%s: %v, want %s", r.op, r.body, r.query, err, kind)
		return &macronode.Error{}
	}
	return macronode.AsError(err)
}

// log remembers what a fake was asked for.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, s)
}

func (l *log) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
