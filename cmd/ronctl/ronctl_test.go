// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

var update = flag.Bool("update", false, "write testdata/help.golden")

// fake is a node that holds objects in memory.
type fake struct {
	mu      sync.Mutex
	objects map[b3.Addr][]byte
	refuse  macronode.Kind // of everything; Internal: nothing
	puts    int
	ranges  []string
	plain   bool                // it is older than slices
	bend    func([]byte) []byte // of a slice on its way; nil: none
	answers map[string]string   // path → JSON
	conns   atomic.Int32
	url     string
}

func emptyFake() *fake {
	return &fake{objects: map[b3.Addr][]byte{}, answers: map[string]string{}}
}

func newFake(t *testing.T) *fake {
	f := emptyFake()
	s := httptest.NewUnstartedServer(f)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			f.conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	f.url = s.URL
	return f
}

func refuse(w http.ResponseWriter, k macronode.Kind) {
	p := macronode.Errorf(k, "by the test").Problem("01JCORR")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	name, isObject := strings.CutPrefix(r.URL.Path, "/o")
	addr, _ := b3.Parse(strings.TrimPrefix(name, "/"))
	data, have := f.objects[addr]
	answer, known := f.answers[r.URL.Path]
	switch {
	case err != nil:
	case f.refuse != macronode.Internal:
		refuse(w, f.refuse)
	case known:
		io.WriteString(w, answer)
	case r.URL.Path == "/v1/objects":
		var doc struct {
			Objects []map[string]any `json:"objects"`
			Cursor  string           `json:"cursor"`
		}
		at, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		var all []string
		for a := range f.objects {
			all = append(all, a.String())
		}
		slices.Sort(all)
		if at < len(all) { // one a page
			doc.Objects = []map[string]any{{"addr": all[at], "size": 1, "content_type": "text/x", "created_ms": 1000}}
		}
		if at+1 < len(all) {
			doc.Cursor = strconv.Itoa(at + 1)
		}
		json.NewEncoder(w).Encode(doc)
	case isObject && (r.Method == "POST" || r.Method == "PUT"):
		f.puts++
		addr = b3.Sum(body)
		_, have = f.objects[addr]
		f.objects[addr] = body
		json.NewEncoder(w).Encode(map[string]any{"addr": addr, "size": len(body), "existed": have})
	case !have:
		refuse(w, macronode.NotFound)
	case r.Method == "DELETE":
		delete(f.objects, addr)
		w.WriteHeader(204)
	case r.Header.Get("Accept") != "" && r.Method == "GET" && !f.plain:
		f.slice(w, r, data)
	default:
		from, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-"))
		f.ranges = append(f.ranges, r.Header.Get("Range"))
		if from > len(data) || from > 0 && from == len(data) {
			refuse(w, macronode.RangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Type", "text/x")
		w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
		if from > 0 {
			w.WriteHeader(206)
		}
		if r.Method == "GET" {
			w.Write(data[from:])
		}
	}
}

func (f *fake) add(data string) string {
	a := b3.Sum([]byte(data))
	f.objects[a] = []byte(data)
	return a.String()
}

type result struct {
	code     int
	out, err string
}

// do runs ronctl with env as its whole environment.
func do(t *testing.T, env map[string]string, in string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, cli.Terminal{In: strings.NewReader(in), Out: &out, Err: &errs, Getenv: func(k string) string { return env[k] }})
	return result{code, out.String(), errs.String()}
}

func (f *fake) do(t *testing.T, args ...string) result {
	t.Helper()
	return do(t, map[string]string{"RON_NODE": f.url}, "from stdin", args...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), mode))
	must(t, os.Chmod(path, mode))
	return path
}

