// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"lukechampine.com/blake3"
)

// announceSecret is what the nodes of a mesh share.
const announceSecret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"

// meshed is a node of a mesh.
type meshed struct {
	*node
	id, oap, tenant string
	cap             string // of the tenant that all share
}

// mesh starts nodes with TLS, each the others' peer, which share the first one's
// tenant acme and the secret of its announcements. Their binaries are those in bins, in
// turn; "" is the one under test. change, if any, edits bundles before they are signed.
func mesh(t testing.TB, bins []string, change func(i int, text string) string) []*meshed {
	t.Helper()
	nodes := make([]*meshed, len(bins))
	for i, bin := range bins {
		nodes[i] = makeMeshed(t, bin, i == 0)
		nodes[i].tenant = nodes[0].tenant
	}
	for i, n := range nodes {
		var peers []string
		for _, p := range nodes {
			if p != n {
				peers = append(peers, fmt.Sprintf(`{ addr = %q, node_id = %q }`, p.oap, p.id))
			}
		}
		file := filepath.Join(t.TempDir(), "secrets")
		if err := os.WriteFile(file, []byte(n.tenant+" "+announceSecret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.with(func() {
			n.macronode("kms", "put-object", "announce", "--in", file, "--data", n.dir).must(t, 0)
			n.edit(func(text string) string {
				text = section("oap", "peers = ["+strings.Join(peers, ", ")+"]\nannounce_secrets = \"KMS:obj/announce\"")(text)
				if change != nil {
					text = change(i, text)
				}
				return text
			})
			n.run()
		})
	}
	for _, n := range nodes {
		n.share()
	}
	return nodes
}

func makeMeshed(t testing.TB, bin string, first bool) *meshed {
	t.Helper()
	top := t.TempDir()
	n := &meshed{node: &node{t: t, bin: bin, dir: filepath.Join(top, "data"), file: filepath.Join(top, "endpoints.json")}, oap: freePort(t)}
	args := []string{"init", "--data", n.dir, "--http", "127.0.0.1:0", "--oap", n.oap, "--recovery-out", filepath.Join(top, "recovery.key"), "--output", "json"}
	if first {
		args = append(args, "--tenant", "acme")
	}
	var made struct {
		NodeID string `json:"node_id"`
		Tenant string `json:"tenant"`
	}
	n.with(func() {
		if err := json.Unmarshal([]byte(n.macronode(args...).must(t, 0).out), &made); err != nil {
			t.Fatal(err)
		}
	})
	n.id, n.tenant = made.NodeID, made.Tenant
	return n
}

// freePort is an address that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// share gives the node the tenant, where it is not there, and takes a capability.
func (n *meshed) share() {
	n.t.Helper()
	n.api("POST", "/v1/tenants", map[string]any{"id": n.tenant, "label": "acme"}, nil) // 409 where it is there
	var out struct {
		Token string `json:"token"`
	}
	n.api("POST", "/v1/caps", map[string]any{"tenant": n.tenant}, &out)
	if n.cap = out.Token; n.cap == "" {
		n.t.Fatal("no capability was minted")
	}
}

// api makes a call as the operator.
func (n *meshed) api(method, path string, in, out any) {
	n.t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		n.t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(n.dir, "operator.cap"))
	if err != nil {
		n.t.Fatal(err)
	}
	_, body := n.request(method, path, http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(token))}, "Content-Type": {"application/json"}}, bytes.NewReader(text))
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			n.t.Fatalf("%s %s: %s", method, path, body)
		}
	}
}

func (n *meshed) do(method, path string, header http.Header, body io.Reader) (*http.Response, []byte) {
	n.t.Helper()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Authorization", "Bearer "+n.cap)
	return n.request(method, path, header, body)
}

// put stores bytes and returns their path.
func (n *meshed) put(data []byte) string {
	n.t.Helper()
	resp, text := n.do("POST", "/o", nil, bytes.NewReader(data))
	if resp.StatusCode != 201 && resp.StatusCode != 200 {
		n.t.Fatalf("put: %d %s", resp.StatusCode, text)
	}
	return resp.Header.Get("Location")
}

