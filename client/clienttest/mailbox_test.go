// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package clienttest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/clienttest"
	"github.com/rustyonions/macronode/client/mailbox"
	"github.com/rustyonions/macronode/client/mailbox/mailboxtest"
)

func TestFakeConformsMailbox(t *testing.T) {
	for name, o := range map[string]clienttest.Options{"open": {}, "checked": {Check: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachWire(t, o, client.Options{Retries: -1}, func(t *testing.T, _ *clienttest.Node, c *client.Client) {
				if err := mailboxtest.Conform(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestFakeMailFaults: what tests of programs make the mailbox do.
func TestFakeMailFaults(t *testing.T) {
	eachWire(t, clienttest.Options{}, client.Options{}, func(t *testing.T, n *clienttest.Node, c *client.Client) {
		jobs := mailbox.New(c, "jobs")
		// Done, and the answer lost: the retry finds its own message.
		n.Inject(clienttest.Fault{Op: "mailbox.send", Effect: clienttest.Break(0)})
		sent, err := jobs.Send(t.Context(), mailbox.Message{Payload: []byte("a")})
		if st, ok := n.Topic("jobs"); err != nil || !sent.Duplicate || !ok || st.Depth.Ready != 1 {
			t.Errorf("%+v, %v; %+v", sent, err, st.Depth)
		}
		n.Inject(clienttest.Fault{Op: "mailbox.send", Times: -1, Effect: clienttest.Refuse(macronode.QuotaDepth, time.Millisecond)})
		var refused *client.Error
		if _, err := jobs.SendBatch(t.Context(), []mailbox.Message{{}, {}}); !errors.As(err, &refused) || refused.Code != "quota_depth" {
			t.Errorf("refused: %v", err)
		}
		n.Inject(clienttest.Fault{Op: "mailbox.receive", Effect: clienttest.Corrupt(0)})
		n.Send("jobs", mailbox.Message{Payload: []byte("b")})
		got, err := jobs.Receive(t.Context(), mailbox.Want{Max: 2})
		if !errors.Is(err, client.ErrIntegrity) || len(got) != 1 || string(got[0].Payload) != "b" {
			t.Errorf("damaged on its way: %d, %v", len(got), err)
		}
		// Acked, and the answer lost: the retry hears that the lease is gone.
		n.Inject(clienttest.Fault{Op: "mailbox.ack", Effect: clienttest.Break(0)})
		if out, err := jobs.Ack(t.Context(), got[0].Receipt); !errors.Is(err, mailbox.ErrLeaseLost) || len(out) != 1 {
			t.Errorf("%+v, %v", out, err)
		}
		if st, _ := n.Topic("jobs"); st.Counts["acked"] != 1 {
			t.Errorf("%+v", st)
		}
	})
}
