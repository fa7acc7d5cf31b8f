// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stuck opens an upload that sends a part and then nothing.
func (n *node) stuck() (net.Conn, *bufio.Reader) {
	n.t.Helper()
	token, err := os.ReadFile(n.TenantCap)
	if err != nil {
		n.t.Fatal(err)
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(n.HTTP, "http://"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "POST /o HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\nsome bytes", strings.TrimSpace(string(token)))
	n.await("busy with the upload", func() bool { return n.metric("inflight_requests", "svc-storage") > 0 })
	return c, bufio.NewReader(c)
}

// TestSlowClient: a client that stops sending is ended by the stall timeout, one
// whose header does not end by the header timeout; others do not notice.
func TestSlowClient(t *testing.T) {
	n := startSigned(t, section("server", "stall_timeout = \"300ms\"\nread_header_timeout = \"300ms\""))
	_, answer := n.stuck()
	n.ronctl("ls").must(t, 0)
	resp, err := http.ReadResponse(answer, nil)
	if err != nil || resp.StatusCode != 408 || !resp.Close {
		t.Errorf("a body that stops: %v %+v", err, resp)
	}
	n.await("rid of the upload", func() bool { return n.metric("inflight_requests", "svc-storage") == 0 })
	c, err := net.Dial("tcp", strings.TrimPrefix(n.HTTP, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: ")
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("a header that does not end: %v", err)
	}
	if got := n.metric("rejected_total", `reason="timeout"`); got != 1 {
		t.Errorf("rejected_total{reason=timeout} is %v", got)
	}
}

// TestReloadBySignal: SIGHUP applies a good bundle and keeps the running config
// where it is bad; the bad one is not what a restart loads.
func TestReloadBySignal(t *testing.T) {
	n := startSigned(t, nil)
	version := func() string {
		t.Helper()
		resp, err := http.Get(n.HTTP + "/version")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var doc struct{ Config struct{ Version int } }
		if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(doc.Config.Version)
	}
	n.edit(section("limits", "max_body_bytes = \"2KiB\""))
	n.cmd.Process.Signal(syscall.SIGHUP)
	n.await("at version 2", func() bool { return version() == "2" })
	good, err := os.ReadFile(n.bundle())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.bundle(), append(good, "\n[limits2]\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	n.cmd.Process.Signal(syscall.SIGHUP)
	n.await("done with the bad bundle", func() bool { return strings.Contains(n.log.String(), "reload_refused") })
	if v := version(); v != "2" {
		t.Errorf("version %s after a refused bundle", v)
	}
	n.kill()
	if r := n.macronode(n.args...); r.code != 3 {
		t.Errorf("a restart on the refused bundle: exit %d\n%s", r.code, r.err)
	}
	if err := os.WriteFile(n.bundle(), good, 0o644); err != nil {
		t.Fatal(err)
	}
	n.start()
	if v := version(); v != "2" {
		t.Errorf("version %s after a restart on the good one", v)
	}
}

// TestDrainCut: what does not end by the drain deadline is cut, and said so by
// exit code 7; a second signal does not wait for the deadline.
func TestDrainCut(t *testing.T) {
	n := startSigned(t, section("server", "drain_timeout = \"1s\""))
	n.stuck()
	if code := n.stop(); code != 7 {
		t.Errorf("at the deadline: exit %d\n%s", code, n.log)
	}
	n = startSigned(t, section("server", "drain_timeout = \"1h\"\nstall_timeout = \"10m\""))
	n.stuck()
	n.cmd.Process.Signal(syscall.SIGTERM)
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			n.cmd.Process.Signal(syscall.SIGTERM)
			continue
		case err := <-n.done:
			n.done <- err
			if got := code(t, err); got != 7 {
				t.Errorf("a second signal: exit %d\n%s", got, n.log)
			}
		}
		return
	}
}

// TestDrillsAreOff: a node whose config does not say drills = true cannot be
// crashed, whatever the capability; with it, by the operator alone.
func TestDrillsAreOff(t *testing.T) {
	crash := func(n *node, capFile string) int {
		t.Helper()
		token, err := os.ReadFile(capFile)
		if err != nil {
			t.Fatal(err)
		}
		resp, _ := n.request("POST", "/v1/admin/drills/service-crash", http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(token))},
			"Content-Type": {"application/json"}}, strings.NewReader(`{"service":"svc-storage"}`))
		return resp.StatusCode
	}
	n := startSigned(t, nil)
	if status := crash(n, n.OperatorCap); status != 403 {
		t.Errorf("drills are off: %d", status)
	}
	n = startSigned(t, section("server", "drills = true"))
	if status := crash(n, n.TenantCap); status != 403 {
		t.Errorf("a tenant: %d", status)
	}
	if status := crash(n, n.OperatorCap); status/100 != 2 {
		t.Errorf("the operator: %d", status)
	}
	n.await("told of the crash", func() bool { return n.metric("service_restarts_total", "svc-storage") == 1 })
}

