// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"

	"github.com/rustyonions/macronode/cmd/ronctl/drill/scrape"
)

// TestMain lets this binary be a node that has the fault which the folder of its
// name tells.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "macronode" {
		os.Exit(bad(filepath.Base(filepath.Dir(os.Args[0])), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// bad is a node that answers as one should at first sight and has a fault:
// trusting verifies nothing and limits nothing, eager says that a full disk may be
// tried again, ends does not start, hangs never listens.
func bad(fault string, args []string) int {
	flag := func(name string) string {
		for i, a := range args[:len(args)-1] {
			if a == name {
				return args[i+1]
			}
		}
		return ""
	}
	dir := flag("--data")
	os.MkdirAll(filepath.Join(dir, objectsDir), 0o700)
	bundle := filepath.Join(dir, "macronode.bundle.toml")
	switch {
	case args[0] == "init":
		os.WriteFile(bundle, []byte("[server]\n"), 0o600)
		return 0
	case args[0] == "bundle":
		return 0
	case fault == "ends":
		fmt.Fprintln(os.Stderr, "there is no room for me here")
		return 3
	case fault == "hangs":
		os.WriteFile(filepath.Join(dir, "pid"), fmt.Append(nil, os.Getpid()), 0o600)
		select {}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1
	}
	token := filepath.Join(dir, "cap")
	os.WriteFile(token, []byte("ron1_x"), 0o600)
	file := flag("--endpoints")
	if file == "" {
		file = filepath.Join(dir, "endpoints.json")
	}
	text, _ := json.Marshal(map[string]string{"http": "http://" + l.Addr().String(), "operator_cap": token, "tenant_cap": token})
	os.WriteFile(file, text, 0o600)
	http.Serve(l, badNode{fault, filepath.Join(dir, objectsDir), flag("--config") != ""})
	return 1
}

type badNode struct {
	fault, dir string
	forgets    bool // what it is given; for the drill that fills
}

func (n badNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch {
	case r.URL.Path == "/readyz":
		io.WriteString(w, `{"ready":true}`)
	case r.URL.Path == "/metrics":
		io.WriteString(w, "integrity_fail_total{where=\"x\"} 0\n")
	case n.fault == "eager":
		p := macronode.Errorf(macronode.DiskFull, "by the test").Problem("01JCORR")
		p.Retryable = true
		w.WriteHeader(p.Status)
		json.NewEncoder(w).Encode(p)
	case r.Method == http.MethodGet:
		http.ServeFile(w, r, filepath.Join(n.dir, filepath.Base(r.URL.Path)))
	default:
		addr := b3.Sum(body)
		if !n.forgets {
			os.WriteFile(filepath.Join(n.dir, addr.String()), body, 0o600)
		}
		json.NewEncoder(w).Encode(map[string]any{"addr": addr, "size": len(body)})
	}
}

func binary(t *testing.T, fault string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), fault)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "macronode")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBadNodes: each drill fails, at the step that shows the fault, and leaves
// nothing behind.
func TestBadNodes(t *testing.T) {
	for _, c := range []struct{ drill, fault, step, saw string }{
		{"corrupt-object", "trusting", "read the two", "it was not refused, 502 integrity was expected"},
		{"decompression-bomb", "trusting", "upload each bomb", "gzip, 1 GiB of zeros: it was not refused, 413 decompress was expected"},
		{"disk-full", "trusting", "put objects of 1 MiB", "96 objects went in; it was not refused, 507 disk_full was expected"},
		{"disk-full", "eager", "put objects of 1 MiB", "trying again may help"},
		{"corrupt-object", "ends", "start a node", "the node ended: exit status 3"},
	} {
		t.Run(c.drill+" "+c.fault, func(t *testing.T) {
			t.Parallel()
			d, ok := Find(c.drill)
			if !ok {
				t.Fatal("there is no such drill")
			}
			dir := t.TempDir()
			r := d.Run(t.Context(), Options{Binary: binary(t, c.fault), Dir: dir})
			if r.Pass || len(r.Steps) == 0 {
				t.Fatalf("%+v", r)
			}
			last := r.Steps[len(r.Steps)-1]
			if last.Pass || !strings.HasPrefix(last.Did, c.step) || !strings.Contains(last.Saw, c.saw) || !strings.Contains(r.Error, last.Did) {
				t.Errorf("%+v", r)
			}
			for _, s := range r.Steps[:len(r.Steps)-1] {
				if !s.Pass {
					t.Errorf("%+v", s)
				}
			}
			if c.fault == "ends" && (len(r.Log) != 1 || !strings.Contains(r.Log[0], "no room")) {
				t.Errorf("the node's last words: %q", r.Log)
			}
			empty(t, dir)
		})
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestCut: a drill that is interrupted says so, ends its node and removes its
// directory; one that does not end by itself is ended.
func TestCut(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan Report)
	go func() { done <- corruptObject.Run(ctx, Options{Binary: binary(t, "hangs"), Dir: dir}) }()
	var pid int
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for pid == 0 {
		select {
		case r := <-done:
			t.Fatalf("it ended: %+v", r)
		case <-tick.C:
		}
		found, _ := filepath.Glob(filepath.Join(dir, "*", "data", "pid"))
		if len(found) == 1 {
			text, _ := os.ReadFile(found[0])
			fmt.Sscan(string(text), &pid)
		}
	}
	cancel()
	r := <-done
	if r.Pass || r.Error != "interrupted" {
		t.Errorf("%+v", r)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the node is there: %v", err)
	}
	empty(t, dir)
	if r := corruptObject.Run(ctx, Options{Binary: "/nonexistent", Dir: dir}); r.Error != "interrupted" || len(r.Steps) > 0 {
		t.Errorf("after the end: %+v", r)
	}
}

// TestKeep leaves the directory, with what the node said.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	r := corruptObject.Run(t.Context(), Options{Binary: binary(t, "ends"), Dir: dir, Keep: true})
	if log, err := os.ReadFile(filepath.Join(r.Dir, "node.log")); err != nil || !bytes.Contains(log, []byte("no room")) || !r.Kept {
		t.Errorf("%v %q", err, log)
	}
	if filepath.Dir(r.Dir) != dir {
		t.Errorf("made in %s", r.Dir)
	}
	r = corruptObject.Run(t.Context(), Options{Binary: "/nonexistent/macronode", Dir: dir})
	if r.Pass || !strings.Contains(r.Error, "no such file") {
		t.Errorf("%+v", r)
	}
}

