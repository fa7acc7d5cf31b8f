// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/clienttest"
	"github.com/rustyonions/macronode/client/mailbox/mailboxtest"
)

// TestConform: a node does over either wire what the node in memory does, which
// users hold their programs against.
func TestConform(t *testing.T) {
	n := beginDev(t)
	at := n.endpoints()
	for name, node := range map[string]string{"http": at.HTTP, "oap": "oap://" + at.OAP} {
		t.Run(name, func(t *testing.T) {
			// A machine that does much else may be too slow for all at once.
			c, err := client.Dial(node, client.Options{Token: n.token(t, "tenant.cap"), Retries: 20, RetryBudget: client.RetryBudget{Burst: 1000}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := clienttest.Conform(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestConformMailbox is TestConform for the mailbox.
func TestConformMailbox(t *testing.T) {
	n := beginDev(t)
	at := n.endpoints()
	for name, node := range map[string]string{"http": at.HTTP, "oap": "oap://" + at.OAP} {
		t.Run(name, func(t *testing.T) {
			c, err := client.Dial(node, client.Options{Token: n.token(t, "tenant.cap")})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := mailboxtest.Conform(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
}
