// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGoTree puts every source file of the Go toolchain and some of its binaries,
// kills the node on the way, and reads everything back.
func TestGoTree(t *testing.T) {
	goroot := strings.TrimSpace(output(t, "go", "env", "GOROOT"))
	tree := t.TempDir()
	copyTree(t, filepath.Join(goroot, "src"), filepath.Join(tree, "src"))
	for _, name := range []string{"bin/go", "bin/gofmt"} {
		copyFile(t, filepath.Join(goroot, name), filepath.Join(tree, filepath.Base(name)), 0o755)
	}
	files := list(t, tree)
	if len(files) < 10000 {
		t.Fatalf("only %d files", len(files))
	}
	n := startDev(t, t.TempDir())

	// The first put is broken off by kill -9 when a part is there.
	first := make(chan result, 1)
	go func() { first <- n.ronctl("put", "-r", tree) }()
	n.await("half way", func() bool {
		return n.metric("http_responses_total", `route="PUT /o/{addr}"`, `code="201"`) > 2000
	})
	n.kill()
	if r := <-first; r.code == 0 {
		t.Fatal("the put did not notice that the node was killed")
	}
	n.start()

	manifestFile := filepath.Join(t.TempDir(), "manifest.json")
	put := n.ronctl("put", "-r", tree, "--manifest", manifestFile, "--output", "json").must(t, 0)
	var sum struct {
		Manifest              string
		Files, Bytes, Skipped int64
	}
	if err := json.Unmarshal([]byte(put.out), &sum); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files, %d bytes; %d were there after the kill", sum.Files, sum.Bytes, sum.Skipped)
	if sum.Files != int64(len(files)) || sum.Skipped == 0 {
		t.Errorf("put says %+v of %d files", sum, len(files))
	}

	checkAddresses(t, tree, manifestFile)
	back := filepath.Join(t.TempDir(), "back")
	n.ronctl("get", "-r", sum.Manifest, "-o", back).must(t, 0)
	if out, err := exec.Command("diff", "-r", tree, back).CombinedOutput(); err != nil {
		t.Fatalf("what came back differs: %v\n%.2000s", err, out)
	}
	checkRanges(t, n, tree, manifestFile)
	checkAccounts(t, n, manifestFile, sum.Skipped)
}

// entry is one line of a manifest.
type entry struct {
	Path, Addr string
	Size       int64
}

func entries(t *testing.T, file string) []entry {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Entries []entry }
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m.Entries
}

// checkAddresses compares every address with what Debian's b3sum says.
func checkAddresses(t *testing.T, tree, manifest string) {
	t.Helper()
	want := make(map[string]string)
	cmd := exec.Command("sh", "-c", "find . -type f -print0 | xargs -0 b3sum")
	cmd.Dir = tree
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("b3sum: %v (make setup installs it)", err)
	}
	for line := range strings.Lines(string(out)) {
		sum, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok {
			t.Fatalf("b3sum says %q", line)
		}
		want[strings.TrimPrefix(path, "./")] = "b3:" + sum
	}
	all := entries(t, manifest)
	if len(all) != len(want) {
		t.Errorf("%d entries, b3sum knows %d", len(all), len(want))
	}
	for _, e := range all {
		if want[e.Path] != e.Addr {
			t.Errorf("%s: %s, b3sum says %s", e.Path, e.Addr, want[e.Path])
		}
	}
}

// checkRanges reads random ranges and compares them with the files.
func checkRanges(t *testing.T, n *node, tree, manifest string) {
	t.Helper()
	all := entries(t, manifest)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		e := all[rnd.IntN(len(all))]
		if e.Size == 0 {
			continue
		}
		from := rnd.Int64N(e.Size)
		to := from + rnd.Int64N(e.Size-from)
		resp, got := n.request("GET", "/o/"+e.Addr, http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", from, to)}}, nil)
		want, err := os.ReadFile(filepath.Join(tree, e.Path))
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 206 || !bytes.Equal(got, want[from:to+1]) {
			t.Fatalf("%s [%d-%d]: status %d, %d bytes", e.Path, from, to, resp.StatusCode, len(got))
		}
	}
}

// checkAccounts holds usage, listing and metrics against what was done.
func checkAccounts(t *testing.T, n *node, manifest string, skipped int64) {
	t.Helper()
	unique := make(map[string]int64)
	var files int64
	for _, e := range entries(t, manifest) {
		unique[e.Addr] = e.Size
		files++
	}
	info, err := os.Stat(manifest)
	if err != nil {
		t.Fatal(err)
	}
	objects, size := int64(len(unique))+1, info.Size()
	for _, s := range unique {
		size += s
	}
	var usage struct {
		StoredBytes int64 `json:"stored_bytes"`
		Objects     int64 `json:"objects"`
	}
	if err := json.Unmarshal([]byte(n.operate("tenant", "usage", "dev", "--output", "json").must(t, 0).out), &usage); err != nil {
		t.Fatal(err)
	}
	if usage.Objects != objects || usage.StoredBytes != size {
		t.Errorf("usage says %d objects of %d bytes, stored were %d of %d", usage.Objects, usage.StoredBytes, objects, size)
	}
	var listed []struct{ Addr string }
	if err := json.Unmarshal([]byte(n.ronctl("ls", "--output", "json").must(t, 0).out), &listed); err != nil {
		t.Fatal(err)
	}
	if int64(len(listed)) != objects {
		t.Errorf("the list has %d objects, stored were %d", len(listed), objects)
	}
	// Since the restart: each file was asked for, and those missing were put. A call that
	// the node shed was made again. Of equal files under way at once the later ones find
	// the first one there.
	asked := n.metric("http_responses_total", `route="HEAD /o/{addr}"`) - n.metric("http_responses_total", `route="HEAD /o/{addr}"`, `code="503"`)
	put := n.metric("http_responses_total", `route="PUT /o/{addr}"`)
	made := n.metric("http_responses_total", `route="PUT /o/{addr}"`, `code="201"`)
	if asked != float64(files) || made != float64(files-skipped) || put < made {
		t.Errorf("metrics: %v asked for of %d files, %v put and %v made of %d", asked, files, put, made, files-skipped)
	}
	if bad := n.metric("integrity_fail_total"); bad != 0 {
		t.Errorf("integrity_fail_total is %v", bad)
	}
	if got := n.metric("request_latency_seconds_count", `route="PUT /o/{addr}"`); got != put {
		t.Errorf("request_latency_seconds counts %v puts, http_responses_total %v", got, put)
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string, mode fs.FileMode) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, mode); err != nil {
		t.Fatal(err)
	}
}
