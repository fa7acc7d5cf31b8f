// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package buildinfo

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestFill(t *testing.T) {
	all := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"}}
	tests := []struct {
		name     string
		have     Info
		settings []debug.BuildSetting
		want     Info
	}{
		{"nothing recorded", Info{}, nil, Info{}},
		{"all recorded", Info{}, all, Info{GitSHA: "abc-dirty", BuildTS: "2026-01-02T03:04:05Z"}},
		{"clean", Info{}, all[:2], Info{GitSHA: "abc", BuildTS: "2026-01-02T03:04:05Z"}},
		{"the linker's word counts", Info{GitSHA: "def", BuildTS: "x"}, all, Info{GitSHA: "def", BuildTS: "x"}},
	}
	for _, tt := range tests {
		got := tt.have
		got.fill(tt.settings)
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestReadLeavesNothingEmpty(t *testing.T) {
	i := Read()
	if i.Semver == "" || i.GitSHA == "" || i.BuildTS == "" || i.Go != runtime.Version() {
		t.Errorf("%+v", i)
	}
}

func TestDocumentHasTheContractsMembers(t *testing.T) {
	b, err := json.Marshal(Read().Document("b3:00", Config{Version: 12, BundleHash: "blake3:00"}, PQ{"hybrid", "hybrid"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{`"service":"macronode"`, `"semver":`, `"git_sha":`, `"build_ts":`, `"go":"go1`, `"node_id":"b3:00"`,
		`"api":{"http":"v1","oap":1}`, `"features":{"zk":`, `"arti":`, `"amnesia":`, `"pq":true}`,
		`"config":{"version":12,"bundle_hash":"blake3:00"}`, `"pq":{"kex":"hybrid","signatures":"hybrid"}`} {
		if !strings.Contains(string(b), m) {
			t.Errorf("%s lacks %s", b, m)
		}
	}
}

func TestCheck(t *testing.T) {
	cfg := Config{Version: 3, BundleHash: "blake3:aa"}
	good := Read().Document("b3:01", cfg, PQ{"hybrid", "hybrid"})
	change := func(f func(*Version)) []byte {
		v := good
		f(&v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tests := map[string]struct {
		doc []byte
		ok  bool
	}{
		"own":           {change(func(*Version) {}), true},
		"other semver":  {change(func(v *Version) { v.Semver = "9.9.9" }), false},
		"other sha":     {change(func(v *Version) { v.GitSHA = "0" }), false},
		"other feature": {change(func(v *Version) { v.Features.ZK = !v.Features.ZK }), false},
		"other node":    {change(func(v *Version) { v.NodeID = "b3:02" }), false},
		"old config":    {change(func(v *Version) { v.Config.Version = 2 }), false},
		"no posture":    {change(func(v *Version) { v.PQ.KEX = "" }), false},
		"no JSON":       {[]byte("{"), false},
		"empty":         {nil, false},
		"too long":      {append(change(func(*Version) {}), make([]byte, maxDocumentBytes)...), false},
		"extra member":  {[]byte(`{"x":1}`), false},
	}
	for name, tt := range tests {
		if err := Check(tt.doc, "b3:01", cfg); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLinkerVariables builds a binary as the release does, so that a renamed
// variable does not silently turn the version into "unknown".
func TestLinkerVariables(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary")
	}
	const pkg = "github.com/rustyonions/macronode/internal/buildinfo"
	out := filepath.Join(t.TempDir(), "t")
	cmd := exec.Command("go", "test", "-c", "-o", out, "-ldflags", "-X "+pkg+".semver=7.8.9 -X "+pkg+".gitSHA=cafe -X "+pkg+".buildTS=2026-01-02T03:04:05Z", pkg)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	run := exec.Command(out, "-test.run=^TestPrintForLinker$", "-test.v")
	b, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(b), "7.8.9 cafe 2026-01-02T03:04:05Z") {
		t.Errorf("%v\n%s", err, b)
	}
}

func TestPrintForLinker(t *testing.T) {
	i := Read()
	t.Log(i.Semver, i.GitSHA, i.BuildTS)
}
