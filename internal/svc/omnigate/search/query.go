// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/ask"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/shelf"
)

// Limits of a query.
const (
	defaultLimit = 10
	maxLimit     = 100
	maxTypes     = 8
	maxArgBytes  = 2048
	defaultWait  = 5 * time.Second
	maxWait      = 8 * time.Second
	// maxLook is how many waiting changes are looked through for the tenant's oldest.
	maxLook = 1024
)

// asked is a query as it came.
type asked struct {
	request shelf.Request
	mark    [8]byte
	after   string
	wait    time.Duration
}

func (f *Facet) query(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	reply, err := f.answer(ctx, a)
	outcome := outcomeOK
	switch kind := macronode.KindOf(err); {
	case err == nil && reply.partial:
		outcome = outcomePartial
	case err == nil:
	case kind == macronode.DeadlineExceeded:
		outcome = outcomeTimeout
	case kind == macronode.Malformed || kind == macronode.Invalid:
		outcome = outcomeRefused
	default:
		outcome = outcomeFailed
	}
	f.c.Metrics.queries.WithLabelValues(outcome).Inc()
	if err != nil {
		return nil, err
	}
	return reply.Reply, nil
}

type answered struct {
	*macronode.Reply
	partial bool
}

func (f *Facet) answer(ctx context.Context, a *macronode.Admitted) (*answered, error) {
	q, err := f.parse(a)
	if err != nil {
		return nil, err
	}
	if !f.serving.Load() {
		return nil, errDown()
	}
	if err := f.await(ctx, a.Tenant.ID, q); err != nil {
		return nil, err
	}
	began := time.Now()
	var state State
	var res *shelf.Result
	err = f.use(ctx, a.Tenant.ID, func(h *holding, x *shelf.Index) (err error) {
		// The state first: what it says is then at least in what is found.
		v := h.view.Load()
		state = State{Generation: v.Generation, IndexedThrough: v.Through, Complete: v.Complete}
		limited, cancel := context.WithTimeout(ctx, f.c.QueryTime)
		defer cancel()
		res, err = x.Search(limited, &q.request)
		return err
	})
	if err != nil {
		return nil, refusal(err)
	}
	took := time.Since(began)
	f.c.Metrics.took.Observe(took.Seconds())
	if err := f.fill(ctx, a.Tenant.ID, &state); err != nil {
		return nil, refusal(err)
	}
	return reply(a, results(res, state, q, took), !state.Complete)
}

// refusal gives an error the kind that the caller sees.
func refusal(err error) error {
	switch {
	case errors.Is(err, shelf.ErrTooBroad):
		return macronode.Errorf(macronode.Invalid, "too many words begin so: give more letters before *")
	case errors.Is(err, context.DeadlineExceeded):
		return macronode.Wrap(macronode.DeadlineExceeded, "the query takes too long: ask for less", err)
	case errors.Is(err, context.Canceled):
		return macronode.Wrap(macronode.ClientGone, "", err)
	}
	if _, ok := errors.AsType[*macronode.Error](err); ok {
		return err
	}
	return macronode.Wrap(macronode.FacetDown, "the search index cannot be read", err)
}

func errDown() error { return macronode.Errorf(macronode.FacetDown, "search is not running") }

// await waits until the index has what the caller asked to see.
func (f *Facet) await(ctx context.Context, t macronode.TenantID, q *asked) error {
	want, need := uint64(0), q.after != ""
	wait := q.wait
	if need {
		head, err := f.c.Journal.Count(ctx, t)
		if err != nil {
			return refusal(err)
		}
		if want = head; q.after != "now" {
			if want, err = strconv.ParseUint(q.after, 10, 64); err != nil {
				return macronode.Errorf(macronode.Malformed, "after is a number that an answer gave, or now")
			}
			if want > head {
				return macronode.Errorf(macronode.Invalid, "after is beyond the last change of the tenant's, %d", head)
			}
		}
	} else {
		wait = 0
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		var v *View
		var changed <-chan struct{}
		if err := f.use(ctx, t, func(h *holding, _ *shelf.Index) error { v, changed = h.watch(); return nil }); err != nil {
			return refusal(err)
		}
		if !need || v != nil && v.Complete && v.Through >= want {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			e := macronode.Errorf(macronode.DeadlineExceeded, "the index has not come to %d yet", want)
			return e
		case <-ctx.Done():
			return refusal(ctx.Err())
		}
	}
}

