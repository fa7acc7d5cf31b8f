// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client/mailbox"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

const (
	// pollWait is how long a call waits for messages, where the flags do not say.
	pollWait = 20 * time.Second
	// drainWait is the same where nothing more is expected.
	drainWait = time.Second
	// graceOfCommands is how long commands may go on after an interrupt.
	graceOfCommands = time.Minute
	// errBytes is how much of a command's last words is kept as the reason.
	errBytes = 200
)

// runEach runs the command for each message.
func (a *app) runEach(ctx context.Context, t *mailbox.Topic, f *recvFlags) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	wait := pollWait
	if f.drain {
		wait = drainWait
	}
	if f.wait > 0 {
		wait = f.wait
	}
	q := &quota{Source: t, stop: stop, left: -1, drain: f.drain}
	if f.n > 0 {
		q.left = f.n
	}
	var out sync.Mutex // of a.Out and a.Err
	var handled, bad atomic.Int64
	c := mailbox.Consumer{From: q, Concurrency: f.jobs, Prefetch: -1, Visibility: f.visibility, Wait: wait, Grace: graceOfCommands,
		Handle: func(ctx context.Context, m *mailbox.Delivery) error {
			defer q.done()
			err := a.command(ctx, f.exec, m, &out)
			if handled.Add(1); err != nil {
				bad.Add(1)
			}
			return err
		},
		Report: func(err error) {
			out.Lock()
			defer out.Unlock()
			fmt.Fprintln(a.Err, err)
		}}
	err := c.Run(ctx)
	perr := a.Print(map[string]int64{"handled": handled.Load(), "failed": bad.Load()}, func(io.Writer) {
		fmt.Fprintf(a.Err, "handled %d messages, %d failed\n", handled.Load(), bad.Load())
	})
	switch {
	case err != nil:
		return err
	case bad.Load() > 0:
		return cli.ExitSilently(errFailed, macronode.ExitFailed)
	}
	return perr
}

// errFailed is what the summary told.
var errFailed = errors.New("commands failed")

// command runs the shell's command line over one message.
func (a *app) command(ctx context.Context, line string, m *mailbox.Delivery, out *sync.Mutex) error {
	c := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	// A command that is told to end may do so in good order.
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	c.Stdin = bytes.NewReader(m.Payload)
	c.Env = append(os.Environ(), environment(m)...)
	last := &lastWords{to: a.Err, mu: out}
	c.Stdout, c.Stderr = &shared{a.Out, out}, last
	// An interrupt of the terminal is ours to heed, not the command's.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := c.Run()
	if err == nil {
		return nil
	}
	if text := last.text(); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// environment is what a command is told of its message.
func environment(m *mailbox.Delivery) []string {
	env := []string{"RON_MSG_ID=" + m.MsgID, "RON_TOPIC=" + m.Topic, "RON_ATTEMPT=" + strconv.Itoa(m.Attempt), "RON_KEY=" + clean(m.Key), "RON_CORR_ID=" + m.CorrID}
	for _, name := range sorted(m.Attrs) {
		env = append(env, "RON_ATTR_"+variable(name)+"="+clean(m.Attrs[name]))
	}
	return env
}

// clean cuts what an environment cannot hold.
func clean(s string) string { return strings.ReplaceAll(s, "\x00", "") }

// variable is an attribute's name as a shell's: A-Z, 0-9 and _.
func variable(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(name))
}

// quota lets so many messages through, and stops the consumer once they are handled;
// with drain, once there is nothing more. What came of the last is told to the node
// while the consumer stops.
type quota struct {
	mailbox.Source
	stop  func()
	drain bool

	mu   sync.Mutex
	left int // to be received; -1: any number
	held int
}

func (q *quota) Receive(ctx context.Context, w mailbox.Want) ([]mailbox.Delivery, error) {
	q.mu.Lock()
	left := q.left
	q.mu.Unlock()
	if left == 0 { // the rest is being handled
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if left > 0 {
		w.Max = min(w.Max, left)
	}
	got, err := q.Source.Receive(ctx, w)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held += len(got)
	if q.left > 0 {
		q.left -= min(len(got), q.left)
	}
	if q.drain && len(got) == 0 && (err == nil || missing(err)) && q.held == 0 {
		q.stop()
	}
	return got, err
}

// done notes that a message was handled.
func (q *quota) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held--; q.left == 0 && q.held <= 0 {
		q.stop()
	}
}

// shared is a writer of several commands.
type shared struct {
	to io.Writer
	mu *sync.Mutex
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to.Write(p)
}

// lastWords passes what is written on, and keeps its end.
type lastWords struct {
	to   io.Writer
	mu   *sync.Mutex
	kept []byte
}

func (l *lastWords) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept = append(l.kept, p...); len(l.kept) > errBytes {
		l.kept = bytes.Clone(l.kept[len(l.kept)-errBytes:])
	}
	return l.to.Write(p)
}

func (l *lastWords) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.TrimSpace(strings.ToValidUTF8(string(l.kept), ""))
	if at := strings.LastIndexByte(text, '\n'); at >= 0 {
		text = text[at+1:]
	}
	return text
}
