// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/ronctl/drill/process"
)

const (
	// startWithin is how long a node gets to become ready.
	startWithin = 10 * time.Second
	// stopWithin is how long a node gets to end by itself.
	stopWithin = 5 * time.Second
	// pollEvery is how often what must come by itself is looked for.
	pollEvery = 20 * time.Millisecond
	tailLines = 40
)

// scene is a drill's directory and the node in it.
type scene struct {
	options Options
	report  Report
	dir     string // the throw-away directory; empty: not made yet
	args    []string
	file    string // the endpoints file
	log     process.Tail
	process *process.Process // nil while none runs

	tenant, operator *client.Client
	tenantName       string // the only tenant
	tenantCap        string // its capability's file
	host             string // of the HTTP interface, with its port
	oapHost          string // of the other one
}

// data is the node's data directory.
func (s *scene) data() string { return filepath.Join(s.dir, "data") }

// makeDir makes the throw-away directory below parent, or where the options say.
func (s *scene) makeDir(parent string) (err error) {
	s.dir, err = os.MkdirTemp(cmp.Or(s.options.Dir, parent), "ronctl-drill-*")
	s.report.Dir = s.dir
	return err
}

// startDev starts a development node, without TLS, on ports that are free.
func (s *scene) startDev(ctx context.Context) error {
	if err := s.makeDir(""); err != nil {
		return err
	}
	s.tenantName = "dev"
	s.file = filepath.Join(s.data(), "endpoints.json")
	s.args = []string{"run", "--data", s.data(), "--http", "127.0.0.1:0", "--oap", "127.0.0.1:0"}
	return s.start(ctx)
}

// startSigned starts a node from a production directory whose config bundle edit
// has changed; it is signed again. The directory is made.
func (s *scene) startSigned(ctx context.Context, edit func(text string) string) error {
	s.tenantName = "drill"
	err := s.macronode(ctx, "init", "--data", s.data(), "--http", "127.0.0.1:0", "--oap", "127.0.0.1:0", "--tls", "none",
		"--tenant", s.tenantName, "--recovery-out", filepath.Join(s.dir, "recovery.key"))
	if err != nil {
		return err
	}
	bundle := filepath.Join(s.data(), "macronode.bundle.toml")
	text, err := os.ReadFile(bundle)
	if err != nil {
		return err
	}
	if err := os.WriteFile(bundle, []byte(edit(string(text))), 0o600); err != nil {
		return err
	}
	if err := s.macronode(ctx, "bundle", "sign", bundle, "--data", s.data(), "--bump"); err != nil {
		return err
	}
	s.file = filepath.Join(s.dir, "endpoints.json")
	s.args = []string{"run", "--config", bundle, "--data", s.data(), "--endpoints", s.file}
	return s.start(ctx)
}

// macronode runs a command of the node's binary to its end.
func (s *scene) macronode(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, s.options.Binary, args...)
	c.Env = s.environ()
	var out bytes.Buffer
	c.Stdout, c.Stderr, c.WaitDelay = &out, &out, stopWithin
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", s.options.Binary, args[0], err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// environ is what the node sees: nothing that would change its config.
func (s *scene) environ() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir}
}

// start runs the node and waits until it is ready.
func (s *scene) start(ctx context.Context) error {
	if err := os.Remove(s.file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // of a run before
	}
	p, err := process.Launch(s.options.Binary, s.args, s.environ(), &s.log)
	if err != nil {
		return err
	}
	s.process = p
	return s.await(ctx, startWithin, func() error { return s.connect(ctx) })
}

// connect asks the node whether it is ready, with new clients.
func (s *scene) connect(ctx context.Context) error {
	text, err := os.ReadFile(s.file)
	if err != nil {
		return errors.New("it does not listen yet")
	}
	var at struct {
		HTTP        string `json:"http"`
		OAP         string `json:"oap"`
		OperatorCap string `json:"operator_cap"`
		TenantCap   string `json:"tenant_cap"`
	}
	if err := json.Unmarshal(text, &at); err != nil {
		return err
	}
	s.hangUp()
	s.host, s.oapHost, s.tenantCap = strings.TrimPrefix(at.HTTP, "http://"), at.OAP, at.TenantCap
	if s.tenant, err = dial(at.HTTP, at.TenantCap); err != nil {
		return err
	}
	if s.operator, err = dial(at.HTTP, at.OperatorCap); err != nil {
		return err
	}
	ready, err := s.tenant.Ready(ctx)
	if err == nil && !ready.Ready {
		err = fmt.Errorf("not ready: %s", strings.Join(ready.Missing, ", "))
	}
	return err
}

// dial makes a client that repeats nothing: a drill wants the first answer.
func dial(node, capFile string) (*client.Client, error) {
	token, err := os.ReadFile(capFile)
	if err != nil {
		return nil, err
	}
	return client.Dial(node, client.Options{Token: strings.TrimSpace(string(token)), Retries: -1, UserAgent: "ronctl-drill"})
}

func (s *scene) hangUp() {
	for _, c := range []*client.Client{s.tenant, s.operator} {
		if c != nil {
			c.Close()
		}
	}
	s.tenant, s.operator = nil, nil
}

// await tries f until it returns nil, the time is over, ctx ends or the node does.
func (s *scene) await(ctx context.Context, within time.Duration, f func() error) error {
	late, tick := time.After(within), time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-s.process.Done:
			return fmt.Errorf("the node ended: %v", s.process.Err)
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("not within %s: %w", within, err)
		case <-tick.C:
		}
	}
}

// stop ends the node as SIGTERM does.
func (s *scene) stop(ctx context.Context) error {
	s.hangUp()
	p := s.process
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.Done:
		s.process = nil
		if p.Err != nil {
			return fmt.Errorf("the node ended: %w", p.Err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(stopWithin):
		return fmt.Errorf("the node did not end within %s of SIGTERM", stopWithin)
	}
}

// end leaves nothing: no process, and no directory unless it was to be kept.
func (s *scene) end() error {
	s.hangUp()
	if p := s.process; p != nil {
		s.process = nil
		p.Cmd.Process.Kill() // an error says that it is gone already
		<-p.Done
	}
	if s.dir == "" {
		return nil
	}
	if s.options.Keep {
		s.report.Kept = true
		return os.WriteFile(filepath.Join(s.dir, "node.log"), s.log.Bytes(), 0o600)
	}
	return os.RemoveAll(s.dir)
}

// patiently repeats a call that the node sheds, when it says so.
func patiently(ctx context.Context, call func() error) error {
	for {
		err := call()
		var p *client.Error
		if !errors.As(err, &p) || p.Code != "overload" {
			return err
		}
		select {
		case <-time.After(p.RetryAfter):
		case <-ctx.Done():
			return err
		}
	}
}
