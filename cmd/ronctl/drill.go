// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client/drills"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/cmd/ronctl/drill"
	"github.com/rustyonions/macronode/cmd/ronctl/inspect"
)

// nodeBinary is the program that drills start.
const nodeBinary = "macronode"

func (a *app) drillCommand() *cobra.Command {
	return cli.Group("drill", "Break things on purpose, in a throw-away node, and judge what happens", "  ronctl drill run disk-full corrupt-object",
		a.drillList(), a.drillRun(), inspect.Tools{Connect: a.connect, Print: a.Print}.Drills())
}

func (a *app) drillList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the drills and what each shows", Args: cli.NoArgs, Example: "  ronctl drill list",
		RunE: func(*cobra.Command, []string) error {
			type line struct {
				Name    string `json:"name"`
				Shows   string `json:"shows"`
				Live    bool   `json:"live"`
				NotLive string `json:"not_live,omitempty"`
			}
			var lines []line
			for _, d := range drill.All() {
				lines = append(lines, line{d.Name, d.Shows, d.NotLive == "", d.NotLive})
			}
			return a.Print(map[string]any{"drills": lines}, func(w io.Writer) {
				for _, l := range lines {
					live := "live"
					if !l.Live {
						live = "not live"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\n", l.Name, live, l.Shows)
				}
			})
		},
	}
}

func (a *app) drillRun() *cobra.Command {
	var o drill.Options
	var live, record bool
	c := &cobra.Command{
		Use: "run NAME...", Short: "Carry out drills, one after the other; exit 0 if all pass, else 1",
		Long: "run starts a throw-away node for each drill: the " + nodeBinary + " beside ronctl, else the one\nin PATH. No capability and no running node is needed, and none is touched. The node's\ndirectory is removed afterwards, whatever happens, unless --keep is given.\n\n" +
			"Each drill ends within " + drill.Limit.String() + ". With --record a node remembers the results and audits\nthem, with the address of the report; \"drill status\" then says what is overdue.",
		Example: "  ronctl drill run disk-full --record\n  ronctl drill run corrupt-object --output json\n  ronctl drill run disk-full --dir /mnt/small --keep",
		Args:    cli.MinArgs(1), ValidArgsFunction: completeDrills,
		RunE: func(c *cobra.Command, names []string) error {
			drills, err := findDrills(names, live)
			if err != nil {
				return err
			}
			if o.Dir, err = absolute(o.Dir); err != nil {
				return err
			}
			if o.Binary, err = findNode(); err != nil {
				return err
			}
			// A terminal that is closed must not leave a node behind.
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGHUP)
			defer stop()
			reports, err := a.carryOut(ctx, drills, o)
			if record {
				err = errors.Join(a.recordDrills(c, reports), err)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "make the throw-away directories in here; the disk of disk-full is the one that this lies on")
	f.BoolVar(&o.Keep, "keep", false, "leave the throw-away directories, with the node's log, for inspection")
	f.BoolVar(&record, "record", false, "put the results on record at the node that --node names; it needs node:drill")
	f.BoolVar(&live, "live", false, "run against the node that --node names; it needs node:drill and server.drills = true")
	return c
}

func completeDrills(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return drillNames(), cobra.ShellCompDirectiveNoFileComp
}

func drillNames() (names []string) {
	for _, d := range drill.All() {
		names = append(names, d.Name)
	}
	return names
}

// findDrills judges the command line before anything starts.
func findDrills(names []string, live bool) (drills []drill.Drill, err error) {
	for _, name := range names {
		d, ok := drill.Find(name)
		switch {
		case !ok:
			return nil, cli.Usagef("there is no drill %q%s", name, cli.DidYouMean(name, drillNames()))
		case live && d.NotLive != "":
			return nil, cli.Usagef("%s cannot be run against a live node: %s; without --live it starts a node of its own", name, d.NotLive)
		}
		drills = append(drills, d)
	}
	return drills, nil
}

func absolute(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	return filepath.Abs(dir)
}

// findNode returns the node's binary: the one beside this one goes first, since
// it is of the same version.
func findNode() (string, error) {
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			if beside, err := exec.LookPath(filepath.Join(filepath.Dir(self), nodeBinary)); err == nil {
				return beside, nil
			}
		}
	}
	found, err := exec.LookPath(nodeBinary)
	if err != nil {
		return "", fmt.Errorf("there is no %s beside ronctl and none in PATH", nodeBinary)
	}
	return filepath.Abs(found)
}

// carryOut runs the drills, tells of each as it ends, and fails if one did.
func (a *app) carryOut(ctx context.Context, drills []drill.Drill, o drill.Options) ([]drill.Report, error) {
	reports := []drill.Report{}
	var failed []string
	for _, d := range drills {
		r := d.Run(ctx, o)
		reports = append(reports, r)
		if !r.Pass {
			failed = append(failed, d.Name)
		}
		if !a.JSON() {
			if err := a.Print(nil, func(w io.Writer) { writeReport(w, &r) }); err != nil {
				return reports, err
			}
			for _, line := range r.Log {
				fmt.Fprintf(a.Err, "| %s\n", line)
			}
		}
	}
	if a.JSON() {
		if err := a.Print(map[string]any{"pass": len(failed) == 0, "drills": reports}, nil); err != nil {
			return reports, err
		}
	}
	if len(failed) == 0 {
		return reports, nil
	}
	return reports, cli.Exit(errors.New("failed: "+strings.Join(failed, ", ")), macronode.ExitFailed)
}

// recordDrills puts what was carried out on record, each with the address of its
// report as JSON.
func (a *app) recordDrills(c *cobra.Command, reports []drill.Report) error {
	ctx, cl, err := a.connect(c)
	if err != nil {
		return err
	}
	defer cl.Close()
	for i := range reports {
		r := &reports[i]
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		said := r.Error
		if !r.Pass && said == "" {
			said = "failed"
		}
		if _, err := drills.Record(ctx, cl, drills.Result{Name: r.Name, Pass: r.Pass, Error: strings.ToValidUTF8(said[:min(len(said), 1000)], ""), Seconds: r.Seconds, AtMS: r.EndedMS,
			Report: b3.Sum(text).String()}); err != nil {
			return fmt.Errorf("%s could not be put on record: %w", r.Name, err)
		}
	}
	return nil
}

// writeReport is a drill's report for people.
func writeReport(w io.Writer, r *drill.Report) {
	fmt.Fprintf(w, "%s: %s\n", r.Name, r.Shows)
	for _, s := range r.Steps {
		mark := "ok"
		if !s.Pass {
			mark = "FAILED"
		}
		fmt.Fprintf(w, "  %s\t%s\n\t  expected: %s\n\t  saw: %s\n", mark, s.Did, s.Expect, s.Saw)
	}
	if r.Kept {
		fmt.Fprintf(w, "  kept: %s\n", r.Dir)
	}
	if r.Pass {
		fmt.Fprintf(w, "PASS %s, %.1f s\n", r.Name, r.Seconds)
		return
	}
	fmt.Fprintf(w, "FAIL %s, %.1f s: %s\n", r.Name, r.Seconds, r.Error)
}
