// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wall

import (
	"context"
	"errors"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rustyonions/macronode"
)

var (
	errPanicked = errors.New("wall: the handler panicked")
	errNoReply  = errors.New("wall: the handler returned neither reply nor error")
)

// flight is one call on its way. It is pooled: nothing may keep it, or the
// Admitted in it, after Serve returned.
type flight struct {
	w     *Wall
	call  *macronode.Call
	route *macronode.Route
	b     *macronode.Binding
	stats *routeStats
	span  trace.Span // nil: not traced

	start time.Time
	last  time.Duration // after start: when the stage before ended
	stage stage

	adm     macronode.Admitted
	ask     PolicyRequest
	body    bodyReader
	charge  Charge
	reply   *macronode.Reply
	reasons []string

	place Place // nil: none is held

	entered, charged, done, broken, announced bool

	notes    *macronode.RecordNotes // nil: no receipt is asked for
	recorded bool                   // the outcome's record is written

	status int
	sent   int64 // body bytes of the reply
	strict bool  // policy obliges to a durable record before anything is done
}

func (w *Wall) begin(c *macronode.Call) *flight {
	f, _ := w.flights.Get().(*flight)
	if f == nil {
		f = &flight{}
	}
	now := w.Now()
	*f = flight{w: w, call: c, start: now}
	f.adm.Call = c
	f.adm.ReplyBytes = macronode.NoLimit
	return f
}

// trace opens the call's span where tracing is on and the call is sampled.
func (f *flight) trace(ctx context.Context) context.Context {
	parent := f.call.TraceParent // the listener let well-formed ones through alone
	if f.w.Tracer == nil {
		if len(parent) >= 35 {
			f.adm.TraceID = parent[3:35]
		}
		return ctx
	}
	if parent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
	}
	ctx, span := f.w.Tracer.Start(ctx, "call", trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(f.start))
	if sc := span.SpanContext(); sc.IsSampled() {
		f.span = span
		f.adm.TraceID = sc.TraceID().String()
	}
	return ctx
}

// mark ends a stage: its time goes to the stage's timer and, traced, a span.
func (f *flight) mark(s stage) {
	now := f.w.since(f.start)
	f.w.stageSeconds[s].Observe((now - f.last).Seconds())
	if f.span != nil {
		_, child := f.w.Tracer.Start(trace.ContextWithSpan(context.Background(), f.span), stageNames[s], trace.WithTimestamp(f.start.Add(f.last)))
		child.End(trace.WithTimestamp(f.start.Add(now)))
	}
	f.last, f.stage = now, s
}

// shape holds the call against the route's limits; it needs no identity.
func (f *flight) shape() error {
	defer f.mark(stageShape)
	c, b := f.call, f.b
	limits := f.w.limits.Load()
	bound := limits.Of(b.MaxBody)
	if c.Length > bound {
		if bound == 0 {
			return macronode.Errorf(macronode.TooLarge, "%s takes no body", b.Op)
		}
		return macronode.Errorf(macronode.TooLarge, "the body may have %d bytes", bound)
	}
	if enc := c.Header.Get("Content-Encoding"); enc != "" && enc != "identity" && b.MaxBody != macronode.BodyObject {
		return macronode.Errorf(macronode.UnsupportedMedia, "%s takes no content encoding", b.Op)
	}
	if err := f.idempotencyKey(); err != nil {
		return err
	}
	f.body = bodyReader{r: c.Body, left: bound, bound: bound, kind: macronode.TooLarge}
	if c.Body != nil {
		c.Body = &f.body
	}
	if !c.Peer.Secure() && !b.PlainOK {
		return macronode.Errorf(macronode.TLSRequired, "this connection is not encrypted")
	}
	if c.BadAuth {
		return macronode.Errorf(macronode.TokenMalformed, "Authorization must be: Bearer TOKEN")
	}
	return nil
}

func (f *flight) idempotencyKey() error {
	key := f.call.IdempotencyKey
	if key == "" {
		if f.b.NeedsKey {
			return macronode.Errorf(macronode.Malformed, "%s needs an Idempotency-Key", f.b.Op)
		}
		return nil
	}
	if len(key) > macronode.MaxIdempotencyKeyBytes {
		return macronode.Errorf(macronode.Malformed, "Idempotency-Key may have %d characters", macronode.MaxIdempotencyKeyBytes)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return macronode.Errorf(macronode.Malformed, "Idempotency-Key takes visible ASCII alone")
		}
	}
	return nil
}