// fill adds to s how far the index is behind.
func (f *Facet) fill(ctx context.Context, t macronode.TenantID, s *State) error {
	head, err := f.c.Journal.Count(ctx, t)
	if err != nil {
		return err
	}
	if s.Head = max(head, s.IndexedThrough); s.Head == s.IndexedThrough {
		return nil
	}
	list, err := f.c.Journal.Read(ctx, f.cursor.Load(), maxLook)
	if err != nil {
		return err
	}
	now := f.c.Now()
	for _, c := range list {
		if c.Tenant == t && c.TenantSeq > s.IndexedThrough || c.Seq == list[len(list)-1].Seq && len(list) == maxLook {
			s.LagMS = max(now.Sub(c.At).Milliseconds(), 0)
			return nil
		}
	}
	return nil
}

func results(res *shelf.Result, state State, q *asked, took time.Duration) *Results {
	out := &Results{State: state, Total: res.Total, Hits: make([]Found, 0, len(res.Hits)), TookMS: took.Milliseconds()}
	for i := range res.Hits {
		h := &res.Hits[i]
		x := Found{Addr: h.Addr.String(), Stored: h.Stored, Names: h.Names, Title: h.Title, ContentType: h.Type, Size: h.Size,
			CreatedMS: h.CreatedMS, Score: math.Round(h.Score*1e6) / 1e6, Partial: h.Partial}
		if x.Names == nil {
			x.Names = []string{}
		}
		for _, p := range h.Parts {
			x.Highlights = append(x.Highlights, Highlight{p.Field, p.Parts})
		}
		out.Hits = append(out.Hits, x)
	}
	if n := len(res.Hits); n == q.request.Limit && n > 0 {
		out.Cursor = writeCursor(q.mark, res.Hits[n-1].Place)
	}
	for _, f := range q.request.Facets {
		if out.Facets == nil {
			out.Facets = map[string][]Count{}
		}
		list := []Count{}
		for _, b := range res.Facets[f.Name] {
			list = append(list, Count{b.Name, int64(b.Count)})
		}
		if n := res.Other[f.Name]; n > 0 {
			list = append(list, Count{"_other", int64(n)})
		}
		out.Facets[f.Name] = list
	}
	return out
}

func reply(a *macronode.Admitted, doc any, partial bool) (*answered, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	if a.ReplyBytes != macronode.NoLimit && int64(len(b)) > a.ReplyBytes {
		return nil, macronode.Errorf(macronode.TooLarge, "the answer has %d bytes, %d are allowed", len(b), a.ReplyBytes)
	}
	return &answered{&macronode.Reply{Status: 200, ContentType: "application/json", Header: macronode.Header{"Cache-Control": {"no-store"}}, Body: b}, partial}, nil
}

func (f *Facet) status(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	if !f.serving.Load() {
		return nil, errDown()
	}
	var s Status
	err := f.use(ctx, a.Tenant.ID, func(h *holding, x *shelf.Index) (err error) {
		v := h.view.Load()
		s.State = State{Generation: v.Generation, IndexedThrough: v.Through, Complete: v.Complete}
		s.Documents, err = x.Count()
		return err
	})
	if err == nil {
		err = f.fill(ctx, a.Tenant.ID, &s.State)
	}
	if err != nil {
		return nil, refusal(err)
	}
	r, err := reply(a, s, false)
	if err != nil {
		return nil, err
	}
	return r.Reply, nil
}

