// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package children

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Killing a server ends what it started too; its figures can be read while it
// runs.
func TestProc(t *testing.T) {
	var ps Group
	dir := t.TempDir()
	p, err := ps.Start("shell", filepath.Join(dir, "log"), nil, "sh", "-c", "sleep 600 & echo $! >"+filepath.Join(dir, "child.tmp")+"; mv "+filepath.Join(dir, "child.tmp")+" "+filepath.Join(dir, "child")+"; wait")
	if err != nil {
		t.Fatal(err)
	}
	defer ps.KillAll()
	var child int
	for deadline := time.Now().Add(20 * time.Second); child == 0; {
		text, _ := os.ReadFile(filepath.Join(dir, "child"))
		child, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		if time.Now().After(deadline) {
			t.Fatal("the shell started nothing")
		}
	}
	if n, err := p.Peak(); err != nil || n < 100<<10 || n > 1<<30 {
		t.Errorf("VmHWM %d, %v", n, err)
	}
	if d, err := p.CPU(); err != nil || d < 0 || d > time.Minute {
		t.Errorf("cpu %s, %v", d, err)
	}
	ps.KillAll()
	for deadline := time.Now().Add(20 * time.Second); ; {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(child) + "/stat")
		if err != nil || bytes.Contains(stat, []byte(") Z ")) || errors.Is(syscall.Kill(child, 0), syscall.ESRCH) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the child lives on")
		}
	}
	if len(ps.all) != 0 {
		t.Error("an ended server is still listed")
	}
	if err := p.Ready(t.Context(), "http://127.0.0.1:1/"); err == nil {
		t.Error("an ended server is ready")
	}
}
