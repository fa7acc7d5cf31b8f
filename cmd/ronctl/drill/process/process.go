// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package process runs a node for a drill, keeps the last of what it says, and looks
// at what it takes of the machine.
package process

import (
	"bytes"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

const (
	tailBytes = 1 << 20
	// waitDelay is how long the output of a node that ended may still come.
	waitDelay = 5 * time.Second
)

// Process is a node that runs; Err may be read once Done is closed.
type Process struct {
	Cmd  *exec.Cmd
	Done chan struct{}
	Err  error
}

// Launch starts the binary. It ends with this process at the latest, where the
// system can do that; a terminal's ^C reaches it through its drill alone.
func Launch(binary string, args, env []string, log *Tail) (*Process, error) {
	p := &Process{Cmd: exec.Command(binary, args...), Done: make(chan struct{})}
	p.Cmd.Env, p.Cmd.Stdout, p.Cmd.Stderr = env, log, log
	p.Cmd.SysProcAttr, p.Cmd.WaitDelay = attributes(), waitDelay
	started := make(chan error)
	go func() {
		// The death of the thread that started it would end it too.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.Cmd.Start()
		started <- err
		if err == nil {
			p.Err = p.Cmd.Wait()
		}
		close(p.Done)
	}()
	return p, <-started
}

// Tail keeps the last of what a node said.
type Tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > tailBytes {
		t.buf = append([]byte(nil), t.buf[len(t.buf)-tailBytes/2:]...)
	}
	return len(p), nil
}

// Bytes returns all that is kept.
func (t *Tail) Bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf)
}

// Lines returns the last n lines.
func (t *Tail) Lines(n int) []string {
	text := strings.TrimSpace(string(t.Bytes()))
	if text == "" {
		return nil
	}
	all := strings.Split(text, "\n")
	return all[max(0, len(all)-n):]
}
