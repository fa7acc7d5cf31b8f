// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/rustyonions/macronode/b3"
)

// TestSharedByCollection: two tenants' equal bytes become one on the disk by a
// collection, not by the put, and stay for each of them through the other's delete
// and a kill.
func TestSharedByCollection(t *testing.T) {
	n, beta := startTwo(t)
	body := make([]byte, 300_000)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	path := "/o/" + b3.Sum(body).String()
	for _, header := range []map[string][]string{nil, beta} {
		if resp, text := n.request("PUT", path, header, bytes.NewReader(body)); resp.StatusCode != 201 {
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
	}
	if c := n.copies(body); c != 2 {
		t.Fatalf("%d copies before the collection", c)
	}
	n.operate("node", "collect", "--dry-run").must(t, 0)
	if c := n.copies(body); c != 2 {
		t.Fatalf("%d copies after a dry run", c)
	}
	n.operate("node", "collect").must(t, 0)
	n.await("down to one copy", func() bool { return n.copies(body) == 1 })
	n.kill()
	n.start()
	if resp, text := n.request("DELETE", path, nil, nil); resp.StatusCode != 204 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	if resp, text := n.request("GET", path, beta, nil); resp.StatusCode != 200 || !bytes.Equal(text, body) {
		t.Fatalf("the other tenant's: %d, %d bytes", resp.StatusCode, len(text))
	}
	if resp, _ := n.request("GET", path, nil, nil); resp.StatusCode != 404 {
		t.Fatalf("the deleted one: %d", resp.StatusCode)
	}
	if resp, text := n.request("DELETE", path, beta, nil); resp.StatusCode != 204 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	n.await("rid of the bytes", func() bool { return n.copies(body) == 0 })
}
