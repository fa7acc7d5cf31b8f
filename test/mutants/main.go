// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Command mutants shows that the tests bite. It takes the faults that its table
// lists, puts one at a time into the code (in the compiler's eyes only: the
// files stay as they are) and runs the tests that must notice. A fault that no
// test notices survives, and is the finding.
//
// Exit codes: 0 every mutant was killed; 1 some survived; 2 the table does not
// fit the code, a mutant does not compile, or the tests fail without it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	exitSurvived = 1
	exitTable    = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the command line.
type options struct {
	root, table string
	list        bool
	only        *regexp.Regexp
	parallel    int
	timeout     time.Duration
}

func parseOptions(args []string, errOut io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(errOut)
	only := flags.String("run", "", "take the mutants whose name matches this `regexp` alone")
	flags.StringVar(&o.root, "root", "", "the module's folder (default: the one around the working directory)")
	flags.StringVar(&o.table, "table", "", "folder of the tables (default: test/mutants/table in the module)")
	flags.BoolVar(&o.list, "list", false, "print the mutants and run nothing")
	flags.IntVar(&o.parallel, "parallel", 1, "mutants at a time")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Minute, "for the tests of one mutant; one that takes longer is killed by that")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.parallel < 1 || o.timeout < time.Second {
		return o, errors.New("no arguments, at least one at a time, at least a second each")
	}
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, err
	}
	if o.root == "" {
		out, err := exec.Command("go", "env", "GOMOD").Output()
		if err != nil || !filepath.IsAbs(strings.TrimSpace(string(out))) {
			return o, errors.New("not inside a module")
		}
		o.root = filepath.Dir(strings.TrimSpace(string(out)))
	}
	if o.table == "" {
		o.table = filepath.Join(o.root, "test", "mutants", "table")
	}
	return o, nil
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintln(errOut, "mutants:", err)
		return exitTable
	}
	o, err := parseOptions(args, errOut)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return fail(err)
	}
	all, err := readTables(o.table)
	if err != nil {
		return fail(err)
	}
	var taken []*mutant
	for _, m := range all {
		if o.only.MatchString(m.name) {
			taken = append(taken, m)
		}
	}
	if o.list {
		for _, m := range taken {
			fmt.Fprintf(out, "%-34s %s: %s\n", m.name, m.file, m.why)
		}
		return 0
	}
	if len(taken) == 0 {
		return fail(errors.New("no mutant has such a name"))
	}
	// The whole table is held against the code, whichever part is run.
	var stale []error
	for _, m := range all {
		stale = append(stale, m.apply(o.root))
	}
	if err := errors.Join(stale...); err != nil {
		return fail(fmt.Errorf("the table is out of date:\n%w", err))
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	h := &hunt{options: o, dir: dir, out: out}
	if err := h.baseline(ctx, taken); err != nil {
		return fail(err)
	}
	return h.all(ctx, taken)
}

// hunt runs the tests.
type hunt struct {
	options
	dir string // for the mutated files
	mu  sync.Mutex
	out io.Writer // guarded by mu
}

func (h *hunt) printf(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Fprintf(h.out, format, args...)
}

// baseline runs every command once on the code as it is. All must pass, and the
// tests that the table names must be among them.
func (h *hunt) baseline(ctx context.Context, taken []*mutant) error {
	passed := map[string]map[string]bool{}
	var order []string
	for _, m := range taken {
		cmd := strings.Join(m.test, " ")
		if passed[cmd] == nil {
			passed[cmd] = map[string]bool{}
			order = append(order, cmd)
		}
	}
	for i, cmd := range order {
		begun := time.Now()
		v, err := h.goTest(ctx, "", strings.Fields(cmd))
		if err != nil {
			return err
		}
		switch {
		case v.build:
			return fmt.Errorf("without any mutant, go test %s does not build:\n%s", cmd, v.output)
		case len(v.failed) > 0 || v.broken:
			return fmt.Errorf("without any mutant, go test %s fails: %s\n%s", cmd, strings.Join(v.failed, " "), v.output)
		case len(v.passed) == 0:
			return fmt.Errorf("go test %s runs no test", cmd)
		}
		for _, name := range v.passed {
			passed[cmd][name] = true
		}
		h.printf("[%d/%d] passes: go test %s (%.1fs)\n", i+1, len(order), cmd, time.Since(begun).Seconds())
	}
	for _, m := range taken {
		if cmd := strings.Join(m.test, " "); m.fails != "" && !passed[cmd][m.fails] {
			return fmt.Errorf("%s: go test %s has no test %s", m.name, cmd, m.fails)
		}
	}
	return nil
}

// all runs every mutant and returns the exit code.
func (h *hunt) all(ctx context.Context, taken []*mutant) int {
	var group sync.WaitGroup
	next := make(chan int)
	results := make([]outcome, len(taken))
	for range h.parallel {
		group.Go(func() {
			for i := range next {
				results[i] = h.one(ctx, taken[i])
				h.printf("[%d/%d] %s\n", i+1, len(taken), results[i].line)
			}
		})
	}
	for i := range taken {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	group.Wait()
	count := map[state]int{}
	for _, r := range results {
		count[r.state]++
	}
	h.printf("%d mutants: %d killed, %d survived, %d do not compile or could not run\n", len(taken), count[killed], count[survived], count[invalid])
	switch {
	case count[invalid] > 0:
		return exitTable
	case count[survived] > 0:
		return exitSurvived
	}
	return 0
}

type state int

const (
	invalid state = iota // also of one that was not reached
	killed
	survived
)

// outcome is what became of a mutant.
type outcome struct {
	state state
	line  string
}

func (h *hunt) one(ctx context.Context, m *mutant) outcome {
	begun := time.Now()
	overlay, err := m.overlay(h.root, h.dir)
	if err != nil {
		return outcome{invalid, fmt.Sprintf("ERROR    %s: %v", m.name, err)}
	}
	test := m.test
	if m.fails == "" {
		test = append([]string{"-failfast"}, test...)
	}
	v, err := h.goTest(ctx, overlay, test)
	if err != nil {
		return outcome{invalid, fmt.Sprintf("ERROR    %s: %v", m.name, err)}
	}
	return judge(m, v, time.Since(begun))
}

// judge says what the tests have said of a mutant.
func judge(m *mutant, v verdict, took time.Duration) outcome {
	seconds := fmt.Sprintf("%.1fs", took.Seconds())
	switch {
	case v.build:
		return outcome{invalid, fmt.Sprintf("ERROR    %s does not compile:\n%s", m.name, v.output)}
	case m.fails != "" && v.hasFailed(m.fails):
		return outcome{killed, fmt.Sprintf("killed   %s by %s (%s)", m.name, m.fails, seconds)}
	case m.fails != "" && len(v.failed) > 0:
		return outcome{survived, fmt.Sprintf("SURVIVED %s: %s failed, %s did not (%s)", m.name, strings.Join(v.failed, " "), m.fails, seconds)}
	case len(v.failed) > 0:
		return outcome{killed, fmt.Sprintf("killed   %s by %s (%s)", m.name, v.failed[len(v.failed)-1], seconds)}
	case v.broken && m.fails == "":
		return outcome{killed, fmt.Sprintf("killed   %s: the tests ended early (%s)", m.name, seconds)}
	}
	return outcome{survived, fmt.Sprintf("SURVIVED %s in %s: go test %s (%s)\n         %s", m.name, m.file, strings.Join(m.test, " "), seconds, m.why)}
}