func TestExitCodes(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	addr := b3.Sum(nil).String()
	for name, tc := range map[string]struct {
		args   []string
		refuse macronode.Kind
		code   int
		err    string // in standard error
	}{
		"fine":               {[]string{"ls"}, 0, 0, ""},
		"help":               {[]string{"cap", "--help"}, 0, 0, ""},
		"version":            {[]string{"version"}, 0, 0, ""},
		"not found":          {[]string{"stat", addr}, 0, 1, "Not Found (404"},
		"no file":            {[]string{"put", "/nonexistent/x"}, 0, 1, "no such file"},
		"refused connection": {[]string{"rm", addr, "--node", gone.URL}, 0, 1, "no answer from the node at " + gone.URL},
		"nothing":            {nil, 0, 2, "a command is needed"},
		"mistyped":           {[]string{"pt"}, 0, 2, "did you mean put?"},
		"mistyped below":     {[]string{"tenant", "creat"}, 0, 2, "did you mean create?"},
		"unknown flag":       {[]string{"ls", "--nope"}, 0, 2, "unknown flag"},
		"no address":         {[]string{"get", "b3:xyz"}, 0, 2, "64 lower-case hex"},
		"no arguments":       {[]string{"put"}, 0, 2, "at least 1"},
		"too many":           {[]string{"cap", "show", "a", "b"}, 0, 2, "at most 1"},
		"output":             {[]string{"ls", "--output", "xml"}, 0, 2, "text or json"},
		"jobs":               {[]string{"put", "-r", ".", "-j", "0"}, 0, 2, "--jobs"},
		"bad node":           {[]string{"ls", "--node", "localhost"}, 0, 2, "want http://"},
		"delete needs yes":   {[]string{"tenant", "delete", "acme"}, 0, 2, "--yes"},
		"get -r needs -o":    {[]string{"get", "-r", addr}, 0, 2, "-o DIR"},
		"no context":         {[]string{"ls", "--context", "x"}, 0, 2, "no context"},
		"directory":          {[]string{"put", "."}, 0, 2, "put -r"},
		"ready, unreachable": {[]string{"node", "ready", "--node", gone.URL}, 0, 5, gone.URL},
		"timeout":            {[]string{"ls", "--timeout", "1ns"}, 0, 5, "deadline"},
		"unauthenticated":    {[]string{"ls"}, macronode.Unauthenticated, 6, "A capability is required"},
		"denied":             {[]string{"rm", addr}, macronode.Denied, 6, "403"},
		"quota":              {[]string{"ls"}, macronode.QuotaBytes, 6, "429"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.refuse = tc.refuse
			got := f.do(t, tc.args...)
			if got.code != tc.code || !strings.Contains(got.err, tc.err) {
				t.Errorf("exit %d, want %d; stderr %q, want %q in it", got.code, tc.code, got.err, tc.err)
			}
		})
	}
}