// budget applies a bound on request plus response bytes.
func (f *flight) budget(maxBytes int64) error {
	if maxBytes == macronode.NoLimit {
		return nil
	}
	if f.call.Length > maxBytes {
		return macronode.Errorf(macronode.TooLarge, "the capability allows %d bytes", maxBytes)
	}
	if f.adm.ReplyBytes == macronode.NoLimit || maxBytes < f.adm.ReplyBytes {
		f.adm.ReplyBytes = maxBytes
	}
	if maxBytes < f.body.left {
		f.body.left, f.body.bound = maxBytes, maxBytes
	}
	return nil
}

// oblige makes every obligation hold, or refuses.
func (f *flight) oblige(ctx context.Context) error {
	defer f.mark(stageOblige)
	for _, o := range f.adm.Obligations {
		switch o.Key {
		case "audit":
			switch o.Value {
			case "", "degrade": // done in end
			case "strict": // whatever another permit says
				f.strict = true
			default:
				return macronode.Errorf(macronode.ObligationFailed, "the policy's audit is neither strict nor degrade")
			}
			continue
		case "degrade":
			continue // done by the facet
		case "max_bytes":
			n, err := strconv.ParseInt(o.Value, 10, 64)
			if err != nil || n < 0 {
				return macronode.Errorf(macronode.ObligationFailed, "the policy's max_bytes is no number")
			}
			if err := f.budget(n); err != nil {
				return err
			}
			continue
		}
		known := false
		if f.w.Obliger != nil {
			var err error
			if known, err = f.w.Obliger.Oblige(ctx, &f.adm, o); err != nil {
				return err
			}
		}
		if !known {
			return macronode.Errorf(macronode.ObligationFailed, "this node cannot meet the obligation %q", o.Key)
		}
	}
	return nil
}

// deadline bounds the handler: by the request timeout and the caller's own
// deadline, or, for what may last, by drain and the capability's end.
func (f *flight) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	until := f.call.Deadline
	if !f.b.LongRunning && !f.b.Streaming {
		if d := f.start.Add(f.w.limits.Load().RequestTimeout); until.IsZero() || d.Before(until) {
			until = d
		}
	}
	if !f.b.LongRunning {
		if until.IsZero() {
			return ctx, func() {}
		}
		return context.WithDeadline(ctx, until)
	}
	if p := f.adm.Principal; p != nil && p.Expires != 0 {
		if d := time.Unix(p.Expires, 0); until.IsZero() || d.Before(until) {
			until = d
		}
	}
	// Operators watch a drain: what they watch it with goes on.
	ended := f.w.Gate.Ended()
	if f.b.Class == macronode.Control {
		ended = nil
	}
	if until.IsZero() {
		return endWith(ctx, ended)
	}
	ctx, expire := context.WithDeadline(ctx, until)
	ctx, stop := endWith(ctx, ended)
	return ctx, func() { stop(); expire() }
}

// endWith returns a context that ends with ended too. Its cancel function
// returns once nothing watches any more.
func endWith(ctx context.Context, ended <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-watched }
}

func (f *flight) closeReply() {
	if f.reply != nil && f.reply.Stream != nil {
		f.reply.Stream.Close()
		f.reply.Stream = nil
	}
}

// event is the call's audit record.
func (f *flight) event(reason string) macronode.AuditEvent {
	e := macronode.AuditEvent{Stream: "node", Kind: "call.unknown", Actor: "anonymous", Reason: reason}
	if f.b != nil {
		e.Kind = string(f.b.Op)
	}
	if p := f.adm.Principal; p != nil {
		e.Actor = p.Actor()
		e.Subject = f.adm.Resource.String()
		if p.Tenant != macronode.SystemTenant {
			e.Stream = "tenant/" + p.Tenant.String()
		}
	}
	return e
}

// annotate gives the root span what is known at the end.
func (f *flight) annotate(outcome string) {
	if f.span == nil {
		return
	}
	if f.b != nil {
		f.span.SetName(f.b.Label())
		f.span.SetAttributes(attribute.String("service", f.b.Service), attribute.String("op", string(f.b.Op)))
	}
	f.span.SetAttributes(attribute.Int("status", f.status), attribute.String("outcome", outcome))
	f.span.End()
}