// parse reads the arguments of a query.
func (f *Facet) parse(a *macronode.Admitted) (q *asked, err error) {
	if err := a.OnlyArgs(argQuery, argType, argMinSize, argMaxSize, argSince, argUntil, argSort, argLimit, argCursor, argHighlight, argFacets, argAfter, argWait); err != nil {
		return nil, err
	}
	for _, name := range []string{argType, argMinSize, argMaxSize, argSince, argUntil, argSort, argFacets, argAfter} {
		if len(a.Arg(name)) > maxArgBytes {
			return nil, macronode.Errorf(macronode.Malformed, "%s is too long", name)
		}
	}
	q = &asked{after: a.Arg(argAfter)}
	r := &q.request
	text := norm.NFC.String(a.Arg(argQuery)[:min(len(a.Arg(argQuery)), 4*ask.MaxBytes)])
	if r.Query, err = ask.Parse(text); err != nil {
		return nil, macronode.Errorf(macronode.Invalid, "the query is not one: %s", err.Error())
	}
	if err := q.filters(a); err != nil {
		return nil, err
	}
	if err := q.shape(a, f.c.Now()); err != nil {
		return nil, err
	}
	q.mark = markOf(a.Tenant.ID, text, a.Arg(argType), a.Arg(argMinSize), a.Arg(argMaxSize), a.Arg(argSince), a.Arg(argUntil), string(r.Order))
	if c := a.Arg(argCursor); c != "" {
		if r.After, err = readCursor(c, q.mark, r.Order); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// filters reads the conditions that do not count for the score.
func (q *asked) filters(a *macronode.Admitted) error {
	r := &q.request
	if v := a.Arg(argType); v != "" {
		var types ask.Or
		for _, s := range strings.Split(v, ",") {
			n, err := ask.ParseType(strings.TrimSpace(s))
			if err != nil {
				return macronode.Errorf(macronode.Malformed, "%s", err.Error())
			}
			types = append(types, n)
		}
		if len(types) > maxTypes {
			return macronode.Errorf(macronode.Malformed, "at most %d types", maxTypes)
		}
		r.Filter = append(r.Filter, types)
	}
	for _, e := range []struct {
		arg   string
		field ask.Field
		upper bool
	}{{argMinSize, ask.Size, false}, {argMaxSize, ask.Size, true}, {argSince, ask.Created, false}, {argUntil, ask.Created, true}} {
		v := a.Arg(e.arg)
		if v == "" {
			continue
		}
		var n int64
		var err error
		if e.field == ask.Size {
			n, err = ask.ParseSize(v)
		} else if n, _, err = ask.ParseTime(v); e.upper {
			n--
		}
		if err != nil {
			return macronode.Errorf(macronode.Malformed, "%s: %s", e.arg, err.Error())
		}
		c := ask.Range{Field: e.field, Min: n, Max: math.MaxInt64}
		if e.upper {
			c.Min, c.Max = math.MinInt64, n
		}
		r.Filter = append(r.Filter, c)
	}
	return nil
}

// shape reads how the answer is to look.
func (q *asked) shape(a *macronode.Admitted, now time.Time) error {
	r := &q.request
	limit, err := a.NumberArg(argLimit, defaultLimit, 1, maxLimit)
	if err != nil {
		return err
	}
	r.Limit = int(limit)
	wait, err := a.NumberArg(argWait, uint64(defaultWait.Milliseconds()), 0, uint64(maxWait.Milliseconds()))
	if err != nil {
		return err
	}
	q.wait = time.Duration(wait) * time.Millisecond
	r.Order = shelf.ByScore
	if v := a.Arg(argSort); v != "" {
		found := false
		for _, o := range shelf.Orders() {
			if string(o) == v {
				r.Order, found = o, true
			}
		}
		if !found {
			return macronode.Errorf(macronode.Malformed, "sort is one of %v", shelf.Orders())
		}
	}
	switch a.Arg(argHighlight) {
	case "", "false":
	case "true":
		r.Marks = true
	default:
		return macronode.Errorf(macronode.Malformed, "highlight is true or false")
	}
	if v := a.Arg(argFacets); v != "" {
		r.Facets, err = facets(v, now)
	}
	return err
}

// facets reads a list of what is to be counted.
func facets(list string, now time.Time) (out []shelf.Facet, err error) {
	n := func(v int64) *int64 { return &v }
	seen := map[string]bool{}
	for _, name := range strings.Split(list, ",") {
		if name = strings.TrimSpace(name); seen[name] {
			continue
		}
		seen[name] = true
		switch name {
		case "type":
			out = append(out, shelf.Facet{Name: name, Field: ask.Type, Limit: 20})
		case "size":
			out = append(out, shelf.Facet{Name: name, Field: ask.Size, Ranges: []shelf.Bucket{
				{Name: "<1KiB", Min: n(0), Max: n(1 << 10)}, {Name: "1KiB-64KiB", Min: n(1 << 10), Max: n(64 << 10)},
				{Name: "64KiB-1MiB", Min: n(64 << 10), Max: n(1 << 20)}, {Name: "1MiB-64MiB", Min: n(1 << 20), Max: n(64 << 20)}, {Name: ">=64MiB", Min: n(64 << 20)}}})
		case "created":
			ago := func(d time.Duration) *int64 { return n(now.Add(-d).UnixMilli()) }
			const day = 24 * time.Hour
			out = append(out, shelf.Facet{Name: name, Field: ask.Created, Ranges: []shelf.Bucket{
				{Name: "last hour", Min: ago(time.Hour)}, {Name: "last day", Min: ago(day)}, {Name: "last week", Min: ago(7 * day)},
				{Name: "last month", Min: ago(30 * day)}, {Name: "last year", Min: ago(365 * day)}, {Name: "earlier", Min: n(0), Max: ago(365 * day)}}})
		default:
			return nil, macronode.Errorf(macronode.Malformed, "facets are of type, size, created")
		}
	}
	return out, nil
}
