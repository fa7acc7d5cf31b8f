// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority is a certificate authority of openssl's with its responder.
type authority struct {
	t         testing.TB
	dir       string
	responder string // host:port
	cmd       *exec.Cmd
	log       *tail
}

func (a *authority) at(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) openssl(args ...string) {
	a.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = a.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		a.t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (a *authority) write(name, text string) {
	a.t.Helper()
	if err := os.WriteFile(a.at(name), []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, dir: t.TempDir(), responder: ln.Addr().String(), log: &tail{}}
	ln.Close()
	a.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
	t.Cleanup(a.stop)
	return a
}

// issue makes serial.pem, with the issuer after the leaf, for the public key in
// PEM. It demands a staple.
func (a *authority) issue(serial, public string) {
	a.t.Helper()
	a.write("public", public)
	a.write("ext", "subjectAltName=IP:127.0.0.1,DNS:localhost\nauthorityInfoAccess=OCSP;URI:http://"+a.responder+"\ntlsfeature=status_request\n")
	a.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=node", "-keyout", "any.key", "-out", "csr")
	a.openssl("x509", "-req", "-in", "csr", "-force_pubkey", "public", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "0x"+serial, "-days", "20", "-extfile", "ext", "-out", "leaf")
	var chain string
	for _, name := range []string{"leaf", "ca.pem"} {
		text, err := os.ReadFile(a.at(name))
		if err != nil {
			a.t.Fatal(err)
		}
		chain += string(text)
	}
	a.write(serial+".pem", chain)
}

// serve runs the responder with certificates that are "V" (good) or "R" (revoked).
func (a *authority) serve(status map[string]string) {
	a.t.Helper()
	a.stop()
	var index strings.Builder
	until := time.Now().AddDate(0, 0, 20).UTC().Format("060102150405Z")
	for serial, s := range status {
		since := ""
		if s == "R" {
			since = time.Now().Add(-time.Minute).UTC().Format("060102150405Z")
		}
		fmt.Fprintf(&index, "%s\t%s\t%s\t%s\tunknown\t/CN=%s\n", s, until, since, serial, serial)
	}
	a.write("index.txt", index.String())
	_, port, _ := net.SplitHostPort(a.responder)
	cmd := exec.Command("openssl", "ocsp", "-index", "index.txt", "-port", port, "-rsigner", "ca.pem", "-rkey", "ca.key", "-CA", "ca.pem", "-nmin", "30")
	cmd.Stdout, cmd.Stderr = a.log, a.log
	cmd.Dir = a.dir
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.cmd = cmd
	// It ends over a connection that says nothing, so it is asked something.
	for limit := time.Now().Add(10 * time.Second); ; {
		ask := exec.Command("openssl", "ocsp", "-issuer", "ca.pem", "-serial", "0x1001", "-url", "http://"+a.responder, "-CAfile", "ca.pem")
		ask.Dir = a.dir
		out, err := ask.CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			a.t.Fatalf("%v\n%s%s", err, out, a.log)
		}
	}
}

func (a *authority) stop() {
	if a.cmd != nil {
		a.cmd.Process.Kill()
		a.cmd.Wait()
		a.cmd = nil
	}
}

// handshake is what openssl sees of the node's certificate.
func (a *authority) handshake(n *node) string {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), "openssl", "s_client", "-connect", strings.TrimPrefix(n.HTTP, "https://"), "-status", "-CAfile", a.at("ca.pem"), "-verify_return_error")
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.t.Fatalf("openssl s_client: %v\n%.2000s", err, out)
	}
	return string(out)
}

// install has the node make a new TLS key and gives it a chain for that.
func (a *authority) install(n *node, serial string) {
	a.t.Helper()
	n.macronode("kms", "rotate", "tls", "--data", n.dir).must(a.t, 0)
	public := n.macronode("kms", "export-public", "tls", "--data", n.dir).must(a.t, 0).out
	a.issue(serial, public[strings.LastIndex(public, "-----BEGIN"):]) // the newest
	n.macronode("kms", "put-object", "cert_chain", "--in", a.at(serial+".pem"), "--data", n.dir).must(a.t, 0)
}

func (a *authority) expect(n *node, when string, want ...string) {
	a.t.Helper()
	seen := a.handshake(n)
	for _, w := range want {
		if !strings.Contains(seen, w) {
			a.t.Errorf("%s: openssl does not see %q:\n%.3000s", when, w, seen)
		}
	}
}

// TestStapling: a certificate that demands a staple has it from the first handshake
// on, keeps it while the responder is away, is replaced without a reload, and once
// revoked says so itself.
func TestStapling(t *testing.T) {
	a := newAuthority(t)
	top := t.TempDir()
	n := &node{t: t, dir: filepath.Join(top, "data"), file: filepath.Join(top, "endpoints.json")}
	n.macronode("init", "--data", n.dir, "--http", "127.0.0.1:0", "--oap", "127.0.0.1:0", "--tenant", "acme").must(t, 0)
	a.install(n, "1001")
	ca, err := os.ReadFile(a.at("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "tls.crt"), ca, 0o644); err != nil {
		t.Fatal(err)
	}
	// Without stapling such a certificate would be worse than none.
	refused := n.macronode("run", "--config", n.bundle(), "--data", n.dir).must(t, 3)
	if !strings.Contains(refused.out+refused.err, "demands a stapled OCSP response") {
		t.Errorf("refused with %s%s", refused.out, refused.err)
	}
	n.edit(func(text string) string { return strings.Replace(text, "tls = {", "tls = { ocsp = true,", 1) })
	a.serve(map[string]string{"1001": "V", "1002": "V"})
	n.run()
	a.expect(n, "at the start", "OCSP Response Status: successful", "Cert Status: good", "Verify return code: 0")
	if good, left := n.metric("tls_ocsp_fetches_total", `"good"`), n.metric("tls_ocsp_staple_expiry_seconds"); good < 1 || left < 1600 || left > 1800 {
		t.Errorf("%v good answers, the last holds for %v s", good, left)
	}
	if left := n.metric("tls_certificate_expiry_seconds"); left < 19*24*3600 || left > 20*24*3600 {
		t.Errorf("the certificate holds for %v s", left)
	}
	a.stop()
	command(t, []string{"RON_NODE=" + n.HTTP, "RON_CA=" + a.at("ca.pem"), "RON_CAP=@" + n.OperatorCap}, nil, "ronctl", "node", "reload").must(t, 0)
	a.expect(n, "while the responder is away", "Cert Status: good")
	a.serve(map[string]string{"1001": "V", "1002": "V"})
	a.install(n, "1002")
	n.await("serving the new certificate", func() bool { return strings.Contains(a.handshake(n), "Serial Number: 1002") })
	a.expect(n, "after the change", "Cert Status: good")
	n.kill()
	a.serve(map[string]string{"1001": "V", "1002": "R"})
	n.start()
	a.expect(n, "once revoked", "Cert Status: revoked")
	resp, text := n.request("GET", "/readyz", nil, nil)
	if resp.StatusCode != 200 || !strings.Contains(string(text), "revoked by its issuer") || !strings.Contains(string(text), `"degraded":true`) {
		t.Errorf("readiness: %d %s", resp.StatusCode, text)
	}
}
