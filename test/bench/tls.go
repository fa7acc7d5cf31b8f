// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/drive"
	"github.com/rustyonions/macronode/test/bench/handshake"
	"github.com/rustyonions/macronode/test/bench/operate"
	"github.com/rustyonions/macronode/test/bench/report"
)

const (
	tlsWorkers = 16
	tlsGoal    = 0.95 // of the bare server
)

// measureTLS compares full handshakes of the node's listener with those of
// crypto/tls without a node around it: the same key and certificate, the same
// settings.
func measureTLS(ctx context.Context, b *bench) (*report.Section, error) {
	sec := &report.Section{Head: []string{"key exchange", "server", "handshakes/s", "range", "p50 ms", "p99 ms", "server's µs a handshake", "a core's worth /s", "node is", "goal", ""}}
	sec.Note("Full TLS 1.3 handshakes, no resumption, P-256 certificate, %d clients that hang up when the handshake is done; %s a run, the servers in turn, %d rounds, medians. "+
		"The server has the first core (`taskset -c 0`, `GOMAXPROCS=1`), the clients the second: a handshake costs a client about as much as a server, so that now one limits the rate and now the other. "+
		"The goal is therefore held against *a core's worth*: handshakes a second of the server's processor time, all of it, the kernel's part included; the ratio is the median of the rounds' own.", tlsWorkers, b.set.getTime, b.set.rounds)
	b.procs.Before, b.procs.Env = []string{"taskset", "-c", "0"}, []string{"GOMAXPROCS=1"}
	defer func() { b.procs.Before, b.procs.Env = nil, nil }()
	dir, err := b.scratch("tls")
	if err != nil {
		return nil, err
	}
	authority, err := operate.NewAuthority()
	if err != nil {
		return nil, err
	}
	pair, err := authority.NewPair(dir)
	if err != nil {
		return nil, err
	}
	node, err := b.startNodeWith(ctx, "[server] tls with an imported P-256 key, pq as it is without a word (hybrid)", func(n *operate.Node) error { return authority.ServeTLS(ctx, n, pair) })
	if err != nil {
		return nil, err
	}
	bare, err := b.startTLSBare(ctx, dir, pair)
	if err != nil {
		return nil, err
	}
	servers(sec, node, bare)
	for _, group := range []tls.CurveID{tls.X25519, tls.X25519MLKEM768} {
		runs := map[*server][]tlsRun{}
		for round := range b.set.rounds + 1 {
			order := []*server{node, bare}
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, s := range order {
				r, err := b.handshakes(ctx, s, group)
				if err != nil {
					return nil, s.Failed(err)
				}
				if round > 0 { // the first warms up
					report.Say("%s round %d %s: %.0f/s, %.0f µs of the server", group, round, s.name, r.Rate, 1e6/r.worth)
					runs[s] = append(runs[s], r)
				}
			}
		}
		worth := func(r tlsRun) float64 { return r.worth }
		pairs := make([]float64, len(runs[node])) // of the same minute
		for i := range pairs {
			pairs[i] = runs[node][i].worth / runs[bare][i].worth
		}
		paired := report.StatOf(pairs, func(f float64) float64 { return f })
		ratio := paired.Median
		for _, s := range []*server{node, bare} {
			rate := report.StatOf(runs[s], func(r tlsRun) float64 { return r.Rate })
			core := report.StatOf(runs[s], worth).Median
			row := []string{group.String(), s.name, report.Number(rate.Median), report.Number(rate.Low) + "-" + report.Number(rate.High),
				fmt.Sprintf("%.2f", report.StatOf(runs[s], func(r tlsRun) float64 { return r.P50 }).Median), fmt.Sprintf("%.2f", report.StatOf(runs[s], func(r tlsRun) float64 { return r.P99 }).Median),
				report.Number(1e6 / core), report.Number(core), "", "", ""}
			if s == bare {
				got := fmt.Sprintf("%.2f× (%.2f-%.2f)", ratio, paired.Low, paired.High)
				row = append(row[:8], got, fmt.Sprintf("≥ %g×", tlsGoal), sec.Judge(group.String()+": handshakes to bare crypto/tls", fmt.Sprintf("≥ %g×", tlsGoal), got, ratio >= tlsGoal))
			}
			sec.Row(row...)
			run := report.Run{Cell: group.String(), Server: s.name}
			for _, r := range runs[s] {
				run.Rounds = append(run.Rounds, r.Result)
			}
			sec.Runs = append(sec.Runs, run)
		}
	}
	return sec, nil
}

// tlsRun also has how many handshakes a second the server would make of a whole
// core.
type tlsRun struct {
	report.Result
	worth float64
}

// handshakes runs the clients in a process of their own, on the second core.
func (b *bench) handshakes(ctx context.Context, s *server, group tls.CurveID) (tlsRun, error) {
	var run tlsRun
	_, addr, _ := strings.Cut(s.url, "://")
	in, err := json.Marshal(handshake.Load{Addr: addr, Group: group, Workers: tlsWorkers, Span: b.set.getTime})
	if err != nil {
		return run, err
	}
	self, err := os.Executable()
	if err != nil {
		return run, err
	}
	before, err := s.CPU()
	if err != nil {
		return run, err
	}
	var errs bytes.Buffer
	cmd := children.Command(ctx, "taskset", "-c", "1", self, "handshakes")
	cmd.Stdin, cmd.Stderr, cmd.Env = bytes.NewReader(in), &errs, append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.Output()
	if err != nil {
		return run, fmt.Errorf("handshakes: %w\n%s", err, errs.Bytes())
	}
	after, err := s.CPU()
	if err != nil {
		return run, err
	}
	var took []time.Duration
	if err := json.Unmarshal(out, &took); err != nil || len(took) == 0 {
		return run, fmt.Errorf("no handshake within %s: %w", b.set.getTime, err)
	}
	slices.Sort(took)
	run.Result = report.Result{Rate: float64(len(took)) / b.set.getTime.Seconds(), P50: drive.Millis(drive.Percentile(took, 50)), P99: drive.Millis(drive.Percentile(took, 99))}
	run.worth = float64(len(took)) / (after - before).Seconds()
	return run, nil
}

// makeHandshakes is the clients' process.
func makeHandshakes([]string) error {
	var load handshake.Load
	if err := json.NewDecoder(os.Stdin).Decode(&load); err != nil {
		return err
	}
	took, err := load.Drive(context.Background())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

// startTLSBare runs this program as the least that crypto/tls can do.
func (b *bench) startTLSBare(ctx context.Context, dir string, p operate.Pair) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	port, err := children.FreePort()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	child, err := b.procs.Start("bare", filepath.Join(dir, "log"), nil, self, "tls", addr, p.Chain, p.Key)
	if err != nil {
		return nil, err
	}
	s := &server{Proc: child, name: "bare crypto/tls", url: "https://" + addr, dir: dir, version: "of the Go above",
		command: "`bench tls 127.0.0.1:PORT CERT KEY`: accept, handshake, wait for the end; the same settings, key and certificate"}
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return s, c.Close()
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return nil, child.Failed(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// serveTLS is the bare server's process.
func serveTLS(args []string) error {
	cert, err := tls.LoadX509KeyPair(args[1], args[2])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	return handshake.Serve(l, handshake.Config(cert))
}
