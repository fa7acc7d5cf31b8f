// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fit

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/omnigate/media"
)

// Media is storage as the facet of media wants it.
type Media struct {
	Objects
	get, stat macronode.Handler
}

// NewMedia returns the objects of o for the facet of media.
func NewMedia(o Objects) Media {
	m := Media{Objects: o}
	for _, r := range o.Storage.Routes() {
		switch r.Op {
		case "object.get":
			m.get = r.Handler
		case "object.stat":
			m.stat = r.Handler
		}
	}
	return m
}

// Get implements media.Objects.
func (m Media) Get(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	return m.get(ctx, a)
}

// Stat implements media.Objects.
func (m Media) Stat(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	return m.stat(ctx, a)
}

// Open implements media.Objects.
func (m Media) Open(ctx context.Context, t macronode.TenantID, addr b3.Addr) (media.Object, error) {
	o, err := m.Objects.Open(ctx, t, addr)
	if err != nil {
		return nil, err
	}
	return o, nil
}
