// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package idle

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/operate"
	"github.com/rustyonions/macronode/test/bench/report"
)

const (
	idleSessions = 10_000
	idleBusy     = 100 // of them have traffic in the end
	idleRate     = 500 // calls a second on all of those together
	idlePlain    = 24  // KiB each
	idleTLS      = 40
	idleTail     = 2.0 // times the p99 of an empty node

	mib = 1 << 20
)

// Bench is what a measurement needs.
type Bench struct {
	Bin   string        // folder of macronode
	Dir   string        // scratch, on a real disk
	Span  time.Duration // of the calls
	Procs *children.Group
}

// Measure opens sessions of OAP/1 that say HELLO and make one call, and looks
// at what the node holds for them, and at calls on some of them.
func (b *Bench) Measure(ctx context.Context) (*report.Section, error) {
	sec := &report.Section{Head: []string{"what", "value", "goal", ""}}
	sec.Note("%d sessions of OAP/1, each on a connection of its own that says HELLO, reads 1 KiB and is then idle; the node's resident memory (VmRSS) once it stands still, less that of the same node with %d sessions, "+
		"divided by how many more they are. Then %d calls a second for %s in turn on %d of the sessions, times from when each was due, with what refusals take; the same before, with no other sessions than those. "+
		"The sessions' other ends are a process of their own, on the same machine; what the kernel holds for sockets is not counted.", idleSessions, idleBusy, idleRate, b.Span, idleBusy)
	for _, secure := range []bool{false, true} {
		if err := b.idle(ctx, sec, secure); err != nil {
			return nil, err
		}
		b.Procs.KillAll()
	}
	return sec, nil
}