// metric is the value of one series, 0 where there is none.
func (n *meshed) metric(series string) float64 {
	n.t.Helper()
	_, text := n.request("GET", "/metrics", nil, nil)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

func someBytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 5))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestFetchOnMiss: what one node has its peers give out too, whole, in ranges and as
// slices, to the tenant that it belongs to alone, and no longer than it is there.
func TestFetchOnMiss(t *testing.T) {
	nodes := mesh(t, []string{"", "", ""}, nil)
	a, b, c := nodes[0], nodes[1], nodes[2]
	for _, size := range []int{0, 100, 16 << 10, 1_000_000} {
		data := someBytes(size, uint64(size))
		path := a.put(data)
		for _, n := range []*meshed{b, c} {
			n.await("able to find the object", func() bool {
				resp, got := n.do("GET", path, nil, nil)
				return resp.StatusCode == 200 && bytes.Equal(got, data)
			})
			resp, _ := n.do("HEAD", path, nil, nil)
			if resp.StatusCode != 200 || resp.ContentLength != int64(size) {
				t.Errorf("HEAD: %d, %d bytes", resp.StatusCode, resp.ContentLength)
			}
			if size < 100 {
				continue
			}
			resp, got := n.do("GET", path, http.Header{"Range": {fmt.Sprintf("bytes=%d-", size-90)}}, nil)
			if resp.StatusCode != 206 || !bytes.Equal(got, data[size-90:]) {
				t.Errorf("a range of %d: %d, %d bytes", size, resp.StatusCode, len(got))
			}
			slice := http.Header{"Accept": {"application/vnd.bao;group=4"}}
			_, want := a.do("GET", path, slice.Clone(), nil)
			if resp, got := n.do("GET", path, slice, nil); resp.StatusCode != 200 || !bytes.Equal(got, want) {
				t.Errorf("a slice of %d: %d, %d bytes of %d", size, resp.StatusCode, len(got), len(want))
			}
		}
	}
	// Nothing is kept by who passes it on, and nobody is asked by who is asked.
	_, list := b.do("GET", "/v1/objects", nil, nil)
	if !strings.Contains(string(list), `"objects":[]`) {
		t.Errorf("something was kept: %s", list)
	}
	if n := c.metric(`overlay_fetch_total{outcome="answered"}`); n != 0 {
		t.Errorf("a node that has nothing gave %v objects", n)
	}
	// Another tenant learns nothing.
	var other struct {
		ID    string `json:"id"`
		Token string `json:"token"`
	}
	b.api("POST", "/v1/tenants", map[string]any{"label": "stranger"}, &other)
	b.api("POST", "/v1/caps", map[string]any{"tenant": other.ID}, &other)
	data := someBytes(1000, 77)
	path := a.put(data)
	b.await("able to find the object", func() bool { resp, _ := b.do("GET", path, nil, nil); return resp.StatusCode == 200 })
	bearer := http.Header{"Authorization": {"Bearer " + other.Token}}
	none := blake3.Sum256([]byte("nobody has this"))
	there, text := b.request("GET", path, bearer, nil)
	absent, same := b.request("GET", fmt.Sprintf("/o/b3:%x", none), bearer, nil)
	if there.StatusCode != 404 || absent.StatusCode != 404 || len(text) != len(same) {
		t.Errorf("another tenant gets %d %s, and for nothing %d %s", there.StatusCode, text, absent.StatusCode, same)
	}
	// What is deleted is gone everywhere.
	if resp, _ := a.do("DELETE", path, nil, nil); resp.StatusCode != 204 {
		t.Fatalf("delete: %d", resp.StatusCode)
	}
	if resp, _ := b.do("GET", path, nil, nil); resp.StatusCode != 404 {
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
		if resp, text := n.do("GET", path, nil, nil); resp.StatusCode != 404 {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	}
	if n := nodes[1].metric("overlay_known_objects"); n != 0 {
		t.Errorf("a node without secrets knows of %v objects", n)
	}
	// Switched on, without a restart.
	nodes[2].edit(func(text string) string { return strings.Replace(text, "fetch_on_miss = false\n", "", 1) })
	nodes[2].api("POST", "/v1/admin/reload", struct{}{}, nil)
	nodes[2].await("asking", func() bool { resp, _ := nodes[2].do("GET", path, nil, nil); return resp.StatusCode == 200 })
}

// with runs f with the node's own binaries.
func (n *meshed) with(f func()) {
	n.t.Helper()
	if n.bin == "" {
		f()
		return
	}
	was := os.Getenv("MACRONODE_BIN")
	defer os.Setenv("MACRONODE_BIN", was)
	if err := os.Setenv("MACRONODE_BIN", n.bin); err != nil {
		n.t.Fatal(err)
	}
	f()
}
