// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDrills carries every drill out against the node that lies beside ronctl.
func TestDrills(t *testing.T) {
	var list struct{ Drills []struct{ Name string } }
	if err := json.Unmarshal([]byte(command(t, nil, nil, "ronctl", "drill", "list", "--output", "json").must(t, 0).out), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Drills) < 10 {
		t.Fatalf("only %d drills", len(list.Drills))
	}
	scratch := t.TempDir()
	for _, d := range list.Drills {
		r := command(t, []string{"TMPDIR=" + scratch}, nil, "ronctl", "drill", "run", d.Name, "--output", "json")
		var doc struct {
			Pass   bool
			Drills []struct {
				Name, Error, Dir string
				Pass, Kept       bool
				Seconds          float64
				Steps            []struct {
					Did, Expect, Saw string
					Pass             bool
				}
			}
		}
		if err := json.Unmarshal([]byte(r.out), &doc); err != nil || r.code != 0 || !doc.Pass || len(doc.Drills) != 1 {
			t.Errorf("%s: exit %d %v\n%s%s", d.Name, r.code, err, r.out, r.err)
			continue
		}
		done := doc.Drills[0]
		if done.Name != d.Name || !done.Pass || done.Kept || len(done.Steps) < 3 || done.Seconds > 30 {
			t.Errorf("%+v", done)
		}
		for _, s := range done.Steps {
			if s.Did == "" || s.Expect == "" || s.Saw == "" || !s.Pass {
				t.Errorf("%s: %+v", d.Name, s)
			}
		}
		if _, err := os.Stat(done.Dir); done.Dir == "" || !os.IsNotExist(err) {
			t.Errorf("%s leaves %q: %v", d.Name, done.Dir, err)
		}
		t.Logf("%s: %d steps in %.1f s", d.Name, len(done.Steps), done.Seconds)
	}
}

// TestDrillCut: a drill that is interrupted leaves no process and no directory; one
// that is killed leaves no process.
func TestDrillCut(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		code   int
		clean  bool
	}{{syscall.SIGINT, 1, true}, {syscall.SIGTERM, 1, true}, {syscall.SIGHUP, 1, true}, {syscall.SIGKILL, -1, false}} {
		dir := t.TempDir()
		cmd := exec.Command(binary(t, "ronctl"), "drill", "run", "corrupt-object", "decompression-bomb", "corrupt-object", "decompression-bomb", "--dir", dir)
		log := &tail{}
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		var at struct{ PID int }
		until(t, "the drill's node runs", func() bool {
			found, _ := filepath.Glob(filepath.Join(dir, "*", "data", "endpoints.json"))
			if len(found) != 1 {
				return false
			}
			text, err := os.ReadFile(found[0])
			return err == nil && json.Unmarshal(text, &at) == nil && at.PID > 0
		})
		if !running(at.PID) {
			t.Fatalf("no process %d", at.PID)
		}
		cmd.Process.Signal(c.signal)
		select {
		case err := <-done:
			if got := code(t, err); got != c.code {
				t.Errorf("%s: exit %d, want %d\n%s", c.signal, got, c.code, log)
			}
		case <-time.After(patience):
			cmd.Process.Kill()
			t.Fatalf("%s does not end the drill\n%s", c.signal, log)
		}
		if c.clean && !strings.Contains(log.String(), "interrupted") {
			t.Errorf("%s: %s", c.signal, log)
		}
		until(t, "the drill's node is gone", func() bool { return !running(at.PID) })
		if left, err := os.ReadDir(dir); err != nil || c.clean && len(left) > 0 {
			t.Errorf("%s leaves %v %v", c.signal, left, err)
		}
	}
}

// running reports whether there is such a process, and it is more than a name that
// nobody has asked for yet.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(text), ") ")
	return ok && !strings.HasPrefix(rest, "Z")
}

// until polls until ok, or the end of patience.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		case <-tick.C:
		}
	}
}