// idle measures one node.
func (b *Bench) idle(ctx context.Context, sec *report.Section, secure bool) error {
	name, goal, note := "plain", idlePlain, "tls off"
	load := Load{Busy: idleBusy, Rate: idleRate, Span: b.Span}
	dir, err := os.MkdirTemp(b.Dir, "idle-")
	if err != nil {
		return err
	}
	n, err := operate.Init(ctx, b.Bin, dir)
	if err != nil {
		return err
	}
	room := strconv.Itoa(2 * idleSessions)
	limits := operate.Set("server", map[string]string{"max_conns": room, "max_conns_per_ip": room, "idle_timeout": `"10m"`})
	if secure {
		name, goal, note = "TLS", idleTLS, "[server] tls with an imported P-256 key"
		authority, err := operate.NewAuthority()
		if err != nil {
			return err
		}
		pair, err := authority.NewPair(dir)
		if err != nil {
			return err
		}
		load.Chain = pair.Chain
		if err := authority.ServeTLS(ctx, n, pair); err != nil {
			return err
		}
	}
	if err := n.Edit(ctx, limits); err != nil {
		return err
	}
	s, err := n.Run(ctx, b.Procs, filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	sec.Servers = append(sec.Servers, "`macronode run --config DIR/macronode.bundle.toml --data DIR` after `macronode init --tls none --tenant bench`, "+note+", `max_conns` and `max_conns_per_ip` "+room)
	if load.Cap, load.Object, err = oneObject(ctx, n); err != nil {
		return s.Failed(err)
	}
	load.Addr = n.OAP
	before, err := b.sessions(ctx, s, load, idleBusy)
	if err != nil {
		return err
	}
	empty := before.memory
	full, err := b.sessions(ctx, s, load, idleSessions)
	if err != nil {
		return s.Failed(err)
	}
	each := float64(full.memory-empty) / (idleSessions - idleBusy) / 1024
	met := each <= float64(goal)
	sec.Value(name+": an idle session", fmt.Sprintf("%.1f KiB (node %.0f MiB, %.0f MiB with %d)", each, float64(full.memory)/float64(mib), float64(empty)/float64(mib), idleBusy), fmt.Sprintf("≤ %d KiB", goal), &met)
	ratio := full.result.P99 / before.result.P99
	met = ratio <= idleTail
	sec.Value(name+fmt.Sprintf(": p99 of calls on %d of %d", idleBusy, idleSessions), fmt.Sprintf("%.2f ms, %.2f ms with no others: %.2f×", full.result.P99, before.result.P99, ratio), fmt.Sprintf("≤ %g×", idleTail), &met)
	for _, r := range []struct {
		server string
		idleRun
	}{{"empty", before}, {"full", full}} {
		sec.Runs = append(sec.Runs, report.Run{Cell: name, Server: r.server, Rounds: []report.Result{r.result}})
	}
	return nil
}

// oneObject stores what is read; the capability is as it goes over the wire.
func oneObject(ctx context.Context, n *operate.Node) (cap []byte, addr string, err error) {
	token, err := n.Token()
	if err != nil {
		return nil, "", err
	}
	text, ok := strings.CutPrefix(token, capability.TextPrefix)
	if !ok {
		return nil, "", fmt.Errorf("the tenant's token does not begin with %s", capability.TextPrefix)
	}
	if cap, err = base64.RawURLEncoding.DecodeString(text); err != nil {
		return nil, "", err
	}
	c, err := client.Dial(n.URL, client.Options{Token: token, CA: n.Roots})
	if err != nil {
		return nil, "", err
	}
	defer c.Close()
	put, err := c.Put(ctx, bytes.NewReader(make([]byte, 1<<10)), client.PutOptions{})
	return cap, put.Addr.String(), err
}

// Hold is the process of the other ends: a load comes in; how many are
// open goes out; a line comes in; how long calls took goes out.
func Hold([]string) error {
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	var load Load
	if err := json.Unmarshal(line, &load); err != nil {
		return err
	}
	ctx := context.Background()
	s, err := load.Open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(load.Sessions); err != nil {
		return err
	}
	if _, err := in.ReadBytes('\n'); err != nil {
		return err
	}
	took, err := s.Drive(ctx)
	if err != nil {
		return err
	}
	slices.Sort(took)
	return out.Encode(took)
}

// idleRun is what one set of sessions came to.
type idleRun struct {
	memory int64 // of the node, while all were idle
	result report.Result
}

// sessions runs the other ends in a process of their own.
func (b *Bench) sessions(ctx context.Context, s *children.Proc, load Load, count int) (idleRun, error) {
	load.Sessions = count
	in, err := json.Marshal(load)
	if err != nil {
		return idleRun{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return idleRun{}, err
	}
	var errs bytes.Buffer
	cmd := children.Command(ctx, self, "sessions")
	cmd.Stderr = &errs
	to, err1 := cmd.StdinPipe()
	from, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return idleRun{}, err
	}
	if err := cmd.Start(); err != nil {
		return idleRun{}, err
	}
	failed := func(err error) (idleRun, error) {
		_ = cmd.Cancel()
		_ = cmd.Wait()
		return idleRun{}, fmt.Errorf("sessions: %w\n%s", err, errs.Bytes())
	}
	if _, err := to.Write(append(in, '\n')); err != nil {
		return failed(err)
	}
	out := json.NewDecoder(from)
	var open int
	if err := out.Decode(&open); err != nil || open != count {
		return failed(fmt.Errorf("%d of %d are open: %w", open, count, err))
	}
	run := idleRun{}
	if run.memory, err = settled(ctx, s); err != nil {
		return failed(err)
	}
	if _, err := to.Write([]byte("go\n")); err != nil {
		return failed(err)
	}
	var took []time.Duration
	if err := out.Decode(&took); err != nil || len(took) == 0 {
		return failed(fmt.Errorf("no call came back: %w", err))
	}
	_ = to.Close()
	if err := cmd.Wait(); err != nil {
		return idleRun{}, fmt.Errorf("sessions: %w\n%s", err, errs.Bytes())
	}
	run.result = report.Result{Rate: float64(len(took)) / load.Span.Seconds(), P50: at(took, 0.5), P99: at(took, 0.99)}
	return run, nil
}

// at is a quantile of sorted times, in milliseconds.
func at(took []time.Duration, q float64) float64 {
	return took[int(q*float64(len(took)-1))].Seconds() * 1e3
}

// settled is a process's memory once it has not grown nor shrunk by more than a
// hundredth for three seconds, or half a minute has passed.
func settled(ctx context.Context, p *children.Proc) (int64, error) {
	var last int64
	for still, tries := 0, 0; ; tries++ {
		now, err := p.Memory()
		if err != nil {
			return 0, err
		}
		if d := now - last; d < last/100 && d > -last/100 {
			still++
		} else {
			still, last = 0, now
		}
		if still == 3 || tries == 30 {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
