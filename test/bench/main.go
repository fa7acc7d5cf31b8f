// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Command bench measures the built node beside its peers, on one machine, on
// the same bytes and over loopback: objects read and written over HTTP/1.1,
// memory at one large object, a million small ones, hashing, and what is left of
// it all when more is asked than there is.
//
// It installs nothing and is run by scripts/bench.sh, which says what the
// settings in the environment are. Every process it starts ends with it, and
// every file it makes is removed, also after a failure or an interrupt; the
// report and the JSON stay.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/idle"
	"github.com/rustyonions/macronode/test/bench/report"
)

func main() {
	// What it starts again as a process of its own.
	own := map[string]func([]string) error{"bare": serveBare, "generate": generate, "handshakes": makeHandshakes, "sessions": idle.Hold, "tls": serveTLS}
	if len(os.Args) > 1 && own[os.Args[1]] != nil {
		if err := own[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintf(os.Stderr, "bench %s: %v\n", os.Args[1], err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// part is one selectable measurement.
type part struct {
	name, title string
	measure     func(context.Context, *bench) (*report.Section, error)
}

var parts = []part{
	{"get", "GET", measureGet},
	{"names", "Names", measureNames},
	{"put", "PUT", measurePut},
	{"footprint", "One object of many bytes", measureFootprint},
	{"million", "Many objects", measureMillion},
	{"hash", "BLAKE3 with tree", measureHash},
	{"overload", "Overload", measureOverload},
	{"tls", "TLS handshakes", measureTLS},
	{"steady", "Changes under load", measureSteady},
	{"idle", "Idle sessions", func(ctx context.Context, b *bench) (*report.Section, error) {
		return (&idle.Bench{Bin: b.set.bin, Dir: b.dir, Span: b.set.getTime, Procs: &b.procs}).Measure(ctx)
	}},
}

// bench is what all parts share.
type bench struct {
	set   settings
	dir   string // scratch, on a real disk; removed at the end
	facts []string
	procs children.Group
}

// run measures the selected parts in order and writes the report after each, so
// that an interrupt keeps what was measured.
func run(ctx context.Context) (err error) {
	set, err := readSettings(os.LookupEnv)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(set.dir, 0o755); err != nil {
		return err
	}
	if err := onDisk(set.dir); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(set.dir, "run-")
	if err != nil {
		return err
	}
	b := &bench{set: set, dir: dir}
	defer func() {
		b.procs.KillAll()
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	b.facts = report.Machine(ctx, set.bin, dir)
	for _, f := range b.facts {
		fmt.Println(f)
	}
	var done []*report.Section
	for _, p := range parts {
		if !set.parts[p.name] {
			continue
		}
		begun := time.Now()
		fmt.Printf("\n== %s\n", p.title)
		s, err := p.measure(ctx, b)
		b.procs.KillAll()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s: interrupted", p.name)
		case err != nil:
			return fmt.Errorf("%s: %w", p.name, err)
		}
		s.Name, s.Title, s.Facts, s.Took = p.name, p.title, b.facts, time.Since(begun).Round(time.Second).String()
		fmt.Printf("\n%s", s.Markdown())
		done = append(done, s)
		if err := report.Write(set.report, set.json, done); err != nil {
			return err
		}
	}
	missed := 0
	for _, s := range done {
		missed += s.Missed()
	}
	fmt.Printf("\n%s and %s written; goals missed: %d\n", set.report, set.json, missed)
	return nil
}

// scratch makes a folder below the run's own; the caller removes it early or
// leaves it to the end.
func (b *bench) scratch(name string) (string, error) {
	dir, err := os.MkdirTemp(b.dir, name+"-")
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}
