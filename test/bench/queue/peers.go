// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/report"
)

// start runs a server in a directory of its own; command is told that and a free
// port.
func (b *Bench) start(ctx context.Context, name, bin string, command func(dir string, port int) ([]string, error)) (*Server, error) {
	dir, err := b.scratch(name)
	if err != nil {
		return nil, err
	}
	port, err := children.FreePort()
	if err != nil {
		return nil, err
	}
	args, err := command(dir, port)
	if err != nil {
		return nil, err
	}
	p, err := b.Procs.Start(name, filepath.Join(dir, "log"), nil, append([]string{bin}, args...)...)
	if err != nil {
		return nil, err
	}
	s := &Server{Proc: p, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Dir: dir, Version: version(ctx, bin)}
	shown := strings.NewReplacer(dir, "DIR", strconv.Itoa(port), "PORT", `  `, ` '' `).Replace(strings.Join(args, " "))
	s.Command = "`" + name + " " + shown + "`"
	return s, poll(ctx, p, func() error {
		c, err := net.Dial("tcp", s.Addr)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// StartNATS runs a NATS server with JetStream, which syncs each message before it
// answers where always says so, and every two minutes by default.
func (b *Bench) StartNATS(ctx context.Context, always bool) (*Server, error) {
	name, sync := "NATS default", ""
	if always {
		name, sync = "NATS always", ", sync_interval: always"
	}
	var conf string
	s, err := b.start(ctx, "nats-server", b.NATS, func(dir string, port int) ([]string, error) {
		conf = fmt.Sprintf("listen: \"127.0.0.1:%d\", jetstream { store_dir: %q%s }\n", port, filepath.Join(dir, "js"), sync)
		file := filepath.Join(dir, "nats.conf")
		return []string{"-c", file}, os.WriteFile(file, []byte(conf), 0o600)
	})
	if err != nil {
		return nil, err
	}
	s.Name = name
	s.Command += " with `jetstream { store_dir: DIR" + sync + " }`, a stream on files"
	return s, nil
}

// StartRedis runs Redis with every command synced before it is answered. It
// neither takes snapshots nor rewrites its log, which would cost it.
func (b *Bench) StartRedis(ctx context.Context) (*Server, error) {
	s, err := b.start(ctx, "redis-server", b.Redis, func(dir string, port int) ([]string, error) {
		return []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir, "--appendonly", "yes", "--appendfsync", "always",
			"--save", "", "--auto-aof-rewrite-percentage", "0"}, nil
	})
	if err != nil {
		return nil, err
	}
	s.Name = "Redis"
	return s, nil
}

// RedisBenchmark adds n messages to a stream with redis-benchmark.
func (b *Bench) RedisBenchmark(ctx context.Context, s *Server, conns, n int) (report.Result, error) {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return report.Result{}, err
	}
	cmd := children.Command(ctx, b.Bench, "-p", port, "-c", strconv.Itoa(conns), "-P", "1", "-n", strconv.Itoa(n), "--csv", "--precision", "3",
		"XADD", "bench", "*", "d", string(Payload()))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return report.Result{}, fmt.Errorf("redis-benchmark: %w\n%.500s", err, out)
	}
	r, err := parseBenchmark(string(out))
	if err != nil {
		return report.Result{}, fmt.Errorf("redis-benchmark: %w: %.500s", err, out)
	}
	return r, nil
}

// BenchmarkCommand is how RedisBenchmark calls.
const BenchmarkCommand = "`redis-benchmark -c 64 -P 1 XADD bench '*' d PAYLOAD`"

// parseBenchmark reads what redis-benchmark --csv prints.
func parseBenchmark(out string) (report.Result, error) {
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		return report.Result{}, err
	}
	if len(rows) != 2 {
		return report.Result{}, errors.New("want a heading and a row")
	}
	figures := map[string]float64{}
	for i, name := range rows[0] {
		figures[name], _ = strconv.ParseFloat(rows[1][i], 64) // the test's name is none
	}
	r := report.Result{Rate: figures["rps"], P50: figures["p50_latency_ms"], P99: figures["p99_latency_ms"]}
	if r.Rate <= 0 || r.P50 <= 0 || r.P99 < r.P50 {
		return report.Result{}, errors.New("no figures")
	}
	return r, nil
}

// version is the first line that a program prints about itself.
func version(ctx context.Context, bin string) string {
	out, err := exec.CommandContext(ctx, bin, "--version").Output()
	if err != nil {
		return "unknown version"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
