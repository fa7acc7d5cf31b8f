// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestFetchOnMiss: what one node has its peers give out too, whole, in ranges and as
// slices, and no longer than it is there.
func TestFetchOnMiss(t *testing.T) {
	nodes := mesh(t, []string{"", "", ""}, nil)
	a, b, c := nodes[0], nodes[1], nodes[2]
	for _, size := range []int{0, 100, 16 << 10, 1_000_000} {
		data := someBytes(size, uint64(size))
		path := a.put(data)
		for _, n := range []*meshed{b, c} {
			n.await("able to find the object", func() bool {
				resp, got := n.request("GET", path, nil, nil)
				return resp.StatusCode == 200 && bytes.Equal(got, data)
			})
			resp, _ := n.request("HEAD", path, nil, nil)
			if resp.StatusCode != 200 || resp.ContentLength != int64(size) {
				t.Errorf("HEAD: %d, %d bytes", resp.StatusCode, resp.ContentLength)
			}
			if size < 100 {
				continue
			}
			resp, got := n.request("GET", path, http.Header{"Range": {fmt.Sprintf("bytes=%d-", size-90)}}, nil)
			if resp.StatusCode != 206 || !bytes.Equal(got, data[size-90:]) {
				t.Errorf("a range of %d: %d, %d bytes", size, resp.StatusCode, len(got))
			}
			slice := http.Header{"Accept": {"application/vnd.bao;group=4"}}
			_, want := a.request("GET", path, slice.Clone(), nil)
			if resp, got := n.request("GET", path, slice, nil); resp.StatusCode != 200 || !bytes.Equal(got, want) {
				t.Errorf("a slice of %d: %d, %d bytes of %d", size, resp.StatusCode, len(got), len(want))
			}
		}
	}
	// Nothing is kept by who passes it on, and nobody is asked by who is asked.
	_, list := b.request("GET", "/v1/objects", nil, nil)
	if !strings.Contains(string(list), `"objects":[]`) {
		t.Errorf("something was kept: %s", list)
	}
	if n := c.metric(`overlay_fetch_total{outcome="answered"}`); n != 0 {
		t.Errorf("a node that has nothing gave %v objects", n)
	}
	data := someBytes(1000, 77)
	path := a.put(data)
	b.await("able to find the object", func() bool { resp, _ := b.request("GET", path, nil, nil); return resp.StatusCode == 200 })
	// What is deleted is gone everywhere.
	if resp, _ := a.request("DELETE", path, nil, nil); resp.StatusCode != 204 {
		t.Fatalf("delete: %d", resp.StatusCode)
	}
	if resp, _ := b.request("GET", path, nil, nil); resp.StatusCode != 404 {
		t.Errorf("after the delete: %d", resp.StatusCode)
	}
}

// TestFetchNeedsSecrets: a peer without the tenant's secret is given nothing, and a
// node that does not ask finds nothing.
func TestFetchNeedsSecrets(t *testing.T) {
	nodes := mesh(t, []string{"", "", ""}, func(i int, text string) string {
		switch i {
		case 1:
			return strings.Replace(text, "announce_secrets = \"KMS:obj/announce\"\n", "", 1)
		case 2:
			return section("oap", "fetch_on_miss = false")(text)
		}
		return text
	})
	a := nodes[0]
	path := a.put([]byte("kept to those who know"))
	nodes[2].await("told what there is", func() bool { return nodes[2].metric("overlay_known_objects") > 0 })
	for _, n := range nodes[1:] {
		if resp, text := n.request("GET", path, nil, nil); resp.StatusCode != 404 {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	}
	if n := nodes[1].metric("overlay_known_objects"); n != 0 {
		t.Errorf("a node without secrets knows of %v objects", n)
	}
	// Switched on, without a restart.
	nodes[2].edit(func(text string) string { return strings.Replace(text, "fetch_on_miss = false\n", "", 1) })
	nodes[2].api("POST", "/v1/admin/reload", struct{}{}, nil)
	nodes[2].await("asking", func() bool { resp, _ := nodes[2].request("GET", path, nil, nil); return resp.StatusCode == 200 })
}
