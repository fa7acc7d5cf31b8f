// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// makeTLS is makeSigned with a certificate of the node's own.
func makeTLS(t testing.TB) *node {
	t.Helper()
	top := t.TempDir()
	n := &node{t: t, dir: filepath.Join(top, "data"), file: filepath.Join(top, "endpoints.json")}
	n.macronode("init", "--data", n.dir, "--http", "127.0.0.1:0", "--oap", "127.0.0.1:0", "--tls", "self-signed", "--tenant", "acme", "--recovery-out", filepath.Join(top, "recovery.key")).must(t, 0)
	return n
}

// trusting runs ronctl with the certificate of the node's directory.
func (n *node) trusting(cap string, args ...string) result {
	n.t.Helper()
	return command(n.t, []string{"RON_NODE=" + n.HTTP, "RON_CAP=@" + cap, "RON_CA=" + filepath.Join(n.dir, "tls.crt")}, nil, "ronctl", args...)
}

// sibling is a copy of a node that has not run, with a node key of its own: the same
// tenants, another node.
func (n *node) sibling() *node {
	n.t.Helper()
	top := n.t.TempDir()
	o := &node{t: n.t, dir: filepath.Join(top, "data"), file: filepath.Join(top, "endpoints.json")}
	if out, err := exec.Command("cp", "-a", n.dir, o.dir).CombinedOutput(); err != nil {
		n.t.Fatalf("cp: %v\n%s", err, out)
	}
	o.macronode("kms", "rotate", "node", "--data", o.dir).must(n.t, 0)
	return o
}

func (n *node) nodeID() string {
	n.t.Helper()
	var v struct {
		NodeID string `json:"node_id"`
	}
	if _, text := n.request("GET", "/version", nil, nil); json.Unmarshal(text, &v) != nil || v.NodeID == "" {
		n.t.Fatalf("no node id in %s", text)
	}
	return v.NodeID
}

// befriend names another node in the config, and reloads.
func (n *node) befriend(o *node) {
	n.t.Helper()
	n.edit(section("oap", fmt.Sprintf("peers = [{ addr = %q, node_id = %q }]", o.OAP, o.nodeID())))
	n.trusting(n.OperatorCap, "node", "reload").must(n.t, 0)
}

// refuses reports whether a tenant's capability is refused as revoked.
func (n *node) refuses(token string) bool {
	n.t.Helper()
	_, code := n.code("Bearer " + token)
	return code == "revoked"
}

// TestPeersRevoke: what is revoked at one node is refused at the other, at once, and
// at one that was killed as soon as it is back.
func TestPeersRevoke(t *testing.T) {
	a := makeTLS(t)
	b := a.sibling()
	a.run()
	b.run()
	a.befriend(b)
	b.befriend(a)
	a.await("a session", func() bool { return a.metric("overlay_peers", `state="active"`) == 1 })
	tokens := make([]string, 3)
	for i := range tokens {
		tokens[i] = strings.TrimSpace(a.trusting(a.TenantCap, "cap", "attenuate", "--expires", fmt.Sprint(i+1, "h")).must(t, 0).out)
		if a.refuses(tokens[i]) || b.refuses(tokens[i]) {
			t.Fatal("a fresh capability is refused")
		}
	}
	start := time.Now()
	a.trusting(a.OperatorCap, "cap", "revoke", tokens[0]).must(t, 0)
	b.await("the revocation", func() bool { return b.refuses(tokens[0]) })
	t.Logf("refused by the peer after %v, with the command's own time", time.Since(start))

	b.kill()
	a.trusting(a.OperatorCap, "cap", "revoke", tokens[1]).must(t, 0)
	b.start()
	b.await("what was missed", func() bool { return b.refuses(tokens[1]) })
	a.kill()
	b.kill()
	b.start()
	if !b.refuses(tokens[0]) || !b.refuses(tokens[1]) || b.refuses(tokens[2]) {
		t.Error("what a peer said does not outlast a kill, or more holds than was said")
	}
}
