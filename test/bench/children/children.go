// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package children runs the servers that are measured, looks at what they use,
// and leaves none of them behind.
package children

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Group are the running servers.
type Group struct {
	// Before is put before each command, Env into each environment: taskset and
	// its like, which become the server.
	Before, Env []string

	mu  sync.Mutex
	all map[*Proc]bool
}

// Proc is a server in a process group of its own.
type Proc struct {
	name string
	cmd  *exec.Cmd
	log  string // file of its output
	done chan struct{}
	err  error // after done
	home *Group
}

// Start runs a server, its output in a file. The kernel ends it with this
// process, whatever becomes of that.
func (ps *Group) Start(name, log string, env []string, command ...string) (*Proc, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	command = slices.Concat(ps.Before, command)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = slices.Concat(os.Environ(), ps.Env, env)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		_ = out.Close()
		return nil, err
	}
	p := &Proc{name: name, cmd: cmd, log: log, done: make(chan struct{}), home: ps}
	ps.mu.Lock()
	if ps.all == nil {
		ps.all = map[*Proc]bool{}
	}
	ps.all[p] = true
	ps.mu.Unlock()
	go func() {
		p.err = cmd.Wait()
		_ = out.Close()
		ps.mu.Lock()
		delete(ps.all, p)
		ps.mu.Unlock()
		close(p.done)
	}()
	return p, nil
}

// KillAll ends every server at once and waits for them.
func (ps *Group) KillAll() {
	ps.mu.Lock()
	var all []*Proc
	for p := range ps.all {
		all = append(all, p)
	}
	ps.mu.Unlock()
	for _, p := range all {
		p.Kill()
	}
}

// Kill is kill -9 for the whole group.
func (p *Proc) Kill() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// Stop asks it to end, and kills it after a minute.
func (p *Proc) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(time.Minute):
		p.Kill()
		return fmt.Errorf("%s did not stop within a minute", p.name)
	}
}

// Ready waits until url answers 200.
func (p *Proc) Ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// Certificates are not looked at: the server was started here.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 5 * time.Second}
	for {
		select {
		case <-p.done:
			return p.Failed(fmt.Errorf("ended: %w", p.err))
		case <-ctx.Done():
			return p.Failed(fmt.Errorf("not ready: %w", ctx.Err()))
		case <-time.After(2 * time.Millisecond):
		}
		res, err := client.Get(url)
		if err != nil {
			continue
		}
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return nil
		}
	}
}

// Failed adds the end of the server's output to an error.
func (p *Proc) Failed(err error) error {
	text, _ := os.ReadFile(p.log)
	return fmt.Errorf("%s: %w\n%s", p.name, err, text[max(0, len(text)-2000):])
}

// PID is the process's number.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Done is closed once the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Peak is the most memory the process has held, in bytes (VmHWM).
func (p *Proc) Peak() (int64, error) { return p.status("VmHWM:") }

// Memory is what the process holds now, in bytes (VmRSS).
func (p *Proc) Memory() (int64, error) { return p.status("VmRSS:") }

func (p *Proc) status(field string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in /proc", field)
}

// CPU is the processor time the process has used.
func (p *Proc) CPU() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold spaces; utime and stime are the 12th and
	// 13th field behind it, in hundredths of a second.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("short /proc stat")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// Command is a client that runs to its end; with ctx its whole group ends.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// FreePort is a port that nobody listens on now.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// CountFiles counts the files and their bytes below dir.
func CountFiles(dir string) (files int, size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return files, size, err
}
