// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/overlay/gossip"
	"github.com/rustyonions/macronode/revocation"
)

// appID is the overlay's app_proto_id.
const appID = 5

// Routes are what peers may ask for. On HTTP, too, policy decides; but nobody is a
// peer there.
func (s *Service) Routes() []macronode.Route {
	b := macronode.Binding{Op: OpGossip, Service: Name, Method: "POST", Pattern: "/v1/overlay/gossip", OAP: appID, Action: "overlay:peer",
		Resource: macronode.NodeResource, Class: macronode.Control, MaxBody: gossip.MaxBatchBytes, Doc: macronode.Doc{
			Summary:     "Take a batch of gossip; for peers, over a session between nodes",
			RequestType: "application/octet-stream", Status: []int{204},
			Kinds: []macronode.Kind{macronode.Denied, macronode.Malformed, macronode.QuotaRate, macronode.QuotaInFlight},
		}}
	list := b
	list.Op, list.Pattern, list.MaxBody = OpRevocations, "/v1/overlay/revocations", revocation.SummaryBytes
	list.Doc = macronode.Doc{
		Summary:     "List, signed, the revocations that a summary may lack; for peers, over a session between nodes",
		Query:       []macronode.Param{{Name: "cursor", Type: "string", Text: "of the answer before"}},
		RequestType: "application/octet-stream", ResponseType: "application/vnd.dsse.envelope.v1+json",
		Kinds: []macronode.Kind{macronode.Denied, macronode.Malformed, macronode.QuotaInFlight, macronode.Unavailable},
	}
	return []macronode.Route{{Binding: b, Handler: s.takeGossip}, {Binding: list, Handler: s.listRevocations}}
}

// caller is the peer that calls.
func (s *Service) caller(a *macronode.Admitted) (*peer, error) {
	if a.Principal.Kind == macronode.PeerNode {
		if p := s.peer(a.Principal.Node); p != nil {
			return p, nil
		}
	}
	return nil, macronode.Errorf(macronode.Denied, "this is for peers")
}

func body(a *macronode.Admitted) ([]byte, error) {
	if a.Body == nil {
		return nil, nil
	}
	return io.ReadAll(a.Body) // bounded by the route's MaxBody
}

func (s *Service) takeGossip(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	p, err := s.caller(a)
	if err != nil {
		return nil, err
	}
	if !p.hearing.CompareAndSwap(false, true) {
		return nil, macronode.Errorf(macronode.QuotaInFlight, "one batch at a time")
	}
	defer p.hearing.Store(false)
	batch, err := body(a)
	if err != nil {
		return nil, err
	}
	s.conf.Metrics.bytes.WithLabelValues("in").Add(float64(len(batch)))
	switch err := s.exchange.Receive(ctx, p.id, batch); {
	case errors.Is(err, gossip.ErrBudget):
		return nil, &macronode.Error{Kind: macronode.QuotaRate, RetryAfter: time.Second}
	case errors.Is(err, gossip.ErrStranger):
		return nil, macronode.Errorf(macronode.Denied, "this is for peers")
	case err != nil:
		return nil, macronode.Errorf(macronode.Malformed, "%s", err.Error())
	}
	return &macronode.Reply{Status: 204}, nil
}

func (s *Service) listRevocations(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	p, err := s.caller(a)
	if err != nil {
		return nil, err
	}
	if !p.listing.CompareAndSwap(false, true) {
		return nil, macronode.Errorf(macronode.QuotaInFlight, "one list at a time")
	}
	defer p.listing.Store(false)
	b, err := body(a)
	if err != nil {
		return nil, err
	}
	theirs, err := revocation.ParseSummary(b)
	if err != nil {
		return nil, macronode.Errorf(macronode.Malformed, "%s", err.Error())
	}
	var items []revocation.Item
	next := ""
	if mine := s.conf.Revocations.Summary(); *mine != *theirs {
		if items, next, err = s.conf.Revocations.Lacking(ctx, theirs, a.Arg("cursor"), revocation.MaxEntries); err != nil {
			return nil, err
		}
	}
	text, err := s.conf.Sign(items, next)
	if err != nil {
		return nil, macronode.Wrap(macronode.Unavailable, "the list cannot be signed now", err)
	}
	s.conf.Metrics.bytes.WithLabelValues("out").Add(float64(len(text)))
	return &macronode.Reply{ContentType: "application/vnd.dsse.envelope.v1+json", Body: text}, nil
}
