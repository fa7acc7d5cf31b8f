// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait; nothing here is timed.
const patience = 60 * time.Second

func binary(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("MACRONODE_BIN")
	if dir == "" {
		t.Fatal("MACRONODE_BIN is not set; run: make e2e")
	}
	return filepath.Join(dir, name)
}

// node is a running macronode.
type node struct {
	t    testing.TB
	dir  string
	file string // endpoints file
	args []string
	bin  string   // folder of its binaries; "": MACRONODE_BIN
	wrap []string // what its process is run by; none: nothing
	cmd  *exec.Cmd
	log  *tail
	done chan error
	tls  *http.Client // of a node that speaks TLS, once asked for

	HTTP        string `json:"http"`
	OAP         string `json:"oap"`
	PID         int    `json:"pid"`
	OperatorCap string `json:"operator_cap"`
	TenantCap   string `json:"tenant_cap"`
}

// tail keeps the last of a process's output.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if len(l.buf) > 1<<20 {
		l.buf = l.buf[len(l.buf)-1<<20:]
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}

// startDev starts a development node on free ports and waits until it is ready.
func startDev(t testing.TB, dir string, args ...string) *node {
	t.Helper()
	n := &node{t: t, dir: dir, file: filepath.Join(dir, "endpoints.json"), args: append([]string{"run", "--data", dir, "--http", "127.0.0.1:0", "--oap", "127.0.0.1:0"}, args...)}
	n.start()
	t.Cleanup(n.kill)
	return n
}

// startSigned makes a production directory with tenant acme, changes its bundle,
// signs it and runs the node from it. Plaintext, on loopback unless edit says else.
func startSigned(t testing.TB, edit func(text string) string) *node {
	t.Helper()
	n := makeSigned(t, edit)
	n.run()
	return n
}

// startSignedOn is startSigned with the data directory moved below dir, which may
// be too small for a new one.
func startSignedOn(t testing.TB, dir string, edit func(text string) string) *node {
	t.Helper()
	n := makeSigned(t, edit)
	if out, err := exec.Command("mv", n.dir, dir).CombinedOutput(); err != nil {
		t.Fatalf("mv: %v\n%s", err, out)
	}
	n.dir = filepath.Join(dir, filepath.Base(n.dir))
	n.run()
	return n
}

// run starts a node from its directory, until the test ends.
func (n *node) run() {
	n.t.Helper()
	n.args = []string{"run", "--config", n.bundle(), "--data", n.dir, "--endpoints", n.file}
	n.start()
	n.t.Cleanup(n.kill)
}

// makeSigned is startSigned without the start.
func makeSigned(t testing.TB, edit func(text string) string) *node {
	t.Helper()
	top := t.TempDir()
	n := &node{t: t, dir: filepath.Join(top, "data"), file: filepath.Join(top, "endpoints.json")}
	n.macronode("init", "--data", n.dir, "--http", "127.0.0.1:0", "--oap", "127.0.0.1:0", "--tls", "none", "--tenant", "acme", "--recovery-out", filepath.Join(top, "recovery.key")).must(t, 0)
	if edit != nil {
		n.edit(edit)
	}
	return n
}

func (n *node) bundle() string { return filepath.Join(n.dir, "macronode.bundle.toml") }

// edit changes the bundle and signs it under the next version.
func (n *node) edit(f func(text string) string) {
	n.t.Helper()
	text, err := os.ReadFile(n.bundle())
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(n.bundle(), []byte(f(string(text))), 0o644); err != nil {
		n.t.Fatal(err)
	}
	n.macronode("bundle", "sign", n.bundle(), "--data", n.dir, "--bump").must(n.t, 0)
}

// section puts lines into a section of a bundle, which may be there.
func section(name, lines string) func(string) string {
	return func(text string) string {
		if head := "[" + name + "]\n"; strings.Contains(text, head) {
			return strings.Replace(text, head, head+lines+"\n", 1)
		}
		return text + "\n[" + name + "]\n" + lines + "\n"
	}
}

// macronode runs a command of the node's binary.
func (n *node) macronode(args ...string) result {
	n.t.Helper()
	return command(n.t, nil, nil, "macronode", args...)
}

func (n *node) start() {
	n.t.Helper()
	n.spawn()
	n.awaitReady()
}

