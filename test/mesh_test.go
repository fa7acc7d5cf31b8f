// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// announceSecret is what the nodes of a mesh share.
const announceSecret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"

// meshed is a node of a mesh.
type meshed struct {
	*node
	id, oap, tenant string
	secrets         string // further lines of its announcement secrets
}

// mesh starts nodes with TLS, each the others' peer, which share the first one's
// tenant acme and the secret of its announcements. Their binaries are those in bins, in
// turn; "" is the one under test. change, if any, edits bundles before they are signed.
func mesh(t testing.TB, bins []string, change func(i int, text string) string) []*meshed {
	t.Helper()
	nodes := make([]*meshed, len(bins))
	for i, bin := range bins {
		tenant := ""
		if i > 0 {
			tenant = nodes[0].tenant
		}
		nodes[i] = makeMeshed(t, bin, tenant, "127.0.0.1:0", freePort(t))
	}
	knit(t, nodes, change, func(_, to int) string { return nodes[to].oap })
	return nodes
}

// knit makes the nodes each other's peers, at the addresses that reach says, and
// starts them.
func knit(t testing.TB, nodes []*meshed, change func(i int, text string) string, reach func(from, to int) string) {
	t.Helper()
	for i, n := range nodes {
		var peers []string
		for j, p := range nodes {
			if p != n {
				peers = append(peers, fmt.Sprintf(`{ addr = %q, node_id = %q }`, reach(i, j), p.id))
			}
		}
		file := filepath.Join(t.TempDir(), "secrets")
		if err := os.WriteFile(file, []byte(n.tenant+" "+announceSecret+"\n"+n.secrets), 0o600); err != nil {
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
}

func makeMeshed(t testing.TB, bin, tenant, http, oap string) *meshed {
	t.Helper()
	top := t.TempDir()
	n := &meshed{node: &node{t: t, bin: bin, dir: filepath.Join(top, "data"), file: filepath.Join(top, "endpoints.json")}, oap: oap}
	args := []string{"init", "--data", n.dir, "--http", http, "--oap", n.oap, "--recovery-out", filepath.Join(top, "recovery.key"), "--output", "json", "--tenant", "acme"}
	if tenant != "" {
		args = append(args, "--tenant-id", tenant)
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

// put stores bytes and returns their path.
func (n *meshed) put(data []byte) string {
	n.t.Helper()
	resp, text := n.request("POST", "/o", nil, bytes.NewReader(data))
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
