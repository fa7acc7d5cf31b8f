// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Machine says what the figures were taken on: the built node in bin, and the
// disk of dir.
func Machine(ctx context.Context, bin, dir string) []string {
	first := func(file, key string) string {
		data, _ := os.ReadFile(file)
		for line := range strings.Lines(string(data)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
				return strings.TrimSpace(v)
			}
		}
		return "unknown"
	}
	out := func(name string, args ...string) string {
		text, err := exec.CommandContext(ctx, name, args...).Output()
		if err != nil {
			return "unknown"
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		return line
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	commit := out("git", "rev-parse", "HEAD")
	if out("git", "status", "--porcelain", "-uno", "--", "*.go") != "" {
		commit += " with changes not committed"
	}
	return []string{
		"date: " + time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		"commit: " + commit,
		"node: " + out(filepath.Join(bin, "macronode"), "version"),
		fmt.Sprintf("machine: %s, %d cores, %s of memory, Linux %s", first("/proc/cpuinfo", "model name"), runtime.NumCPU(), first("/proc/meminfo", "MemTotal"), strings.TrimSpace(string(kernel))),
		"disk: " + out("findmnt", "-no", "SOURCE,FSTYPE,OPTIONS", "-T", dir),
		"Go: " + out("go", "env", "GOVERSION"),
		fmt.Sprintf("load before the run (1, 5, 15 minutes): %s; clients and servers share the cores", strings.Join(strings.Fields(string(load))[:3], " ")),
	}
}
