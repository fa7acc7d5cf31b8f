// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

// TestMailboxByRonctl: what the guide says of the mailbox, typed at a node that was
// built, over both wires: messages from pipes, commands that handle them, dead letters,
// and all of it there after kill -9.
func TestMailboxByRonctl(t *testing.T) {
	n := startDev(t, t.TempDir())
	cap := "@" + n.TenantCap
	for name, address := range map[string]func() string{"http": func() string { return n.HTTP }, "oap": func() string { return "oap://" + n.OAP }} {
		topic := "jobs-" + name
		ron := func(in string, args ...string) result {
			t.Helper()
			return command(t, []string{"RON_NODE=" + address(), "RON_CAP=" + cap}, strings.NewReader(in), "ronctl", append([]string{"mailbox"}, args...)...)
		}
		if out := ron("one\ntwo\nthree\n", "send", topic, "--lines").must(t, 0).out; strings.Count(out, "\n") != 3 {
			t.Errorf("%s: send prints %q", name, out)
		}
		if out := ron("", "recv", topic, "--raw", "--ack").must(t, 0).out; out != "one\n" {
			t.Errorf("%s: recv prints %q", name, out)
		}
		first := ron("", "send", topic, "four", "--idempotency-key", "order-4").must(t, 0).out
		n.kill()
		n.start()
		if again := ron("", "send", topic, "four", "--idempotency-key", "order-4").must(t, 0).out; !strings.HasPrefix(again, strings.TrimSpace(first)) || !strings.Contains(again, "duplicate") {
			t.Errorf("%s: sent %q, and after kill -9 %q", name, first, again)
		}
		ron("", "topics", "set", topic, "--max-attempts", "1").must(t, 0)
		r := ron("", "recv", topic, "--drain", "--exec", `read -r x; test "$x" != three || { echo unlucky >&2; exit 1; }`).must(t, macronode.ExitFailed)
		if !strings.Contains(r.err, "handled 3 messages, 1 failed") {
			t.Errorf("%s: %q", name, r.err)
		}
		if out := ron("", "dlq", "list", topic).must(t, 0).out; strings.Count(out, "\n") != 1 || !strings.Contains(out, "exit status 1: unlucky") {
			t.Errorf("%s: dlq list prints %q", name, out)
		}
		if out := ron("", "dlq", "redrive", topic, "--all", "--wait").must(t, 0).out; !strings.Contains(out, "moved 1") {
			t.Errorf("%s: redrive prints %q", name, out)
		}
		if out := ron("", "recv", topic, "--raw", "--ack", "--wait", "5s").must(t, 0).out; out != "three\n" {
			t.Errorf("%s: after the redrive %q", name, out)
		}
		if out := ron("", "stats", topic).must(t, 0).out; !strings.Contains(out, topic) {
			t.Errorf("%s: stats prints %q", name, out)
		}
		ron("", "topics", "delete", topic).must(t, macronode.ExitUsage)
		ron("", "topics", "delete", topic, "--yes").must(t, 0)
	}
}
