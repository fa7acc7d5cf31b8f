// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/inspect"
	"github.com/rustyonions/macronode/internal/provision"
)

// fsck finds a damaged audit log and names the place, restores it from an export, and
// then the node runs and goes on; with an export that was changed nothing is done.
func TestAuditFsck(t *testing.T) {
	o := production(t, provision.TLSNone)
	n := begin(t, o)
	for range 5 {
		if a := n.over(t, 0, ask{op: "cap.mint", body: `{}`, cap: datadir.OperatorCapName}); a.status >= 300 {
			t.Fatalf("%d %s", a.status, a.detail)
		}
	}
	export := filepath.Join(t.TempDir(), "export")
	poll(t, "an export", func() bool {
		a := n.over(t, 0, ask{op: "audit.export", cap: datadir.OperatorCapName})
		write(t, export, a.body)
		return a.status == 200 && strings.Count(a.body, `"kind":"cap.mint"`) == 5
	})
	end(t, n)
	fsck := func(f inspect.FsckOptions) *inspect.FsckReport {
		t.Helper()
		r, err := inspect.Fsck(t.Context(), o.Dir, f)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := fsck(inspect.FsckOptions{}); r.ExitCode != macronode.ExitOK || r.Audit.State != "whole" || r.Audit.Records < 6 || r.Audit.Checkpoint != r.Audit.Records {
		t.Fatalf("%s, %+v", r.Outcome, r.Audit)
	}
	segments, err := filepath.Glob(filepath.Join(o.Dir, datadir.AuditDir, "log", "*"))
	if err != nil {
		t.Fatal(err)
	}
	hurt := 0
	for _, name := range segments {
		b, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(b, []byte("cap.mint")) {
			continue
		}
		write(t, name, strings.Replace(string(b), "cap.mint", "cap.mind", 1))
		hurt++
	}
	if hurt == 0 {
		t.Fatal("no record was found on disk")
	}
	if r := fsck(inspect.FsckOptions{Repair: true}); r.ExitCode != macronode.ExitLost || r.Audit.State != "damaged" || !strings.Contains(r.Findings[0].Detail, "record ") {
		t.Fatalf("%s, %+v %+v", r.Outcome, r.Audit, r.Findings)
	}
	text, err := os.ReadFile(export)
	if err != nil {
		t.Fatal(err)
	}
	bad := export + ".bad"
	write(t, bad, strings.Replace(string(text), `"actor":"cap:`, `"actor":"caq:`, 1))
	if r := fsck(inspect.FsckOptions{Repair: true, FromExport: bad}); r.ExitCode != macronode.ExitLost || !strings.Contains(r.Findings[0].Detail, "tampered") {
		t.Fatalf("%s, %+v", r.Outcome, r.Findings)
	}
	// The stop was recorded behind the export: that is whole in the log.
	if r := fsck(inspect.FsckOptions{Repair: true, FromExport: export}); r.ExitCode != macronode.ExitRepaired || r.Audit.State != "restored" || r.Audit.Restored < 6 {
		t.Fatalf("%s, %+v %+v", r.Outcome, r.Audit, r.Findings)
	}
	if r := fsck(inspect.FsckOptions{}); r.ExitCode != macronode.ExitOK || r.Audit.State != "whole" {
		t.Fatalf("%s, %+v", r.Outcome, r.Audit)
	}
	n = begin(t, o)
	if a := n.over(t, 0, ask{op: "audit.records", cap: datadir.OperatorCapName, args: map[string]string{"kind": "cap.mint"}}); strings.Count(a.body, `"kind":"cap.mint"`) != 5 {
		t.Errorf("%d %s", a.status, a.detail)
	}
	if a := n.over(t, 0, ask{op: "cap.mint", body: `{}`, cap: datadir.OperatorCapName}); a.status >= 300 {
		t.Errorf("after the repair: %d %s", a.status, a.detail)
	}
}
