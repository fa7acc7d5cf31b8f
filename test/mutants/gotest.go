// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// verdict is what one go test said.
type verdict struct {
	passed []string
	failed []string // subtests before the tests that hold them
	build  bool     // something did not compile
	broken bool     // a package failed, whether or not a test of it did
	output string   // the end of it
}

func (v *verdict) hasFailed(test string) bool { return slices.Contains(v.failed, test) }

// maxOutput bounds what is kept of a command's output.
const maxOutput = 4000

// buildGrace is how long compiling may take on top of the tests' own limit.
const buildGrace = 5 * time.Minute

// goTest runs go test -json with the files that overlay (a file's name, or "")
// replaces. An error says that it could not be run, not that a test failed.
func (h *hunt) goTest(ctx context.Context, overlay string, args []string) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, h.timeout+buildGrace)
	defer cancel()
	full := []string{"test", "-json", "-count=1", "-vet=off", "-timeout", h.timeout.String()}
	if overlay != "" {
		full = append(full, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(full, args...)...)
	cmd.Dir = h.root
	// Property tests write what failed into the source tree, unless told not to.
	cmd.Env = append(os.Environ(), "RAPID_NOFAILFILE=true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return verdict{}, err
	}
	if err := cmd.Start(); err != nil {
		return verdict{}, err
	}
	v, readErr := readEvents(out)
	_, _ = io.Copy(io.Discard, out)
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return v, fmt.Errorf("go test %s: %w", strings.Join(args, " "), ctx.Err())
	}
	if _, exited := errors.AsType[*exec.ExitError](waitErr); waitErr != nil && !exited {
		return v, waitErr
	}
	if readErr != nil {
		return v, readErr
	}
	// Whatever fails without an event (a package that is not there, a bad flag)
	// is no verdict on the code.
	if waitErr != nil && !v.broken && !v.build {
		return v, fmt.Errorf("go test %s: %w\n%s", strings.Join(args, " "), waitErr, stderr.Bytes())
	}
	return v, nil
}

// event is a line of go test -json (see go doc test2json, and buildjson).
type event struct {
	Action, Package, Test, Output, FailedBuild string
}

// readEvents reads the lines of go test -json.
func readEvents(r io.Reader) (verdict, error) {
	var v verdict
	var tail bytes.Buffer
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return v, fmt.Errorf("go test -json printed %.200q: %w", lines.Text(), err)
		}
		switch e.Action {
		case "output", "build-output":
			tail.WriteString(e.Output)
			if tail.Len() > 2*maxOutput {
				tail.Next(tail.Len() - maxOutput)
			}
		case "build-fail":
			v.build = true
		case "pass":
			if e.Test != "" {
				v.passed = append(v.passed, e.Test)
			}
		case "fail":
			v.build = v.build || e.FailedBuild != ""
			if e.Test != "" {
				v.failed = append(v.failed, e.Test)
			} else {
				v.broken = true
			}
		}
	}
	text := tail.String()
	v.output = text[max(0, len(text)-maxOutput):]
	return v, lines.Err()
}
