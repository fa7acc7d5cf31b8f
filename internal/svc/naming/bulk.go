// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"bytes"
	"context"
	"errors"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/name"
)

// maxLines bounds an import, which is one transaction.
const maxLines = 1000

// line is one of an import: what an export wrote, perhaps with a condition.
type line struct {
	Set
	Name      string  `json:"name"`
	IfVersion *uint64 `json:"if_version,omitempty"` // the version that the name must have; 0: it must not be there
	// What an export says besides.
	Version   uint64 `json:"version,omitempty"`
	CreatedMS int64  `json:"created_ms,omitempty"`
	UpdatedMS int64  `json:"updated_ms,omitempty"`
}

// item is a line that can be done.
type item struct {
	at   int // in the results
	name string
	v    value
	c    condition
}

// bulk sets the names of an import. Lines are judged one by one; those that can be
// done are done in one transaction, in their order.
func (s *Service) bulk(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	if err := a.OnlyArgs("all"); err != nil {
		return nil, err
	}
	all := a.Arg("all")
	if all != "" && all != "true" && all != "false" {
		return nil, macronode.Errorf(macronode.Malformed, "all is true or false")
	}
	results, items, err := s.lines(body)
	if err != nil {
		return nil, err
	}
	event := macronode.AuditEvent{Stream: stream(a.Tenant.ID), Kind: "name.import", Actor: a.Actor(), Subject: a.Binding.Resource.Prefix() + "/",
		Attrs: map[string]any{"lines": int64(len(items)), "digest": b3.Sum(body).String()}}
	if err := s.audit.Append(ctx, event); err != nil {
		return nil, macronode.Wrap(macronode.Unavailable, "the audit log takes no records, so nothing was done", err)
	}
	limits := *s.limits.Load()
	now := s.now().UnixMilli()
	var reply *macronode.Reply
	var done []result
	err = s.kv.Update(ctx, func(tx store.Tx) (err error) {
		done = done[:0]
		for _, it := range items {
			r := &results[it.at]
			r.Code, r.Detail, r.Version = "", "", 0
			out, err := (&write{s: s, tx: tx, tenant: a.Tenant.ID, name: it.name, now: now, max: limits}).set(it.v, it.c)
			if e, ok := errors.AsType[*macronode.Error](err); ok {
				// Conditions and limits are judged before anything is written.
				r.Code, r.Detail = e.Kind.String(), e.Detail
				continue
			} else if err != nil {
				return err
			}
			r.Version = out.version
			done = append(done, out)
		}
		if reply, err = told(a, results, all == "true"); err != nil {
			return err
		}
		return claim.Keep(tx, reply)
	})
	if err != nil {
		err = s.storeError(err)
		event.Reason = macronode.KindOf(err).String()
		s.audit.Record(event)
		return nil, err
	}
	s.noteBulk(a, event.Actor, results, done)
	return reply, nil
}

// noteBulk counts and records what an import did, each name by itself.
func (s *Service) noteBulk(a *macronode.Admitted, actor string, results []Result, done []result) {
	for i := range done {
		s.m.set.Inc()
		if !done[i].existed {
			s.m.names.Inc()
		}
	}
	next := 0
	for i := range results {
		if results[i].Code != "" {
			continue
		}
		out := &done[next]
		next++
		s.audit.Record(macronode.AuditEvent{Stream: stream(a.Tenant.ID), Kind: "name.set", Actor: actor, Subject: a.Binding.Resource.Prefix() + "/" + results[i].Name,
			Attrs: map[string]any{"addr": out.addr.String(), "ttl_s": int64(out.ttl), "from_version": int64(out.version - 1)}}) //nolint:gosec // far below
	}
	if len(done) > 0 {
		s.hub.wake(a.Tenant.ID)
	}
}

// lines reads an import: what each line asks for, or why it cannot be done.
func (s *Service) lines(body []byte) (results []Result, items []item, err error) {
	n := 0
	for text := range bytes.SplitSeq(body, []byte("\n")) {
		n++
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		if len(results) == maxLines {
			return nil, nil, macronode.Errorf(macronode.TooLarge, "an import has at most %d lines", maxLines)
		}
		it, err := s.line(text)
		r := Result{Line: n, Name: it.name}
		if err != nil {
			e := macronode.AsError(err)
			r.Code, r.Detail = e.Kind.String(), e.Detail
		} else {
			it.at = len(results)
			items = append(items, it)
		}
		results = append(results, r)
	}
	return results, items, nil
}

func (s *Service) line(text []byte) (it item, err error) {
	if len(text) > maxSetBytes {
		return it, macronode.Errorf(macronode.TooLarge, "a line has at most %d bytes", maxSetBytes)
	}
	var in line
	if err := decode(text, &in); err != nil {
		return it, err
	}
	if it.name, err = name.Normalize(in.Name); err != nil {
		return it, s.refused(err)
	}
	it.c.exact = in.IfVersion
	it.v, err = in.value()
	return it, err
}

// told is the answer to an import.
func told(a *macronode.Admitted, results []Result, all bool) (*macronode.Reply, error) {
	out := Imported{Results: []Result{}}
	for _, r := range results {
		if r.Code == "" {
			out.Imported++
		} else {
			out.Failed++
		}
		if all || r.Code != "" {
			out.Results = append(out.Results, r)
		}
	}
	return jsonReply(a, 200, out)
}
