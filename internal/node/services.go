// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"slices"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen/certs"
	"github.com/rustyonions/macronode/internal/listen/gateway"
	"github.com/rustyonions/macronode/internal/listen/oapd"
	"github.com/rustyonions/macronode/internal/svc/access"
	"github.com/rustyonions/macronode/internal/svc/audit"
	"github.com/rustyonions/macronode/internal/svc/kms/kmsapi"
	"github.com/rustyonions/macronode/internal/svc/ops"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

// behindWall is the services that calls reach, in start order. A new service is
// one line here, and its name one below.
func (n *Node) behindWall() []macronode.Service {
	return []macronode.Service{
		n.ops,
		n.audit,
		kmsapi.New(n.keys, n.idem, nil),
		n.access,
		n.policy,
		n.storage,
	}
}

// listServices is every service in start order; they stop in reverse. The
// listeners are the outermost.
func (n *Node) listServices() []macronode.Service {
	return append(n.behindWall(), n.certs, door{n.gateway, n.open}, door{n.oapd, n.open})
}

// serviceNames are the names of listServices: label values that must be known
// before the services are made.
func serviceNames() []string {
	return []string{ops.Name, audit.Name, kmsapi.Name, access.Name, policy.Name, storage.Name, certs.Name, gateway.Name, oapd.Name}
}

// requiredServices is what a generated bundle requires for readiness: all that
// exist, but for the keeper of certificates. What ails a certificate is told, and is
// no reason to answer nobody.
func requiredServices() []string {
	return slices.DeleteFunc(serviceNames(), func(name string) bool { return name == certs.Name })
}

// busSubscriber is the one reader of kernel events that can lag: watches of
// /v1/admin/events.
const busSubscriber = ops.Name