func TestJSONErrors(t *testing.T) {
	f := newFake(t)
	f.refuse = macronode.Denied
	got := f.do(t, "ls", "--output", "json")
	var p macronode.Problem
	if err := json.Unmarshal([]byte(got.err), &p); err != nil || p.Code != "denied" || got.code != 6 || got.out != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestObjects(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	a := write(t, filepath.Join(dir, "a.txt"), "alpha", 0o644)
	addr := b3.Sum([]byte("alpha")).String()
	for range 2 {
		if got := f.do(t, "put", a); got.code != 0 || got.out != addr+"  "+a+"\n" {
			t.Fatalf("%+v", got)
		}
	}
	if f.puts != 1 {
		t.Errorf("%d puts; what is there is not sent", f.puts)
	}
	if got := f.do(t, "put", "--again", a); got.code != 0 || f.puts != 2 {
		t.Errorf("put --again: %+v, %d puts", got, f.puts)
	}
	if got := f.do(t, "put", "-"); got.out != b3.Sum([]byte("from stdin")).String()+"  -\n" {
		t.Errorf("%+v", got)
	}
	got := f.do(t, "put", a, filepath.Join(dir, "none"), a)
	if got.code != 1 || got.out != addr+"  "+a+"\n" {
		t.Errorf("what was stored before a failure is told: %+v", got)
	}
	var puts []stored
	got = f.do(t, "put", a, "--output", "json")
	if err := json.Unmarshal([]byte(got.out), &puts); err != nil || len(puts) != 1 || puts[0].Addr.String() != addr || !puts[0].Existed {
		t.Errorf("%+v, %v", got, err)
	}
	if got := f.do(t, "get", addr); got.out != "alpha" {
		t.Errorf("%+v", got)
	}
	if got := f.do(t, "stat", addr); got.out != addr+"  5  text/x\n" {
		t.Errorf("%+v", got)
	}
	if got := f.do(t, "ls"); strings.Count(got.out, "\n") != 2 || !strings.Contains(got.out, addr) {
		t.Errorf("%+v", got)
	}
	if got := f.do(t, "ls", "--limit", "1"); strings.Count(got.out, "\n") != 1 {
		t.Errorf("%+v", got)
	}
	if got := f.do(t, "rm", addr); got.code != 0 || len(f.objects) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestNodeCommands(t *testing.T) {
	f := newFake(t)
	f.answers["/v1/admin/status"] = `{"node_id":"n1","state":"running","since_ms":1000,"started_ms":500,"ready":true,"missing":[],"config":{"version":3,"bundle_hash":"b3:aa"},
"drain":{"phase":"serving","left":2},"in_flight":{"facet":1,"control":4},"services":[{"name":"svc-storage","state":"running","healthy":true,"restarts":7}],"newer":"kept"}`
	f.answers["/readyz"] = `{"ready":false,"checks":[{"name":"disk","ok":false,"detail":"full"}],"config_version":3}`
	got := f.do(t, "node", "status")
	for _, want := range []string{"node       n1", "ready", "version 3 b3:aa", "serving, 2 calls left", "control 4, facet 1", "svc-storage  running  healthy  7"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	if got = f.do(t, "node", "status", "--output", "json"); !json.Valid([]byte(got.out)) || !strings.Contains(got.out, `"newer": "kept"`) {
		t.Errorf("%+v", got)
	}
	if got = f.do(t, "node", "ready"); got.code != 5 || !strings.Contains(got.out, "FAILED  disk  full") {
		t.Errorf("%+v", got)
	}
	f.answers["/readyz"] = `{"ready":true}`
	if got = f.do(t, "node", "ready", "--wait", "5s"); got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func testCap(t *testing.T) *capability.Token {
	t.Helper()
	tok, err := capability.Mint(capability.NewKey(&[capability.KeyBytes]byte{1}), macronode.TenantID{1}, "v1", [16]byte{2}, capability.OnActions("object:*"))
	must(t, err)
	return tok
}

func TestCapOffline(t *testing.T) {
	tok := testCap(t)
	file := write(t, filepath.Join(t.TempDir(), "t.cap"), tok.Text()+"\n", 0o600)
	env := map[string]string{"RON_NODE": "http://127.0.0.1:1"} // never asked
	got := do(t, env, "", "cap", "show", "@"+file, "--output", "json")
	var shown struct {
		KID    string `json:"kid"`
		LeafID string `json:"leaf_id"`
	}
	if err := json.Unmarshal([]byte(got.out), &shown); err != nil || shown.KID != "v1" || shown.LeafID != tok.LeafID().String() || strings.Contains(got.out, tok.Text()) {
		t.Errorf("%+v, %v", got, err)
	}
	got = do(t, env, "", "cap", "attenuate", "--cap", "@"+file, "--actions", "object:get", "--expires", "1h", "--rate", "10/20", "--ip", "10.0.0.0/8")
	narrow, err := capability.Parse(strings.TrimSuffix(got.out, "\n"))
	if err != nil || len(narrow.Caveats()) != 5 || got.err != "" {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := narrow.Verify(capability.NewKey(&[capability.KeyBytes]byte{1})); err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{{"--rate", "x"}, {"--ip", "10"}, {"--expires", "-1s"}, {"--methods", "no method"}, {}} {
		if got := do(t, env, "", append([]string{"cap", "attenuate", "--cap", "@" + file}, args...)...); got.code != 2 || got.out != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if got := do(t, env, "", "cap", "attenuate", "--actions", "x:y"); got.code != 2 {
		t.Errorf("without a capability: %+v", got)
	}
}

func TestContexts(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	env := map[string]string{"XDG_CONFIG_HOME": dir}
	tok := testCap(t).Text()
	file := write(t, filepath.Join(dir, "t.cap"), tok, 0o600)
	for _, bad := range [][]string{{"--cap", tok, "--node", f.url}, {"--cap", "@" + file}, {"--node", "http://u:hunter2@h:1"}} {
		got := do(t, env, "", append([]string{"context", "set", "dev"}, bad...)...)
		if got.code != 2 || strings.Contains(got.err, tok) || strings.Contains(got.err, "hunter2") {
			t.Errorf("%q: %+v", bad, got)
		}
	}
	if got := do(t, env, "", "context", "set", "dev", "--node", f.url, "--cap", "@"+file); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	path := filepath.Join(dir, "ronctl", "contexts.json")
	info, err := os.Stat(path)
	must(t, err)
	text, err := os.ReadFile(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 || strings.Contains(string(text), capability.TextPrefix) {
		t.Errorf("mode %v, %s", info.Mode(), text)
	}
	if got := do(t, env, "", "ls"); got.code != 0 { // goes where the context says
		t.Errorf("%+v", got)
	}
	if got := do(t, env, "", "context", "ls"); !strings.Contains(got.out, "* dev  "+f.url) {
		t.Errorf("%+v", got)
	}
	if got := do(t, env, "", "context", "use", "prod"); got.code != 2 {
		t.Errorf("%+v", got)
	}
	if got := do(t, env, "", "context", "rm", "dev"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if got := do(t, env, "", "context", "rm", "dev"); got.code != 2 {
		t.Errorf("%+v", got)
	}
}

func everyCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		everyCommand(sub, f)
	}
}

func TestHelp(t *testing.T) {
	a := &app{}
	var all bytes.Buffer
	everyCommand(a.command(), func(c *cobra.Command) {
		if c.Example == "" || c.Short == "" {
			t.Errorf("%s has no example or no description", c.CommandPath())
		}
		if c.HasParent() && (c.Name() == "help" || c.Name() == "completion" || c.Parent().Name() == "completion") {
			return // cobra's own text
		}
		c.SetOut(&all)
		all.WriteString("=== " + c.CommandPath() + "\n")
		must(t, c.Help())
		all.WriteString("\n")
	})
	golden := filepath.Join("testdata", "help.golden")
	if *update {
		write(t, golden, all.String(), 0o644)
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if all.String() != string(want) {
		t.Error("the help changed; look at it and run: go test ./cmd/ronctl -run TestHelp -update")
	}
}
