// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Command peers measures parts of the node beside libraries that do the same
// work, inside one process or over loopback. It is a module of its own, so that what the node is
// compared with is none of its dependencies. scripts/bench.sh runs it.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/test/peers/audit"
	"github.com/rustyonions/macronode/test/peers/caps"
	"github.com/rustyonions/macronode/test/peers/policy"
	"github.com/rustyonions/macronode/test/peers/queue"
	"github.com/rustyonions/macronode/test/peers/rounds"
	"github.com/rustyonions/macronode/test/peers/wires"
)

// part is one selectable measurement.
type part struct {
	name, title string
	measure     func(context.Context, rounds.Plan) (*report.Section, error)
}

var parts = []part{
	{"policy", "Policy decisions", policy.Measure},
	{"caps", "Capabilities", caps.Measure},
	{"oap", "OAP/1", wires.Measure},
	{"mailbox", "Mailbox", mailbox},
	{"audit", "Audit log", auditLog},
}

func main() {
	// What it starts again as a process of its own.
	if len(os.Args) == 3 && os.Args[1] == "grpc" {
		if err := wires.GRPC(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "peers grpc:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// run measures the parts that BENCH names and writes the report after each.
func run(ctx context.Context) error {
	plan, err := settings()
	if err != nil {
		return err
	}
	var done []*report.Section
	missed := 0
	for _, p := range parts {
		if !slices.Contains(strings.Fields(os.Getenv("BENCH")), p.name) {
			continue
		}
		begun := time.Now()
		fmt.Printf("\n== %s\n", p.title)
		s, err := p.measure(ctx, plan)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		s.Name, s.Title, s.Facts, s.Took = p.name, p.title, facts(), time.Since(begun).Round(time.Second).String()
		fmt.Printf("\n%s", s.Markdown())
		missed += s.Missed()
		done = append(done, s)
		if err := report.Write(os.Getenv("BENCH_OUT"), os.Getenv("BENCH_JSON"), done); err != nil {
			return err
		}
	}
	if len(done) == 0 {
		return errors.New("BENCH names no part of mine")
	}
	fmt.Printf("\n%s written; goals missed: %d\n", os.Getenv("BENCH_OUT"), missed)
	return nil
}

// mailbox reads the settings of that part.
func mailbox(ctx context.Context, plan rounds.Plan) (*report.Section, error) {
	var errs []error
	text := func(name, otherwise string) string { return cmp.Or(os.Getenv(name), otherwise) }
	count := func(name, otherwise string) int {
		n, err := strconv.Atoi(text(name, otherwise))
		if err != nil || n < 1 {
			errs = append(errs, fmt.Errorf("%s=%q is not a number from 1", name, os.Getenv(name)))
		}
		return n
	}
	set := queue.Settings{NATS: text("BENCH_NATS", "nats-server"), Redis: text("BENCH_REDIS", "redis-server"), RedisBenchmark: text("BENCH_REDIS_BENCHMARK", "redis-benchmark"), Wrk: text("BENCH_WRK", "wrk"),
		Only: strings.Fields(os.Getenv("MAILBOX_ONLY")), Who: strings.Fields(os.Getenv("MAILBOX_WHO")), Backlog: count("MAILBOX_BACKLOG", "200000"), Queued: count("MAILBOX_QUEUED", "10000000"), Topics: count("MAILBOX_TOPICS", "10000"), Waiting: count("MAILBOX_WAITING", "1000")}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return queue.Measure(ctx, plan, set)
}

// auditLog reads the settings of that part.
func auditLog(ctx context.Context, plan rounds.Plan) (*report.Section, error) {
	records, err := strconv.Atoi(cmp.Or(os.Getenv("AUDIT_RECORDS"), "10000000"))
	if err != nil || records < 1 {
		return nil, fmt.Errorf("AUDIT_RECORDS=%q is not a number from 1", os.Getenv("AUDIT_RECORDS"))
	}
	return audit.Measure(ctx, plan, audit.Settings{Records: records, Only: strings.Fields(os.Getenv("AUDIT_ONLY"))})
}

func settings() (rounds.Plan, error) {
	plan := rounds.Plan{Rounds: 5, Turn: 300 * time.Millisecond, Span: 4 * time.Second, Bin: os.Getenv("MACRONODE_BIN"), Dir: os.Getenv("BENCH_DIR")}
	var err error
	if text := os.Getenv("BENCH_ROUNDS"); text != "" {
		if plan.Rounds, err = strconv.Atoi(text); err != nil || plan.Rounds < 1 {
			return plan, fmt.Errorf("BENCH_ROUNDS=%q is not a number from 1", text)
		}
	}
	if text := os.Getenv("BENCH_TURN"); text != "" {
		if plan.Turn, err = time.ParseDuration(text); err != nil || plan.Turn <= 0 {
			return plan, fmt.Errorf("BENCH_TURN=%q is not a duration", text)
		}
	}
	if text := os.Getenv("BENCH_GET_TIME"); text != "" {
		if plan.Span, err = time.ParseDuration(text); err != nil || plan.Span <= 0 {
			return plan, fmt.Errorf("BENCH_GET_TIME=%q is not a duration", text)
		}
	}
	for _, name := range []string{"BENCH_OUT", "BENCH_JSON"} {
		if !filepath.IsAbs(os.Getenv(name)) {
			return plan, fmt.Errorf("%s is not an absolute path", name)
		}
	}
	return plan, nil
}

// facts are what a reader needs to know of the machine and the code.
func facts() []string {
	load, _ := os.ReadFile("/proc/loadavg")
	return []string{
		"date: " + time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		fmt.Sprintf("machine: %s, %d cores, GOMAXPROCS %d, %s", runtime.GOARCH, runtime.NumCPU(), runtime.GOMAXPROCS(0), runtime.Version()),
		"load at the end (1, 5, 15 minutes): " + strings.Join(strings.Fields(string(load))[:min(3, len(strings.Fields(string(load))))], " "),
	}
}
