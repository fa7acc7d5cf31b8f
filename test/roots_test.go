// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/keyservice/transittest"
)

// withRoot sets kms.root in a bundle.
func withRoot(root string) func(string) string { return section("kms", fmt.Sprintf("root = %q", root)) }

// read is the content of a file.
func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unseal hands over the text of a share.
func (n *node) unseal(share []byte) result {
	n.t.Helper()
	return command(n.t, nil, bytes.NewReader(share), "macronode", "kms", "unseal", "--data", n.dir)
}

// shareFiles splits the root of a stopped node five ways, any three to open it.
func (n *node) shareFiles() []string {
	n.t.Helper()
	out := filepath.Join(n.t.TempDir(), "shares")
	n.macronode("kms", "split-root", "--shares", "5", "--threshold", "3", "--out-dir", out, "--data", n.dir).must(n.t, 0)
	files := make([]string, 5)
	for i := range files {
		files[i] = filepath.Join(out, fmt.Sprintf("share-%d-of-5", i+1))
		if fi, err := os.Stat(files[i]); err != nil || fi.Mode().Perm() != 0o600 {
			n.t.Fatalf("%v, %v", fi, err)
		}
	}
	return files
}

// TestSplitRoot: a node whose root is in shares waits for them, says how many it
// has, refuses what is no good share of its own, stops when told, and runs once
// any three are there, with everything it had.
func TestSplitRoot(t *testing.T) {
	n := startSigned(t, nil)
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.TenantCap = filepath.Join(n.dir, "tenant.cap")
	addr, _, _ := strings.Cut(n.ronctl("put", file).must(t, 0).out, " ")
	if code := n.stop(); code != 0 {
		t.Fatal(code)
	}
	n.macronode("kms", "split-root", "--shares", "3", "--threshold", "4", "--out-dir", filepath.Join(t.TempDir(), "x"), "--data", n.dir).must(t, 2)
	files := n.shareFiles()
	foreign := makeSigned(t, nil).shareFiles()
	if r := n.macronode("kms", "list", "--data", n.dir); r.code == 0 {
		t.Fatal("the old root opens the keystore still")
	}

	// The bundle is edited and signed, which takes shares already.
	text := read(t, n.bundle())
	if err := os.WriteFile(n.bundle(), []byte(withRoot("shares:shares.json")(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	n.args = []string{"bundle", "sign", n.bundle(), "--data", n.dir, "--bump"}
	n.spawn()
	for i := range 3 {
		n.handed(read(t, files[i]), fmt.Sprintf("taken: %d of 3", i+1))
	}
	if err := <-n.done; err != nil {
		t.Fatalf("sign: %v\n%s", err, n.log)
	}

	n.args = []string{"run", "--config", n.bundle(), "--data", n.dir, "--endpoints", n.file}
	n.spawn()
	n.handed(read(t, files[4]), "taken: 1 of 3")
	if code := n.stop(); code != 0 {
		t.Fatalf("told to stop while sealed: exit %d\n%s", code, n.log)
	}
	if _, err := os.Stat(filepath.Join(n.dir, "unseal.sock")); err == nil {
		t.Error("the socket is left behind")
	}

	n.spawn()
	n.handed(read(t, files[3]), "taken: 1 of 3") // what was handed to the first is forgotten
	cut := bytes.TrimSpace(read(t, files[0]))
	for want, bad := range map[string][]byte{
		"handed over already": read(t, files[3]), "of another set": read(t, foreign[0]),
		"cut, mistyped": cut[:len(cut)-3], "something else": []byte("hello\n"),
	} {
		if r := n.unseal(bad); r.code != 1 || !strings.Contains(r.err, want) || !strings.Contains(r.err, "1 of 3") {
			t.Errorf("%s: exit %d\n%s%s", want, r.code, r.out, r.err)
		}
	}
	if fi, err := os.Stat(filepath.Join(n.dir, "unseal.sock")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", fi, err)
	}
	if _, err := os.Stat(n.file); err == nil {
		t.Error("a sealed node listens")
	}
	n.handed(read(t, files[0]), "taken: 2 of 3")
	n.handed(read(t, files[4]), "taken: 3 of 3")
	n.awaitReady()
	if got := n.ronctl("get", addr).must(t, 0).out; got != "kept" {
		t.Errorf("got %q", got)
	}
	if r := n.unseal(read(t, files[1])); r.code != 5 {
		t.Errorf("a share for nobody: exit %d", r.code)
	}
	for _, f := range files {
		line := lastLineOf(read(t, f))
		if strings.Contains(n.log.String(), line[11:60]) {
			t.Error("the log has a share")
		}
	}
	if !strings.Contains(n.log.String(), "kms_sealed") || !strings.Contains(n.log.String(), "kms_unsealed") {
		t.Errorf("the log does not tell\n%s", n.log)
	}
}

func lastLineOf(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// handed hands over a share as soon as somebody waits for it.
func (n *node) handed(share []byte, want string) {
	n.t.Helper()
	n.await("waiting for shares", func() bool {
		_, err := os.Stat(filepath.Join(n.dir, "unseal.sock"))
		return err == nil
	})
	if r := n.unseal(share); r.code != 0 || !strings.Contains(r.out, want) {
		n.t.Fatalf("exit %d\n%s%s%s", r.code, r.out, r.err, n.log)
	}
}

// TestRecovery is the drill of the runbook: the root is lost, the recovery
// export gives the keystore a new one, and everything is there: objects, keys,
// capabilities of before, signatures. An export that was edited, or is another
// node's, is refused and changes nothing.
func TestRecovery(t *testing.T) {
	n := startSigned(t, nil)
	n.TenantCap, n.OperatorCap = filepath.Join(n.dir, "tenant.cap"), filepath.Join(n.dir, "operator.cap")
	export := filepath.Join(filepath.Dir(n.dir), "recovery.key") // init --recovery-out
	data := bytes.Repeat([]byte("what must survive "), 20_000)
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	addr, _, _ := strings.Cut(n.ronctl("put", file).must(t, 0).out, " ")
	n.macronode("kms", "create", "seal", "--alg", "aes-256-gcm", "--data", n.dir).must(t, 0)
	wrapped := n.kms("/v1/kms/keys/seal/wrap", `{"plaintext":"c2VjcmV0"}`)
	list := n.macronode("kms", "list", "--data", n.dir).must(t, 0).out
	if code := n.stop(); code != 0 {
		t.Fatal(code)
	}

	root := filepath.Join(n.dir, "root.key")
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	n.macronode("kms", "list", "--data", n.dir).must(t, 3)
	other := filepath.Join(t.TempDir(), "other.key")
	makeOther := makeSigned(t, nil)
	if err := os.Rename(filepath.Join(filepath.Dir(makeOther.dir), "recovery.key"), other); err != nil {
		t.Fatal(err)
	}
	good := read(t, export)
	edited := filepath.Join(t.TempDir(), "edited.key")
	line := lastLineOf(good)
	swapped := map[bool]string{true: "B", false: "A"}[line[40] == 'A']
	bad := strings.Replace(string(good), line, line[:40]+swapped+line[41:], 1)
	if err := os.WriteFile(edited, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	before := read(t, filepath.Join(n.dir, "keystore", "root"))
	for _, f := range []string{other, edited, n.bundle()} {
		if r := n.macronode("kms", "restore-root", "--in", f, "--data", n.dir); r.code == 0 {
			t.Errorf("%s is taken for an export of this node", filepath.Base(f))
		}
	}
	if !bytes.Equal(before, read(t, filepath.Join(n.dir, "keystore", "root"))) {
		t.Error("a refused export changed the keystore")
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("a refused export leaves a root key that opens nothing")
	}

	n.macronode("kms", "restore-root", "--in", export, "--data", n.dir).must(t, 0)
	if fi, err := os.Stat(root); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", fi, err)
	}
	if got := n.macronode("kms", "list", "--data", n.dir).must(t, 0).out; got != list {
		t.Errorf("keys before:\n%safter:\n%s", list, got)
	}
	n.macronode("bundle", "verify", n.bundle(), "--data", n.dir).must(t, 0)
	n.macronode("fsck", "--data", n.dir, "--quiet").must(t, 0)
	n.start()
	n.TenantCap, n.OperatorCap = filepath.Join(n.dir, "tenant.cap"), filepath.Join(n.dir, "operator.cap")
	if got := n.ronctl("get", addr).must(t, 0).out; got != string(data) {
		t.Errorf("%d bytes come back", len(got))
	}
	if got := n.kms("/v1/kms/keys/seal/unwrap", wrapped); !strings.Contains(got, "c2VjcmV0") {
		t.Error("what was wrapped before does not open")
	}
	n.macronode("kms", "rotate", "seal", "--data", n.dir).must(t, 0)
}

// kms posts to the KMS as the operator.
func (n *node) kms(path, body string) string {
	n.t.Helper()
	token := strings.TrimSpace(string(read(n.t, n.OperatorCap)))
	resp, text := n.request("POST", path, map[string][]string{"Authorization": {"Bearer " + token}}, strings.NewReader(body))
	if resp.StatusCode != 200 {
		n.t.Fatalf("%s: %d %s", path, resp.StatusCode, text)
	}
	return string(text)
}

// TestKeyService: a node whose root a key service opens waits for one that is
// away, starts when it is back, ends with 5 where a command cannot wait, and with
// 3 where the service says no; and its token is told to nobody.
func TestKeyService(t *testing.T) {
	vault := transittest.New()
	srv := httptest.NewServer(vault)
	defer srv.Close()
	n := makeSigned(t, nil)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(vault.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := "hashivault://node?addr=" + srv.URL + "&token_file=" + token
	n.macronode("kms", "seal-root", "--to", root+"&token=s.x", "--data", n.dir).must(t, 3)
	vault.Set(100, 0)
	n.macronode("kms", "seal-root", "--to", root, "--data", n.dir).must(t, 5)
	n.macronode("kms", "list", "--data", n.dir).must(t, 0) // nothing was changed
	vault.Set(0, 0)
	n.macronode("kms", "seal-root", "--to", root, "--data", n.dir).must(t, 0)
	n.macronode("kms", "list", "--data", n.dir).must(t, 3) // the old root opens it no more
	if err := os.Remove(filepath.Join(n.dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	n.edit(withRoot(root))

	vault.Set(3, 0) // away, three times
	n.run()
	if vault.Calls() < 4 || !strings.Contains(n.log.String(), "kms_root_away") {
		t.Errorf("%d calls\n%s", vault.Calls(), n.log)
	}
	if code := n.stop(); code != 0 {
		t.Fatal(code)
	}
	vault.Set(0, 403)
	r := n.macronode("kms", "list", "--data", n.dir).must(t, 3)
	if !strings.Contains(r.err, "403") {
		t.Errorf("%s", r.err)
	}
	// Told to stop while it waits for a service that is away.
	vault.Set(1<<30, 0)
	n.spawn()
	n.await("asking", func() bool { return vault.Calls() > 1 })
	if code := n.stop(); code != 0 {
		t.Errorf("told to stop while it waits: exit %d\n%s", code, n.log)
	}
	for _, text := range []string{n.log.String(), r.err, string(read(t, n.bundle())), string(read(t, filepath.Join(n.dir, "root.sealed")))} {
		if strings.Contains(text, vault.Token) {
			t.Error("the token is told")
		}
	}
	vault.Set(0, 0)
	n.start()
}