// TestUnixSocket: the same routes on a Unix socket, with a capability as
// everywhere.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	n := startSigned(t, section("server", "uds = \""+path+"\""))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	n.ronctl("--node", "unix://"+path, "ls").must(t, 0)
	command(t, []string{"RON_NODE=unix://" + path}, nil, "ronctl", "ls").must(t, 6)
}

// TestTraces: a call of a sampled trace is exported to the collector.
func TestTraces(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	want, err := hex.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	exported := make(chan struct{}, 64)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		zipped, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Errorf("the export is not compressed: %v", err)
			return
		}
		body, err := io.ReadAll(zipped)
		if err == nil && r.URL.Path == "/v1/traces" && bytes.Contains(body, want) && bytes.Contains(body, []byte("GET /v1/objects")) {
			exported <- struct{}{}
		}
	}))
	defer collector.Close()
	n := startSigned(t, section("telemetry", "otlp_endpoint = \""+collector.URL+"\"\ntrace_sample = 1000000"))
	n.request("GET", "/v1/objects", http.Header{"Traceparent": {"00-" + id + "-b7ad6b7169203331-01"}}, nil)
	select {
	case <-exported:
	case <-time.After(patience):
		t.Fatal("no span of the trace was exported")
	}
}

// TestPassphraseRoot: the keystore moves to a passphrase by its recovery export; a
// wrong one opens nothing.
func TestPassphraseRoot(t *testing.T) {
	n := startSigned(t, nil)
	n.kill()
	file := filepath.Join(n.dir, "passphrase")
	if err := os.WriteFile(file, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(n.bundle())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.bundle(), []byte(section("kms", `root = "passphrase-file:passphrase"`)(string(text))), 0o644); err != nil {
		t.Fatal(err)
	}
	n.macronode("kms", "restore-root", "--in", filepath.Join(filepath.Dir(n.dir), "recovery.key"), "--data", n.dir).must(t, 0)
	if err := os.Remove(filepath.Join(n.dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	n.macronode("bundle", "sign", n.bundle(), "--data", n.dir, "--bump").must(t, 0)
	n.start()
	n.ronctl("ls").must(t, 0)
	n.kill()
	if err := os.WriteFile(file, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := n.macronode(n.args...); r.code != 3 || !strings.Contains(r.err, "does not open the keystore") {
		t.Errorf("a wrong passphrase: exit %d\n%s", r.code, r.err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := n.macronode(n.args...); r.code != 3 {
		t.Errorf("a passphrase that others may read: exit %d\n%s", r.code, r.err)
	}
}

// TestTenantDelete: a deleted tenant's capabilities are dead at once, its files go
// from the disk, and its label can be used again.
func TestTenantDelete(t *testing.T) {
	n := startSigned(t, nil)
	for i := range 5 {
		if resp, text := n.request("POST", "/o", nil, strings.NewReader(strings.Repeat(fmt.Sprint(i), 200_000))); resp.StatusCode != 201 {
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
	}
	files := func() (count int) {
		filepath.WalkDir(filepath.Join(n.dir, "objects"), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				count++
			}
			return nil
		})
		return count
	}
	if files() < 5 {
		t.Fatalf("%d files for 5 objects", files())
	}
	before := n.tenantID("acme")
	n.operate("tenant", "delete", "acme", "--yes").must(t, 0)
	n.ronctl("ls").must(t, 6)
	n.await("rid of the bytes", func() bool { return files() == 0 })
	n.operate("tenant", "create", "acme").must(t, 0)
	if after := n.tenantID("acme"); after == before {
		t.Error("the id was used again")
	}
	n.ronctl("ls").must(t, 6)
}

// TestOtherHost acts from another host, a network namespace: without TLS it gets
// the four probes and refusals that need no identity; as a trusted proxy, what the
// capability covers for the client that it names.
func TestOtherHost(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("CI must be able to make network namespaces")
		}
		t.Skip("NOT TESTED: making a network namespace needs root")
	}
	host := fmt.Sprintf("mn%d", os.Getpid())
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run("ip", "netns", "add", host)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", host).Run() })
	run("ip", "link", "add", host+"a", "type", "veth", "peer", "name", host+"b", "netns", host)
	run("ip", "addr", "add", "10.231.7.1/30", "dev", host+"a")
	run("ip", "link", "set", host+"a", "up")
	run("ip", "-n", host, "addr", "add", "10.231.7.2/30", "dev", host+"b")
	run("ip", "-n", host, "link", "set", host+"b", "up")

	n := startSigned(t, func(text string) string {
		return strings.ReplaceAll(text, `bind = "127.0.0.1:0"`, `bind = "10.231.7.1:0"`)
	})
	token, err := os.ReadFile(n.TenantCap)
	if err != nil {
		t.Fatal(err)
	}
	far := func(args ...string) string {
		t.Helper()
		args = append([]string{"netns", "exec", host, "curl", "-s", "-m", "20", "-w", " [%{http_code}]", "-H", "Authorization: Bearer " + strings.TrimSpace(string(token))}, args...)
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for path, want := range map[string]string{
		"/healthz": "[200]", "/readyz": "[200]", "/version": "[200]", "/metrics": "[200]",
		"/v1/objects": "tls_required", "/openapi.json": "tls_required", "/none": "[404]", "/o/b3:" + strings.Repeat("0", 64): "tls_required",
	} {
		if out := far(n.HTTP + path); !strings.Contains(out, want) {
			t.Errorf("%s: %.300s, want %s", path, out, want)
		}
	}
	if out := far("-X", "POST", "--data-binary", strings.Repeat("x", 100), "-H", "Content-Length: 2000000", n.HTTP+"/ingress"); !strings.Contains(out, "[413]") {
		t.Errorf("oversize: %.300s", out)
	}
	n.edit(section("server", `trusted_proxies = ["10.231.7.2/32"]`))
	n.cmd.Process.Signal(syscall.SIGHUP)
	n.await("told of the proxy", func() bool { return strings.Contains(n.log.String(), "ConfigUpdated{version=3}") })
	if out := far("-H", "X-Forwarded-For: 203.0.113.9", n.HTTP+"/v1/objects"); !strings.Contains(out, "[200]") {
		t.Errorf("through a trusted proxy: %.300s", out)
	}
	bound := n.ronctl("cap", "attenuate", "--ip", "203.0.113.0/24").must(t, 0).out
	for from, want := range map[string]string{"203.0.113.9": "[200]", "198.51.100.1": "[401]", "203.0.113.9, 198.51.100.1": "[401]"} {
		out, err := exec.Command("ip", "netns", "exec", host, "curl", "-s", "-m", "20", "-w", " [%{http_code}]", "-H", "Authorization: Bearer "+strings.TrimSpace(bound),
			"-H", "X-Forwarded-For: "+from, n.HTTP+"/v1/objects").CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("a capability bound to a network, for %s: %v %.300s, want %s", from, err, out, want)
		}
	}
}
