// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/oap"
)

// previous builds the binaries of the release before this one, or of the commit
// before where there is no release, and returns their folder and name. It skips
// where the history is not there.
func previous(t *testing.T) (dir, name string) {
	t.Helper()
	git := func(args ...string) (string, error) {
		out, err := exec.Command("git", args...).Output()
		return strings.TrimSpace(string(out)), err
	}
	root, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		t.Skip("SKIPPED: this is no git checkout, so there is nothing to run beside it")
	}
	if name, err = git("describe", "--tags", "--abbrev=0", "HEAD^"); err != nil {
		if name, err = git("rev-parse", "--short", "HEAD^"); err != nil {
			t.Skip("SKIPPED: the checkout has no commit before this one; a full clone has")
		}
	}
	source := t.TempDir()
	dir = t.TempDir()
	archive := filepath.Join(source, "source.tar")
	for _, c := range []*exec.Cmd{
		exec.Command("git", "-C", root, "archive", "--format=tar", "-o", archive, name),
		exec.Command("tar", "-xf", archive, "-C", source),
		exec.Command("go", "build", "-C", source, "-trimpath", "-buildvcs=false", "-o", dir+"/", "./cmd/macronode", "./cmd/ronctl"),
	} {
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c.Args, err, out)
		}
	}
	return dir, name
}

// under runs f with the binaries in dir; "" are those under test.
func under(t *testing.T, dir string, f func()) {
	t.Helper()
	(&meshed{node: &node{t: t, bin: dir}}).with(f)
}

// TestVersionSkew: the previous version's programs and this one's work together, both
// ways: each ronctl with each node, this node on the previous one's data, and sessions
// between the two.
func TestVersionSkew(t *testing.T) {
	old, name := previous(t)
	t.Logf("previous: %s", name)
	data := someBytes(300_000, 9)
	file := filepath.Join(t.TempDir(), "object")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, node, client string }{
		{"the previous ronctl, this node", "", old}, {"this ronctl, the previous node", old, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			var n *node
			under(t, c.node, func() { n = startDev(t, t.TempDir()) })
			greetTomorrow(t, n)
			under(t, c.client, func() { useNode(t, n, file, data) })
		})
	}
	t.Run("this node, the previous one's data", func(t *testing.T) {
		dir := t.TempDir()
		var n *node
		var addr string
		under(t, old, func() {
			n = startDev(t, dir)
			addr = strings.Fields(n.ronctl("put", file).must(t, 0).out)[0]
		})
		if code := n.stop(); code != 0 {
			t.Fatalf("the previous node stops with %d\n%s", code, n.log)
		}
		n.start()
		back := filepath.Join(t.TempDir(), "back")
		n.ronctl("get", addr, "-o", back).must(t, 0)
		if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d: %v", len(got), len(data), err)
		}
		useNode(t, n, file, data)
	})
	t.Run("sessions", func(t *testing.T) { skewedMesh(t, old) })
}

// greetTomorrow says HELLO as a later version may: with members, flags, versions and
// transports that nobody knows yet. The node says what it speaks.
func greetTomorrow(t *testing.T, n *node) {
	t.Helper()
	c := n.connect()
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	f := oap.Frame{Header: oap.Header{Flags: oap.REQ, Corr: 9}, Payload: []byte(`{"ua":"tomorrow/9","versions":[2,1],"flags_supported":["COMP","SIGNED"],"transports":["quic"],"max_frame":4294967295,"more":{"x":[null]}}`)}
	b, err := oap.Append(nil, &f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	in := oap.NewReader(c, 0)
	got, err := in.Next()
	if err != nil || got.Code != 200 || got.Corr != 9 {
		t.Fatalf("%+v, %v", got.Header, err)
	}
	r, err := oap.ParseHelloReply(got.Payload)
	if err != nil || !slices.Contains(r.Versions, 1) || r.MaxFrame < oap.HeaderBytes || r.MaxStreams < 1 || r.MaxInflight < 1 {
		t.Errorf("%s: %v", got.Payload, err)
	}
	// What it does not speak ends the connection, with one error frame.
	b[5] = 2
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	if got, err = in.Next(); err != nil || got.Code != 400 || !got.IsRefusal() {
		t.Errorf("version 2: %+v, %v", got.Header, err)
	}
	if _, err := in.Next(); err == nil {
		t.Error("the connection stays")
	}
}

// useNode does what a tenant and an operator do.
func useNode(t *testing.T, n *node, file string, data []byte) {
	t.Helper()
	addr := strings.Fields(n.ronctl("put", file).must(t, 0).out)[0]
	back := filepath.Join(t.TempDir(), "back")
	n.ronctl("get", addr, "-o", back).must(t, 0)
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d: %v", len(got), len(data), err)
	}
	if out := n.ronctl("ls").must(t, 0).out; !strings.Contains(out, addr) {
		t.Errorf("ls: %s", out)
	}
	var status struct {
		Ready bool `json:"ready"`
	}
	if err := json.Unmarshal([]byte(n.operate("node", "status", "--output", "json").must(t, 0).out), &status); err != nil || !status.Ready {
		t.Errorf("status: %+v, %v", status, err)
	}
	n.ronctl("rm", addr).must(t, 0)
	if r := n.ronctl("get", addr, "-o", back); r.code == 0 {
		t.Error("what was removed is there")
	}
}

// skewedMesh has a session between the two versions and fetches over it, both ways.
// Where the previous version has no sessions there is nothing to hold.
func skewedMesh(t *testing.T, old string) {
	var operations []byte
	under(t, old, func() { _, operations = startDev(t, t.TempDir()).request("GET", "/openapi.json", nil, nil) })
	if !bytes.Contains(operations, []byte(`"overlay.fetch"`)) {
		t.Skip("SKIPPED: the previous version exchanges no objects with other nodes")
	}
	nodes := mesh(t, []string{"", old}, nil)
	for i, n := range nodes {
		to := nodes[1-i]
		n.await("in a session", func() bool { return n.metric(`overlay_peers{state="active"}`) == 1 })
		var minted struct{ Token string }
		to.api("POST", "/v1/caps", map[string]any{"tenant": "acme", "actions": []string{"object:list"}}, &minted)
		if minted.Token == "" || to.refuses(minted.Token) {
			t.Fatal("a fresh capability is refused")
		}
		// Revoked at one version, refused by the other, to whom it was shown.
		tok, err := capability.Parse(minted.Token)
		if err != nil {
			t.Fatal(err)
		}
		n.api("POST", "/v1/caps/revoke", map[string]any{"id": tok.LeafID().String()}, nil)
		to.await("told of the revocation", func() bool { return to.refuses(minted.Token) })
	}
	for i, from := range nodes {
		data := someBytes(100_000, uint64(i))
		path, to := from.put(data), nodes[1-i]
		to.await("able to find the other's object", func() bool {
			resp, got := to.request("GET", path, nil, nil)
			return resp.StatusCode == 200 && bytes.Equal(got, data)
		})
	}
}
