// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package wall is the one pipeline that every call crosses, whichever wire it
// came in on: lookup, shape, gate, auth, policy, quota, obligations, handler,
// send. Nothing else makes an Admitted, so no handler runs without it.
package wall

import (
	"context"
	"errors"
	"maps"
	"runtime/debug"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/name"
)

// Serve takes one call through the wall and hands the reply to send. It returns
// once the last byte is out, so what it holds (in-flight counts, quota, the
// drain gate) is held for as long as the call really lasts. An error is the
// refusal, for the listener to render unless send has begun.
func (w *Wall) Serve(ctx context.Context, c *macronode.Call, send macronode.Send) (err error) {
	f := w.begin(c)
	ctx = f.trace(ctx)
	defer func() { err = w.end(f, err) }()

	// Lookup and shape need no identity and have no effect.
	if err = f.lookup(); err != nil {
		return err
	}
	if err = f.shape(); err != nil {
		return err
	}
	if err = f.gate(); err != nil {
		return err
	}
	defer f.leave()
	if !f.b.Public {
		if err = f.auth(ctx); err != nil {
			return err
		}
		if err = f.policy(ctx); err != nil {
			return err
		}
		if err = f.quota(ctx); err != nil {
			return err
		}
		defer f.settle()
		if err = f.oblige(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := f.deadline(ctx)
	defer cancel()
	if err = f.announce(ctx); err != nil {
		return err
	}
	if err = f.handle(f.noting(ctx)); err != nil {
		return err
	}
	f.attest(ctx)
	return f.send(send)
}

func (f *flight) lookup() error {
	defer f.mark(stageLookup)
	r, err := f.w.table.Lookup(f.call)
	if err != nil {
		return err
	}
	f.route, f.b = r, &r.Binding
	f.call.Binding = f.b
	f.stats = f.w.stats[f.b]
	return nil
}

func (f *flight) gate() error {
	defer f.mark(stageGate)
	if err := f.w.Gate.Enter(f.b); err != nil {
		return err
	}
	f.entered = true
	return nil
}

func (f *flight) leave() {
	if f.entered {
		f.w.Gate.Leave(f.b)
	}
}

func (f *flight) auth(ctx context.Context) error {
	defer f.mark(stageAuth)
	id := f.b.ResourceID
	if f.b.ResourceArg != "" {
		id = f.call.Arg(f.b.ResourceArg)
	}
	if f.b.Resource == macronode.NameResource {
		// Caveats and policy speak of the name, not of one of its spellings. What is
		// no name stays as it is: its service refuses it.
		if n, err := name.Normalize(id); err == nil {
			id = n
		}
	}
	f.adm.Resource = macronode.Resource{Kind: f.b.Resource, ID: id}
	p, t, err := f.w.Auth.Authenticate(ctx, f.call, f.b, f.adm.Resource)
	if err != nil {
		return err
	}
	f.adm.Principal, f.adm.Tenant = p, t
	return f.budget(p.MaxBytes)
}

func (f *flight) policy(ctx context.Context) error {
	defer f.mark(stagePolicy)
	c := f.call
	f.ask = PolicyRequest{
		Principal: f.adm.Principal, Tenant: f.adm.Tenant, Action: f.b.Action, Resource: f.adm.Resource,
		Bytes: max(c.Length, 0), IP: c.Peer.Addr, TLS: c.Peer.TLS, Subject: c.Peer.Subject,
		Path: f.b.Pattern, Method: f.b.Method, Service: f.b.Service, Time: f.start,
	}
	d, err := f.w.Policy.Decide(ctx, &f.ask)
	if err != nil {
		return err
	}
	f.reasons = d.Reasons
	if d.Allow {
		f.adm.Obligations = d.Obligations
		return nil
	}
	if f.adm.Principal.Kind == macronode.Anonymous {
		return macronode.Errorf(macronode.Unauthenticated, "show a capability that covers %s", f.b.Action)
	}
	return macronode.Errorf(macronode.Denied, "policy does not allow %s here", f.b.Action)
}

func (f *flight) quota(ctx context.Context) error {
	defer f.mark(stageQuota)
	charge, err := f.w.Quota.Take(f.start, f.adm.Tenant, f.adm.Principal, f.b, max(f.call.Length, 0))
	if err != nil {
		return err
	}
	f.charge, f.charged = charge, true
	// Control is never shed; long-running calls have their own limit in the gate.
	if f.b.Class == macronode.Control || f.b.LongRunning {
		return nil
	}
	place, err := f.w.Admission.Admit(ctx, f.adm.Tenant, f.b, max(f.call.Length, 0))
	if err != nil {
		f.settle()
		return err
	}
	f.place, f.body.place = place, place
	return nil
}

func (f *flight) settle() {
	if f.place != nil {
		f.place.Release(f.body.read+f.sent, f.done)
		f.place, f.body.place = nil, nil
	}
	if f.charged {
		f.w.Quota.Settle(f.start.Add(f.w.since(f.start)), f.charge, f.body.read+f.sent)
		f.charged = false
	}
}

// announce records what is about to be done on routes that must not act
// unrecorded, or where policy obliges to the same.
func (f *flight) announce(ctx context.Context) error {
	if f.b.Audit != macronode.AuditBefore && !f.strict {
		return nil
	}
	e := f.event("")
	e.Attrs = map[string]any{"phase": "begin"}
	if err := f.w.Audit.Append(ctx, e); err != nil {
		return macronode.Wrap(macronode.Unavailable, "the audit log takes no records, so nothing was done", err)
	}
	f.announced = true
	return nil
}

// handle runs the handler and contains its panics.
func (f *flight) handle(ctx context.Context) (err error) {
	defer f.mark(stageHandler)
	if f.b.Class != macronode.Control && !f.w.Services.Up(f.b.Service) {
		kind := macronode.Unavailable
		if f.b.Class == macronode.Facet {
			kind = macronode.FacetDown
		}
		return macronode.Errorf(kind, "%s is restarting", f.b.Service)
	}
	defer func() {
		if v := recover(); v != nil {
			f.w.Services.Panicked(f.b.Service, v, debug.Stack())
			f.closeReply()
			err = macronode.Wrap(macronode.Internal, "", errPanicked)
		}
	}()
	if f.b.Yields && f.place != nil {
		ctx = macronode.WithYielder(ctx, f.place)
	}
	f.reply, err = f.route.Handler(ctx, &f.adm)
	if err == nil && f.reply == nil {
		err = errNoReply
	}
	return err
}

// send gives the reply to the listener, bounded by what the capability leaves.
func (f *flight) send(send macronode.Send) error {
	defer f.mark(stageSend)
	defer f.closeReply()
	r := f.reply
	if r.Status == 0 {
		r.Status = 200
	}
	length := r.BodyLength()
	if r.Body == nil && r.Stream == nil {
		length = 0 // an announced length without bytes, as for HEAD
	}
	if f.adm.ReplyBytes != macronode.NoLimit {
		if left := f.adm.ReplyBytes - f.body.read; length > left {
			return macronode.Errorf(macronode.TooLarge, "the capability allows %d bytes", f.adm.Principal.MaxBytes)
		} else if r.Stream != nil && length < 0 {
			r.Stream = &boundedStream{Stream: r.Stream, left: max(left, 0)}
		}
	}
	if f.charge.Header != nil {
		// A copy: handlers may give many replies the same fields.
		h := make(macronode.Header, len(r.Header)+len(f.charge.Header))
		maps.Copy(h, f.charge.Header)
		maps.Copy(h, r.Header)
		r.Header = h
	}
	f.status = r.Status
	var counted *countedStream
	if r.Stream != nil {
		counted = &countedStream{Stream: r.Stream, to: toClient{place: f.place}}
		r.Stream = counted
	}
	err := f.handOver(send, counted != nil)
	switch {
	case counted != nil:
		f.sent = counted.n
	case r.Body != nil:
		f.sent = length
	}
	// A stream that is refused before its first byte is a refusal like any
	// other; whatever fails later breaks the reply off.
	if err != nil {
		_, refused := errors.AsType[*macronode.Error](err)
		f.broken = f.sent > 0 || !refused
	}
	f.done = err == nil
	return err
}

// handOver calls send. A reply without a stream is all the client's time.
func (f *flight) handOver(send macronode.Send, streams bool) error {
	if f.place == nil || streams {
		return send(f.reply)
	}
	f.place.Await()
	defer f.place.Resume()
	return send(f.reply)
}