// spawn starts the process and does not wait for it.
func (n *node) spawn() {
	n.t.Helper()
	os.Remove(n.file) // a killed node leaves its own
	line := append(append([]string{}, n.wrap...), binary(n.t, "macronode"))
	line = append(line, n.args...)
	n.cmd = exec.Command(line[0], line[1:]...)
	n.log = &tail{}
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	cmd, done := n.cmd, make(chan error, 1)
	n.done = done
	go func() { done <- cmd.Wait() }()
}

func (n *node) awaitReady() {
	n.t.Helper()
	n.await("ready", func() bool {
		text, err := os.ReadFile(n.file)
		if err != nil || json.Unmarshal(text, n) != nil {
			return false
		}
		resp, err := n.client().Get(n.HTTP + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
}

// await polls until ok, the process's end, or the end of patience.
func (n *node) await(what string, ok func() bool) {
	n.t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case err := <-n.done:
			n.done <- err
			n.t.Fatalf("the node ended before it was %s: %v\n%s", what, err, n.log)
		case <-deadline:
			n.t.Fatalf("the node is not %s after %s\n%s", what, patience, n.log)
		case <-tick.C:
		}
	}
}

// kill ends the node as kill -9 does, and waits for the process to be gone.
func (n *node) kill() {
	if n.cmd.ProcessState == nil {
		n.cmd.Process.Kill()
		err := <-n.done
		n.done <- err
	}
}

// stop asks the node to stop and returns its exit code.
func (n *node) stop() int {
	n.t.Helper()
	n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-n.done:
		n.done <- err
		return code(n.t, err)
	case <-time.After(patience):
		n.t.Fatalf("the node does not stop\n%s", n.log)
		return -1
	}
}

func code(t testing.TB, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		t.Fatal(err)
		return -1
	}
}

// result is what a command did.
type result struct {
	out, err string
	code     int
}

// command runs a binary with the environment of a new user.
func command(t testing.TB, env []string, stdin io.Reader, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, binary(t, name), args...)
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	c.Stdin = stdin
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	return result{out.String(), errs.String(), code(t, err)}
}

// ronctl runs ronctl as the tenant.
func (n *node) ronctl(args ...string) result {
	n.t.Helper()
	return command(n.t, []string{"RON_NODE=" + n.HTTP, "RON_CAP=@" + n.TenantCap}, nil, "ronctl", args...)
}

// operate runs ronctl as the operator.
func (n *node) operate(args ...string) result {
	n.t.Helper()
	return command(n.t, []string{"RON_NODE=" + n.HTTP, "RON_CAP=@" + n.OperatorCap}, nil, "ronctl", args...)
}

// client is how to talk to the node: with TLS where its directory has a
// certificate to trust.
func (n *node) client() *http.Client {
	if n.tls != nil {
		return n.tls
	}
	pem, err := os.ReadFile(filepath.Join(n.dir, "tls.crt"))
	if err != nil {
		return http.DefaultClient
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		n.t.Fatal("tls.crt holds no certificate")
	}
	n.tls = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	return n.tls
}

// must fails the test unless the command ended with code want.
func (r result) must(t testing.TB, want int) result {
	t.Helper()
	if r.code != want {
		t.Fatalf("exit %d, want %d\n%s%s", r.code, want, r.out, r.err)
	}
	return r
}

// request makes one HTTP call with the tenant's capability.
func (n *node) request(method, path string, header http.Header, body io.Reader) (*http.Response, []byte) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.HTTP+path, body)
	if err != nil {
		n.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if req.Header.Get("Authorization") == "" {
		token, err := os.ReadFile(n.TenantCap)
		if err != nil {
			n.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := n.client().Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp, text
}

// metric sums the samples of a metric whose labels contain every given text.
func (n *node) metric(name string, labels ...string) float64 {
	n.t.Helper()
	resp, err := n.client().Get(n.HTTP + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	var sum float64
lines:
	for line := range strings.Lines(string(text)) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if !ok {
			series, value, _ = strings.Cut(strings.TrimSpace(line), " ")
		}
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(series, l) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			n.t.Fatalf("%q: %v", line, err)
		}
		sum += v
	}
	return sum
}

// envInt is a count from the environment.
func envInt(t testing.TB, name string, fallback int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return fallback
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatal(fmt.Errorf("%s=%q is no count", name, s))
	}
	return n
}
