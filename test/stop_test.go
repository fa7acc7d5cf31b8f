// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStop proves that SIGTERM drains, exits 0, removes what says that the node
// listens, and that the next start has everything.
func TestStop(t *testing.T) {
	n := startDev(t, t.TempDir())
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	addr, _, _ := strings.Cut(n.ronctl("put", file).must(t, 0).out, " ")
	if code := n.stop(); code != 0 {
		t.Errorf("SIGTERM: exit %d\n%s", code, n.log)
	}
	if _, err := os.Stat(filepath.Join(n.dir, "endpoints.json")); err == nil {
		t.Error("a stopped node leaves its endpoints.json")
	}
	n.start()
	if got := n.ronctl("get", addr).must(t, 0).out; got != "kept" {
		t.Errorf("got %q", got)
	}
}

// TestVanishingClient breaks an upload off: nothing of it is visible, and
// nothing is charged for it.
func TestVanishingClient(t *testing.T) {
	n := startDev(t, t.TempDir())
	token, err := os.ReadFile(n.TenantCap)
	if err != nil {
		t.Fatal(err)
	}
	before := n.operate("tenant", "usage", "dev", "--output", "json").must(t, 0).out
	for range 8 {
		c, err := net.Dial("tcp", strings.TrimPrefix(n.HTTP, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST /o HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\n%s",
			strings.TrimSpace(string(token)), strings.Repeat("x", 300_000))
		c.Close()
	}
	n.await("done with the broken uploads", func() bool {
		return n.metric("request_latency_seconds_count", `route="POST /o"`) == 8
	})
	if ok := n.metric("http_responses_total", `route="POST /o"`, `code="201"`); ok != 0 {
		t.Errorf("%v broken uploads were answered with 201", ok)
	}
	if out := n.ronctl("ls").must(t, 0).out; out != "" {
		t.Errorf("half-written objects are listed: %s", out)
	}
	if after := n.operate("tenant", "usage", "dev", "--output", "json").must(t, 0).out; after != before {
		t.Errorf("usage was %s and is %s", before, after)
	}
}