func TestDrills(t *testing.T) {
	last := ""
	for _, d := range All() {
		if d.Name <= last || d.Shows == "" || d.play == nil || strings.ContainsAny(d.Shows, "\n\t") {
			t.Errorf("%+v", d)
		}
		if d.NotLive == "" { // a scene begins with a node of its own
			t.Errorf("%s says that it can be run live", d.Name)
		}
		last = d.Name
	}
	if _, ok := Find("no-drill"); ok {
		t.Error("found a drill that there is not")
	}
}

func TestSumMetric(t *testing.T) {
	const text = "# TYPE a counter\na{x=\"1\",y=\"z\"} 2\na{x=\"2\"} 3.5\na_more{x=\"1\"} 100\nb 7\n"
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
		err    bool
	}{
		{"a", nil, 5.5, false},
		{"a", []string{`x="1"`}, 2, false},
		{"a", []string{`x="1"`, `y="q"`}, 0, true},
		{"b", nil, 7, false},
		{"c", nil, 0, true},
	} {
		got, err := scrape.Sum(text, c.name, c.labels...)
		if got != c.want || (err != nil) != c.err {
			t.Errorf("%s %q: %v %v", c.name, c.labels, got, err)
		}
	}
	if _, err := scrape.Sum("a x\n", "a"); err == nil {
		t.Error("a sample that is no number")
	}
}
