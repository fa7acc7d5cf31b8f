// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fit

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/index"
	"github.com/rustyonions/macronode/internal/svc/naming"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/name"
)

// Index are the neighbours of svc-index.
type Index struct {
	Objects
	Naming *naming.Service
	NodeID string
	// Holders are the peers that announced an object to this node.
	Holders func(macronode.TenantID, b3.Addr) []string
	// Generation is the tenant's own count of its changes.
	Generation func(context.Context, macronode.TenantID) (uint64, error)
	Breakers   *breaker.Registry
	Metrics    *metrics.Registry
	Log        *slog.Logger
}

// NewIndex makes svc-index. Its neighbours have breakers of its own, so that what
// does not answer the index is known by name.
func NewIndex(i Index) (*index.Service, error) {
	s, err := index.New(index.Config{
		Names: indexNames{i.Naming}, Objects: indexObjects{i.Objects}, Peers: indexPeers{&i}, Generation: i.Generation,
		Guard: func(who index.Neighbour) index.Guard {
			return callBreaker{i.Breakers.Add(breaker.Config{Name: "index-" + string(who), Judge: judgeNeighbour})}
		},
		Metrics: index.NewMetrics(i.Metrics), Log: i.Log,
	})
	if err == nil {
		s.Watch(i.Metrics)
	}
	return s, err
}

// judgeNeighbour tells a neighbour that does not work from one that says no.
func judgeNeighbour(err error) breaker.Verdict {
	switch {
	case errors.Is(err, context.Canceled):
		return breaker.Unknown
	case err != nil && index.Failed(err):
		return breaker.Failed
	}
	return breaker.Answered
}

// callBreaker is a breaker as services want it.
type callBreaker struct{ b *breaker.Breaker }

// Enter implements index.Guard.
func (c callBreaker) Enter() (func(error), error) {
	pass, err := c.b.Enter()
	if err != nil {
		return nil, err
	}
	return pass.Leave, nil
}

// indexNames is ron-naming as the index wants it.
type indexNames struct{ *naming.Service }

// Canonical implements index.Names.
func (indexNames) Canonical(text string) (string, error) {
	n, err := name.Normalize(text)
	if err != nil {
		return "", macronode.Errorf(macronode.Invalid, "the name is refused (%s): %w", name.RuleOf(err), err)
	}
	return n, nil
}

// Lookup implements index.Names.
func (n indexNames) Lookup(ctx context.Context, t macronode.TenantID, text string) (index.NameVersion, error) {
	e, err := n.Service.Lookup(ctx, t, text)
	return index.NameVersion{Addr: e.Addr, Version: e.Version, TTL: int64(e.TTL), Meta: e.Meta, SetMS: e.UpdatedMS}, err
}

// indexObjects is storage as the index wants it.
type indexObjects struct{ Objects }

// Look implements index.Objects.
func (o indexObjects) Look(ctx context.Context, t macronode.TenantID, addr b3.Addr) (index.Object, error) {
	f, err := o.Storage.Look().Lookup(ctx, t, addr)
	if errors.Is(err, store.ErrNotFound) {
		return index.Object{}, macronode.Errorf(macronode.NotFound, "there is no such object")
	}
	return index.Object{Size: f.Size, ContentType: f.ContentType, CreatedMS: f.CreatedMS}, store.Refusal(err)
}

// Open implements index.Objects.
func (o indexObjects) Open(ctx context.Context, t macronode.TenantID, addr b3.Addr) (io.ReadCloser, error) {
	f, err := o.Objects.Open(ctx, t, addr)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, 0, f.Size()), f}, nil
}

// indexPeers is the exchange of objects as the index wants it.
type indexPeers struct{ i *Index }

// Self implements index.Peers.
func (p indexPeers) Self() string { return p.i.NodeID }

// Holders implements index.Peers.
func (p indexPeers) Holders(t macronode.TenantID, addr b3.Addr) []string {
	return p.i.Holders(t, addr)
}

// Find implements index.Peers.
func (p indexPeers) Find(ctx context.Context, t macronode.TenantID, addr b3.Addr) (index.Object, error) {
	r, err := p.i.Elsewhere.Find(ctx, t, addr, storage.Want{})
	if err != nil {
		return index.Object{}, err
	}
	defer r.Close()
	return index.Object{Size: r.Size(), ContentType: r.ContentType()}, nil
}
