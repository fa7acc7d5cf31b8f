// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"github.com/cedar-policy/cedar-go/types"

	"github.com/rustyonions/macronode"
)

// World is what stays the same for all requests.
type World struct {
	Static types.EntityMap // with all that is above an entity as its parents
	// Whether Static speaks of single principals or resources.
	Principals, Resources bool
	// Tangled says that a walk over attributes or parents can lead from some
	// other entity to a principal or a resource: the request's own, maybe.
	Tangled bool
}

// Tenant is the Cedar side of a tenant.
type Tenant struct {
	ID     macronode.TenantID
	Label  string
	Entity types.Entity      // joined with what entities.json says
	Keys   []types.EntityUID // the tenant and all that is above it
}

// Frame is what forms are asked about: a key, and what it names. It stays on
// the stack.
type Frame struct {
	Key    Key
	Want   Reads // what the key holds
	World  *World
	Action types.EntityUID
	// Whose the principal and the resource are.
	Principals, Resources *Tenant
	// What entities.json says of the principal and the resource; nil: nothing.
	Principal, Resource *types.Entity

	root  [2 * len(macronode.CapID{})]byte // the principal's id, once asked for
	hexed bool
}

func (f *Frame) principalType() types.EntityType { return types.EntityType(f.Key.Kind.String()) }

func (f *Frame) resourceType() types.EntityType {
	return types.EntityType(f.Key.ResourceKind.String())
}
