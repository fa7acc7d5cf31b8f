// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client/mailbox"
	"github.com/rustyonions/macronode/internal/inspect"
)

// A message that was sent over one wire is received over the other; leases and
// messages are there after a restart, and nothing of it is damaged.
func TestMailbox(t *testing.T) {
	o := prepareDev(t, t.TempDir())
	n := begin(t, o)
	topic := mailbox.New(n.tenant(t), "jobs")
	for _, text := range []string{"first", "second"} {
		if _, err := topic.Send(t.Context(), mailbox.Message{Payload: []byte(text), Attrs: map[string]string{"a": "1"}}); err != nil {
			t.Fatal(err)
		}
	}
	a := n.over(t, macronode.WireOAP, ask{op: "mailbox.send", args: map[string]string{"topic": "jobs", "attrs": `{"b":"2"}`}, body: "third"})
	if a.status != 200 {
		t.Errorf("sent over OAP/1: %d %s", a.status, a.kind)
	}
	got, err := topic.Receive(t.Context(), mailbox.Want{Max: 2})
	if err != nil || len(got) != 2 || string(got[0].Payload) != "first" {
		t.Fatalf("%d messages, %v", len(got), err)
	}
	end(t, n)

	report, err := inspect.Fsck(t.Context(), o.Dir, inspect.FsckOptions{})
	if err != nil || report.Outcome != "clean" || report.Mailbox == nil || report.Mailbox.Messages != 3 || report.Mailbox.Topics != 1 || report.Mailbox.Records == 0 {
		t.Errorf("%+v, %v", report, err)
	}
	n = begin(t, o)
	topic = mailbox.New(n.tenant(t), "jobs")
	if _, err := topic.Ack(t.Context(), got[0].Receipt, got[1].Receipt); err != nil {
		t.Errorf("acks of leases from before the restart: %v", err)
	}
	a = n.over(t, macronode.WireOAP, ask{op: "mailbox.receive", args: map[string]string{"topic": "jobs"}})
	if a.status != 200 || !strings.Contains(string(a.body), `"attrs":{"b":"2"}`) {
		t.Errorf("received over OAP/1: %d %s %s", a.status, a.kind, a.body)
	}
	if log := o.Stderr.(*logBuffer).String(); strings.Count(log, "mailbox_open") != 2 || !strings.Contains(log, `"messages":3`) {
		t.Error("a start does not say what it found")
	}
}
