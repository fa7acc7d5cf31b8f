// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// providers answers who has an object: this node, by its store, and others by what
// they announced for the tenant. Nobody is asked, so it says what is known, not what
// would be delivered.
func (s *Service) providers(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("after"); err != nil {
		return nil, err
	}
	addr, err := b3.Parse(a.Arg("addr"))
	if err != nil {
		return nil, macronode.Errorf(macronode.Malformed, "not an address: %w", err)
	}
	doc := Providers{Addr: addr.String(), Providers: []Provider{}}
	if doc.Generation, err = s.generation(ctx, a); err != nil {
		return nil, err
	}
	err = s.ask(ctx, ByStore, s.cfg.Near, func(ctx context.Context) error {
		_, err := s.cfg.Objects.Look(ctx, a.Tenant.ID, addr)
		return err
	})
	switch {
	case err == nil:
		doc.Local = true
		doc.Providers = append(doc.Providers, Provider{NodeID: s.cfg.Peers.Self(), Local: true})
	case macronode.KindOf(err) == macronode.NotFound:
	case away(err):
		doc.Incomplete = append(doc.Incomplete, string(ByStore))
	default:
		return nil, err
	}
	for _, id := range s.cfg.Peers.Holders(a.Tenant.ID, addr) {
		doc.Providers = append(doc.Providers, Provider{NodeID: id})
	}
	if len(doc.Providers) == 0 {
		if len(doc.Incomplete) > 0 {
			return nil, err
		}
		return nil, macronode.Errorf(macronode.NotFound, "there is no such object")
	}
	return answer(a, &doc)
}
