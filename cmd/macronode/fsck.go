// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/inspect"
)

// progressEvery is how often a long check says how far it is.
const progressEvery = 2 * time.Second

func (a *app) fsckCommand() *cobra.Command {
	var dir string
	var o inspect.FsckOptions
	quiet := false
	c := &cobra.Command{
		Use: "fsck", Short: "Check, and with --repair mend, the stores of a node that does not run", Args: cli.NoArgs,
		Long: "fsck reads metadata to its last block, verifies the bytes of every object, compares usage with\n" +
			"what is stored, and looks for bytes that nobody knows. It verifies every record of the audit log, its\n" +
			"tree and its newest checkpoint. The node must not run.\n\n" +
			"Exit codes: 0 clean; 1 something is to be mended, run it with --repair; 8 mended, nothing was lost;\n" +
			"9 data was lost: the objects are named, and a put of the same bytes brings each back;\n" +
			"10 a node runs from the directory.",
		Example: "  macronode fsck --data /var/lib/rustyonions/macronode\n  macronode fsck --data DIR --repair --output json\n  macronode fsck --data DIR --repair --from-export log.audit",
		RunE: func(c *cobra.Command, _ []string) error {
			if o.FromExport != "" && !o.Repair {
				return cli.Usagef("--from-export needs --repair")
			}
			if !quiet {
				o.Progress = a.fsckProgress()
			}
			r, err := inspect.Fsck(c.Context(), dir, o)
			if err != nil {
				return err
			}
			if err := a.Print(r, func(w io.Writer) { printFsck(w, r) }); err != nil {
				return err
			}
			if r.ExitCode == macronode.ExitOK {
				return nil
			}
			return cli.ExitSilently(fmt.Errorf("fsck: %s", r.Outcome), r.ExitCode)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.Repair, "repair", false, "mend what can be mended without a loss, and quarantine what is damaged")
	f.BoolVar(&o.Quick, "quick", false, "do not read objects' bytes, only that they are there")
	f.StringVar(&o.FromExport, "from-export", "", "with --repair: restore a damaged audit log from this export or archive of it, which is verified with the node's keys first")
	f.BoolVar(&quiet, "quiet", false, "no progress on standard error")
	a.dataFlag(c, &dir, true)
	return c
}

// fsckProgress returns what writes a line now and then.
func (a *app) fsckProgress() func(phase string, done, total, bytes int64) {
	var last time.Time
	was := ""
	return func(phase string, done, total, bytes int64) {
		if phase == was && time.Since(last) < progressEvery {
			return
		}
		last, was = time.Now(), phase
		line := fmt.Sprintf("fsck: %s: %d", phase, done)
		if total > 0 {
			line += fmt.Sprintf(" of %d", total)
		}
		if bytes > 0 {
			line += fmt.Sprintf(", %d MiB", bytes>>20)
		}
		fmt.Fprintln(a.Err, line)
	}
}

func printFsck(w io.Writer, r *inspect.FsckReport) {
	for _, f := range r.Findings {
		state := ""
		if f.Fixed {
			state = " (mended)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s%s\n", f.Kind, f.Subject, f.Detail, state)
	}
	fmt.Fprintf(w, "metadata\t%d keys\n", r.Keys)
	fmt.Fprintf(w, "objects\t%d of %d tenants, %d bytes, in %d volumes\n", r.Objects, r.Tenants, r.Bytes, r.Volumes)
	if m := r.Mailbox; m != nil {
		fmt.Fprintf(w, "mailbox\t%d messages and %d dead letters in %d topics, %d records in %d segments, %d bytes\n", m.Messages, m.Dead, m.Topics, m.Records, m.Segments, m.LogBytes)
	}
	if a := r.Audit; a != nil {
		fmt.Fprintf(w, "audit\t%s, records %d to %d, the newest checkpoint covers %d\n", a.State, a.First, a.Records, a.Checkpoint)
	}
	fmt.Fprintf(w, "keystore\t%s\n", r.Keystore)
	fmt.Fprintf(w, "%s\t%d lost, %d mended, %d to be mended with --repair\n", r.Outcome, r.Lost, r.Fixed, r.Left)
}
