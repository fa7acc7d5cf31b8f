// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/drive"
	"github.com/rustyonions/macronode/test/bench/report"
)

// Raw appends messages to a file that grows, with an fdatasync after each.
func (b *Bench) Raw(ctx context.Context) (_ report.Result, err error) {
	dir, err := b.scratch("raw")
	if err != nil {
		return report.Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)); syscall.Sync() }()
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return report.Result{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	body := Payload()
	return drive.Run(ctx, 1, b.Span, func(ctx context.Context, _, call int) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		Number(body, uint64(call))
		if _, err := f.Write(body); err != nil {
			return err
		}
		return syscall.Fdatasync(int(f.Fd()))
	})
}

// ErrNoTrace: the machine does not let one process look at another's system calls.
var ErrNoTrace = errors.New("strace cannot be used here")

// syncCalls are the system calls that make writes durable.
const syncCalls = "fsync,fdatasync,sync_file_range,msync"

// Syncs counts a server's syncs while load runs.
func (b *Bench) Syncs(ctx context.Context, p *children.Proc, load func() error) (n int64, err error) {
	out, err := os.CreateTemp(b.Dir, "strace-")
	if err != nil {
		return 0, err
	}
	_ = out.Close()
	defer func() { _ = os.Remove(out.Name()) }()
	cmd := exec.CommandContext(ctx, "strace", "-f", "-c", "-U", "calls,name", "-e", "trace="+syncCalls, "-o", out.Name(), "-p", strconv.Itoa(p.PID()))
	says, err := cmd.StderrPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoTrace, err)
	}
	// It says so once it is attached.
	first := make([]byte, 256)
	k, err := says.Read(first)
	if text := string(first[:k]); err != nil || !strings.Contains(text, "attached") {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, fmt.Errorf("%w: %s", ErrNoTrace, strings.TrimSpace(text))
	}
	drained := make(chan struct{})
	go func() { defer close(drained); _, _ = io.Copy(io.Discard, says) }() // its pipe must not fill
	failed := load()
	_ = cmd.Process.Signal(syscall.SIGINT)
	<-drained
	_ = cmd.Wait() // by a signal
	text, err := os.ReadFile(out.Name())
	if err := errors.Join(failed, err); err != nil {
		return 0, err
	}
	return countCalls(string(text)), nil
}

var callLine = regexp.MustCompile(`(?m)^\s*(\d+)\s+(\w+)$`)

// countCalls adds up what strace -c printed.
func countCalls(text string) (n int64) {
	for _, m := range callLine.FindAllStringSubmatch(text, -1) {
		if k, err := strconv.ParseInt(m[1], 10, 64); err == nil && m[2] != "total" {
			n += k
		}
	}
	return n
}
