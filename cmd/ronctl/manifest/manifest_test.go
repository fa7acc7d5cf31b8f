// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestLinksThatLeadOut(t *testing.T) {
	for _, tc := range []struct {
		name, target string
		out          bool
	}{
		{"l", "a", false}, {"l", "./a/b/", false}, {"l", "", false}, {"l", "..", true}, {"l", "../a", true}, {"l", "/a", true}, {"l", "a\x00", true},
		{"d/l", "..", false}, {"d/l", "../a", false}, {"d/l", "../..", true}, {"d/l", "a/..", true}, {"d/l", "../a/..", true}, {"d/e/l", "../../x", false},
	} {
		if leadsOut(tc.name, tc.target) != tc.out {
			t.Errorf("%s to %q leads out: %v", tc.name, tc.target, !tc.out)
		}
	}
}

// TestLinksStayInside makes what leadsOut allows, links behind links too, and asks
// the system where they lead.
func TestLinksStayInside(t *testing.T) {
	targets := []string{"a", "d", "d/e", ".", "./d", "..", "../d", "../a", "../..", "d/..", "d/l", "l", "../l", "d/l/x", "l/..", "../l/d", "/"}
	outside, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, top := range targets {
		for _, deep := range targets {
			if leadsOut("l", top) || leadsOut("d/l", deep) {
				continue
			}
			n++
			dir := filepath.Join(outside, "t")
			if err := os.MkdirAll(filepath.Join(dir, "d", "e"), 0o755); err != nil {
				t.Fatal(err)
			}
			for name, target := range map[string]string{"l": top, "d/l": deep} {
				if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range []string{"l", "d/l"} {
				to, err := filepath.EvalSymlinks(filepath.Join(dir, name))
				if err == nil && to != dir && !bytes.HasPrefix([]byte(to), []byte(dir+"/")) {
					t.Errorf("l to %q, d/l to %q: %s leads to %s", top, deep, name, to)
				}
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d trees", n)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"entries":[{"path":"a/b","link":"../c"},{"path":"c","link":"a"}]}`))
	f.Add([]byte(`{"version":1,"entries":[{"path":"a","addr":"b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262","exec":true}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Decode(text)
		if err != nil {
			return
		}
		for _, e := range m.Entries {
			if !filepath.IsLocal(e.Path) || filepath.IsAbs(e.Link) || e.Link != "" && !filepath.IsLocal(filepath.Join(filepath.Dir(e.Path), e.Link)) {
				t.Fatalf("%q to %q", e.Path, e.Link)
			}
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
	})
}
