// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/core"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tenants"
)

// Each calls f with every topic as it stands, in no order. What it tells may not be
// durable yet: it is for gauges.
func (b *Broker) Each(f func(t *TopicStatus)) {
	for _, t := range b.core.All() {
		var s TopicStatus
		if b.core.Change(t, func(u *core.Turn) error { s = status(t, u); return nil }) == nil {
			f(&s)
		}
	}
}

// Waiting is how many messages the topics of a tenant hold that are neither done
// with nor dead.
func (b *Broker) Waiting(tenant macronode.TenantID) (messages int64) {
	return b.core.Sum(tenant, tenants.Waiting)
}
