// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms/kmsapi"
	"github.com/rustyonions/macronode/internal/svc/ops"
)

// behindWall is the services that calls reach, in start order. A new service is
// one line here, and its name one in parts.ServiceNames.
func (n *Node) behindWall() []macronode.Service {
	return []macronode.Service{
		n.ops,
		n.audit,
		keyed{kmsapi.New(n.keys, n.idem, nil), n},
		n.access,
		n.policy,
		n.storage,
		n.naming,
		n.mailbox,
		n.members,
		n.index,
		n.facets,
	}
}

// listServices is every service in start order; they stop in reverse. The
// listeners are the outermost.
func (n *Node) listServices() []macronode.Service {
	return append(n.behindWall(), door{n.gateway, n.open}, door{overlaid{n.oapd, n}, n.open})
}

// keyed is ron-kms with what it keeps going on its own: the certificate of the
// listeners, renewed from the keystore, and its staple.
type keyed struct {
	*kmsapi.Service
	n *Node
}

// Serve keeps the certificate. The keeper is made with the listeners, before
// anything is served.
func (k keyed) Serve(ctx context.Context) error { return k.n.certs.Serve(ctx) }

// busSubscriber is the one reader of kernel events that can lag: watches of
// /v1/admin/events.
const busSubscriber = ops.Name
