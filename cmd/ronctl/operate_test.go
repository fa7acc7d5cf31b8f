// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// recorder answers every call with one document and keeps what was asked.
type recorder struct {
	mu     sync.Mutex
	asked  []string
	status int
	answer string
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	r.mu.Lock()
	r.asked = append(r.asked, strings.TrimSpace(q.Method+" "+q.RequestURI+" "+string(body)))
	r.mu.Unlock()
	w.WriteHeader(r.status)
	io.WriteString(w, r.answer)
}

// TestCalls: which call each command makes, and what it prints of the answer.
func TestCalls(t *testing.T) {
	const id = "01J0000000000000000000000A"
	tenant := `{"id":"` + id + `","label":"acme","suspended":true,"quota":{"requests_per_s":-1,"objects":5},"created_ms":1}`
	for name, tc := range map[string]struct {
		args   string
		status int
		answer string
		asked  string
		out    []string
	}{
		"drain":       {"node drain", 202, `{"phase":"gate","left":2}`, "POST /v1/admin/drain", []string{"drain accepted"}},
		"undrain":     {"node undrain", 200, `{"phase":"serving"}`, "POST /v1/admin/undrain", nil},
		"reload":      {"node reload --output json", 200, `{"version":4,"bundle_hash":"b3:x"}`, "POST /v1/admin/reload", []string{`"version": 4`}},
		"shutdown":    {"node shutdown", 202, `{"accepted":true}`, "POST /v1/admin/shutdown", nil},
		"events":      {"node events --after 7 --limit 2", 200, `{"events":[{"seq":8,"ts_ms":1000,"event":"Drain","attrs":{"phase":"gate"}},{"seq":9,"ts_ms":1000,"event":"Shutdown"}],"next":9}`, "GET /v1/admin/events?after=7&limit=2", []string{`Drain`, `{"phase":"gate"}`, "Shutdown"}},
		"no events":   {"node events --output json", 200, `{"events":null,"next":0}`, "GET /v1/admin/events?after=0", []string{`"events": []`}},
		"create as":   {"tenant create acme --id 01ARZ3NDEKTSV4RRFFQ69G5FAV", 201, tenant, `POST /v1/tenants {"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","label":"acme"}`, []string{"suspended"}},
		"create":      {"tenant create acme --objects 5 --bytes-per-s unlimited", 201, tenant, `POST /v1/tenants {"label":"acme","quota":{"bytes_per_s":-1,"objects":5}}`, []string{"suspended", "objects        5", "unlimited"}},
		"suspend":     {"tenant suspend acme", 200, tenant, "POST /v1/tenants/acme/suspend", nil},
		"resume":      {"tenant resume acme", 200, tenant, "POST /v1/tenants/acme/resume", nil},
		"odd name":    {"tenant show a/../b?c", 200, tenant, "GET /v1/tenants/a%2F..%2Fb%3Fc", nil},
		"quota":       {"tenant quota acme --in-flight 0", 200, tenant, `PUT /v1/tenants/acme/quota {"in_flight":0}`, nil},
		"usage":       {"tenant usage acme", 200, `{"id":"` + id + `","label":"acme","stored_bytes":7,"objects":2,"quota":{"stored_bytes":-1,"objects":5}}`, "GET /v1/tenants/acme/usage", []string{"7 of unlimited", "2 of 5"}},
		"delete":      {"tenant delete acme --yes", 204, "", "DELETE /v1/tenants/acme", []string{"deleted acme"}},
		"tenants":     {"tenant ls --output json", 200, `{"tenants":null,"cursor":""}`, "GET /v1/tenants", []string{"[]"}},
		"mint":        {"cap mint --tenant acme --actions object:* --expires 1h --max-bytes 0 --rate 1/2", 201, `{"token":"ron1_x"}`, `POST /v1/caps {"tenant":"acme","actions":["object:*"],"expires_s":3600,"max_bytes":0,"rate":{"per_s":1,"burst":2}}`, []string{"ron1_x\n"}},
		"revoke":      {"cap revoke 00112233445566778899aabbccddeeff", 200, `{"id":"x","revoked_ms":1}`, `POST /v1/caps/revoke {"id":"00112233445566778899aabbccddeeff"}`, []string{"revoked 0011"}},
		"revocations": {"cap revocations", 200, `{"revocations":[{"id":"aa","revoked_ms":1000}],"cursor":""}`, "GET /v1/caps/revocations?limit=1000", []string{"aa  everyone's  1970-01-01T00:00:01Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{status: tc.status, answer: tc.answer}
			s := httptest.NewServer(r)
			defer s.Close()
			got := do(t, map[string]string{"RON_NODE": s.URL}, "", strings.Fields(tc.args)...)
			if got.code != 0 || len(r.asked) != 1 || r.asked[0] != tc.asked {
				t.Errorf("%+v; asked %q, want %q", got, r.asked, tc.asked)
			}
			for _, want := range tc.out {
				if !strings.Contains(got.out, want) {
					t.Errorf("no %q in\n%s", want, got.out)
				}
			}
		})
	}
}

