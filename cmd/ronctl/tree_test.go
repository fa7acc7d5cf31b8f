// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/cmd/ronctl/manifest"
)

func TestTreeThereAndBack(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	files := map[string]string{"a.txt": "alpha", "sub/b": "beta", "sub/deep/c": "", "x": "one", "x.part": "two", "same": "alpha"}
	for name, text := range files {
		write(t, filepath.Join(src, name), text, 0o644)
	}
	write(t, filepath.Join(src, "tool"), "#!/bin/sh\n", 0o755)
	links := map[string]string{"l": "a.txt", "sub/deep/up": "../../a.txt", "dangling": "sub/none"}
	for name, target := range links {
		must(t, os.Symlink(target, filepath.Join(src, name)))
	}
	file := filepath.Join(dir, "m.json")
	got := f.do(t, "put", "-r", src, "--manifest", file)
	if got.code != 0 {
		t.Fatalf("%+v", got)
	}
	addr := strings.TrimSpace(got.out)
	text, err := os.ReadFile(file)
	must(t, err)
	if b3.Sum(text).String() != addr {
		t.Errorf("the manifest's address is %s, told was %q", b3.Sum(text), got.out)
	}
	again := f.do(t, "put", "-r", src, "--output", "json")
	var sum summary
	if err := json.Unmarshal([]byte(again.out), &sum); err != nil || sum.Manifest.String() != addr || sum.Files != 7 || sum.Skipped != 7 {
		t.Errorf("%+v, %v", again, err)
	}
	// A part of an earlier, broken get is gone on with; a file without its exec
	// bit gets it.
	a := b3.Sum([]byte("alpha"))
	part := manifest.Entry{Path: "a.txt", Addr: &a}.Part()
	write(t, filepath.Join(dst, part), "alp", 0o644)
	write(t, filepath.Join(dst, "tool"), "#!/bin/sh\n", 0o644)
	f.ranges = nil
	for _, from := range []string{addr, file} {
		if got := f.do(t, "get", "-r", from, "-o", dst); got.code != 0 {
			t.Fatalf("%+v", got)
		}
		for name, want := range files {
			have, err := os.ReadFile(filepath.Join(dst, name))
			if err != nil || string(have) != want {
				t.Errorf("%s: %q, %v", name, have, err)
			}
		}
		for name, want := range links {
			if have, err := os.Readlink(filepath.Join(dst, name)); err != nil || have != want {
				t.Errorf("%s: %q, %v", name, have, err)
			}
		}
		info, err := os.Stat(filepath.Join(dst, "tool"))
		must(t, err)
		if info.Mode()&0o111 == 0 {
			t.Error("the tool lost its exec bit")
		}
	}
	if !strings.Contains(strings.Join(f.ranges, " "), "bytes=3-") {
		t.Errorf("ranges %q", f.ranges)
	}
	if left, _ := filepath.Glob(filepath.Join(dst, ".ronctl-*")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func TestTreeRefusesToPut(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, dir string){
		"link leading out": func(t *testing.T, dir string) { must(t, os.Symlink("../x", filepath.Join(dir, "l"))) },
		"absolute link":    func(t *testing.T, dir string) { must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "l"))) },
		"name":             func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a\xff"), "x", 0o644) },
		"no directory":     func(t *testing.T, dir string) { must(t, os.Remove(dir)) },
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := newFake(t), filepath.Join(t.TempDir(), "d")
			must(t, os.Mkdir(dir, 0o755))
			make(t, dir)
			if got := f.do(t, "put", "-r", dir); got.code != 1 || got.out != "" || len(f.objects) != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestHostileManifests(t *testing.T) {
	addr := b3.Sum([]byte("alpha"))
	file := func(path string) string { return fmt.Sprintf(`{"path":%q,"addr":%q,"size":5}`, path, addr) }
	link := func(path, to string) string { return fmt.Sprintf(`{"path":%q,"link":%q}`, path, to) }
	m := func(entries ...string) string {
		return `{"version":1,"entries":[` + strings.Join(entries, ",") + `]}`
	}
	part := manifest.Entry{Path: "a", Addr: &addr}.Part()
	for name, text := range map[string]string{
		"absolute":           m(file("/tmp/out")),
		"up":                 m(file("../out")),
		"up inside":          m(file("a/../../out")),
		"dot":                m(file(".")),
		"empty name":         m(file("")),
		"not clean":          m(file("a//b")),
		"link out":           m(link("l", "../out")),
		"link to the parent": m(link("l", "..")),
		"link absolute":      m(link("l", "/etc")),
		"link out, detour":   m(link("d/l", "../../out")),
		"link out, inside":   m(link("l", "s/..")),
		"behind a link":      m(link("l", "d"), file("l/out")),
		"link behind a link": m(link("l", "d/e"), link("l/m", "../..")),
		"both":               m(fmt.Sprintf(`{"path":"x","addr":%q,"link":"y"}`, addr)),
		"neither":            m(`{"path":"x"}`),
		"twice":              m(file("a"), file("a")),
		"on another's part":  m(file("a"), file(part)),
		"negative size":      m(fmt.Sprintf(`{"path":"x","addr":%q,"size":-1}`, addr)),
		"bad address":        m(`{"path":"x","addr":"b3:zz"}`),
		"version":            `{"version":2,"entries":[]}`,
		"no JSON":            "hello",
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := newFake(t), t.TempDir()
			f.add("alpha")
			from := f.add(text)
			dst := filepath.Join(dir, "dst")
			got := f.do(t, "get", "-r", from, "-o", dst)
			if got.code != 1 || !strings.Contains(got.err, "manifest") {
				t.Errorf("%+v", got)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("wrote %v", left)
			}
		})
	}
}

// TestTreeStaysInside: links that were in the directory before do not lead out either.
func TestTreeStaysInside(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	addr := b3.Sum([]byte("alpha"))
	f.add("alpha")
	dst, out := filepath.Join(dir, "dst"), filepath.Join(dir, "out")
	must(t, os.Mkdir(dst, 0o755))
	must(t, os.Mkdir(out, 0o755))
	must(t, os.Symlink("../out", filepath.Join(dst, "l")))
	from := f.add(fmt.Sprintf(`{"version":1,"entries":[{"path":"l/f","addr":%q,"size":5}]}`, addr))
	if got := f.do(t, "get", "-r", from, "-o", dst); got.code != 1 {
		t.Errorf("%+v", got)
	}
	if left, _ := os.ReadDir(out); len(left) > 0 {
		t.Errorf("wrote %v outside", left)
	}
}

func TestTreeReusesConnections(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	for i := range 600 {
		write(t, filepath.Join(dir, fmt.Sprintf("f%03d", i)), fmt.Sprint(i), 0o644)
	}
	const jobs = 100
	if got := f.do(t, "put", "-r", dir, "-j", fmt.Sprint(jobs)); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	// A transport may dial for a call that an idle connection then takes: some
	// slack, far below the 1200 calls.
	if n := f.conns.Load(); n > 2*jobs {
		t.Errorf("%d connections for %d jobs", n, jobs)
	}
	t.Log(f.conns.Load(), "connections")
}