// TestListThatNeverEnds: a node that names the same cursor again is not followed.
func TestListThatNeverEnds(t *testing.T) {
	r := &recorder{status: 200, answer: `{"objects":[],"tenants":[],"revocations":[],"cursor":"x"}`}
	s := httptest.NewServer(r)
	defer s.Close()
	for _, args := range [][]string{{"ls"}, {"tenant", "ls"}, {"cap", "revocations"}} {
		if got := do(t, map[string]string{"RON_NODE": s.URL}, "", args...); got.code != 1 || !strings.Contains(got.err, "does not go on") {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if len(r.asked) != 6 {
		t.Errorf("asked %q", r.asked)
	}
}

// TestContextCapStaysHome: a context's capability goes to its own node alone.
func TestContextCapStaysHome(t *testing.T) {
	var tokens atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			tokens.Add(1)
		}
		io.WriteString(w, `{"objects":[]}`)
	}))
	defer s.Close()
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "t.cap"), testCap(t).Text(), 0o600)
	env := map[string]string{"XDG_CONFIG_HOME": dir}
	if got := do(t, env, "", "context", "set", "dev", "--node", "http://127.0.0.1:1", "--cap", "@"+file); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if got := do(t, env, "", "ls", "--node", s.URL); got.code != 0 || tokens.Load() != 0 {
		t.Errorf("%+v, %d tokens", got, tokens.Load())
	}
	if got := do(t, env, "", "ls", "--node", s.URL, "--cap", "@"+file); got.code != 0 || tokens.Load() != 1 {
		t.Errorf("%+v, %d tokens", got, tokens.Load())
	}
}

// TestTreeStopsAtFailure: what is not begun when one file fails is left.
func TestTreeStopsAtFailure(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	for i := range 500 {
		write(t, filepath.Join(dir, fmt.Sprintf("f%03d", i)), fmt.Sprint(i), 0o644)
	}
	f.refuse = macronode.Denied
	got := f.do(t, "put", "-r", dir, "-j", "4")
	if got.code != 6 || !strings.Contains(got.err, "0 of 500 files are stored") {
		t.Errorf("%+v", got)
	}
	if f.conns.Load() > 16 {
		t.Errorf("%d connections", f.conns.Load())
	}
}

// TestInterrupted: Ctrl-C in the middle says so, with what is done.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer s.Close()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "x", 0o644)
	for _, args := range [][]string{{"put", "-r", dir}, {"put", filepath.Join(dir, "f")}, {"put", "-"}} {
		var errs bytes.Buffer
		pr, pw := io.Pipe() // nobody types anything
		code := run(ctx, args, cli.Terminal{In: pr, Out: io.Discard, Err: &errs, Getenv: func(k string) string {
			return map[string]string{"RON_NODE": s.URL}[k]
		}})
		pw.Close()
		if code != 1 || !strings.Contains(errs.String(), "interrupted") {
			t.Errorf("%q: exit %d, %q", args, code, errs.String())
		}
	}
}

// TestSizeIsBounded: the node sends more than the manifest says.
func TestSizeIsBounded(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	addr := b3.Sum([]byte("small"))
	f.objects[addr] = bytes.Repeat([]byte("x"), 1<<20)
	from := f.add(fmt.Sprintf(`{"version":1,"entries":[{"path":"f","addr":%q,"size":5}]}`, addr))
	got := f.do(t, "get", "-r", from, "-o", filepath.Join(dir, "out"))
	if got.code != 1 || !strings.Contains(got.err, "longer than expected") {
		t.Errorf("%+v", got)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "out")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// TestPartIsLocked: of two that fetch one file, the second leaves it alone.
func TestPartIsLocked(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	addr := f.add("0123456789")
	part, err := os.OpenFile(filepath.Join(dir, "f.part"), os.O_RDWR|os.O_CREATE, 0o644)
	must(t, err)
	must(t, unix.Flock(int(part.Fd()), unix.LOCK_EX))
	if got := f.do(t, "get", addr, "-o", filepath.Join(dir, "f")); got.code != 1 || !strings.Contains(got.err, "another ronctl") {
		t.Errorf("%+v", got)
	}
	must(t, part.Close())
	if got := f.do(t, "get", addr, "-o", filepath.Join(dir, "f")); got.code != 0 {
		t.Errorf("%+v", got)
	}
	// A part that is no file is not written through.
	must(t, os.Symlink("victim", filepath.Join(dir, "g.part")))
	write(t, filepath.Join(dir, "victim"), "mine", 0o644)
	if got := f.do(t, "get", addr, "-o", filepath.Join(dir, "g")); got.code != 1 || !strings.Contains(got.err, "in the way") {
		t.Errorf("%+v", got)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "victim")); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestOutputFails: a command whose output nobody takes has failed.
func TestOutputFails(t *testing.T) {
	f := newFake(t)
	addr := f.add("hello")
	for _, args := range [][]string{{"ls"}, {"ls", "--output", "json"}, {"get", addr}, {"stat", addr}, {"version"}} {
		code := run(t.Context(), args, cli.Terminal{In: strings.NewReader(""), Out: closedPipe{}, Err: io.Discard, Getenv: func(k string) string {
			return map[string]string{"RON_NODE": f.url}[k]
		}})
		if code != 1 {
			t.Errorf("%q: exit %d", args, code)
		}
	}
}
