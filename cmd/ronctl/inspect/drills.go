// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client/drills"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// Drills is the command that shows which drills a node has on record.
func (t Tools) Drills() *cobra.Command {
	var overdue bool
	c := &cobra.Command{
		Use: "status", Short: "Show when each drill last passed, as the node has it on record", Args: cli.NoArgs,
		Long:    "status asks the node which drills were put on record with \"drill run --record\". Each is due\nagain 90 days after it passed. With --fail-overdue the exit code is 5 if one is overdue.",
		Example: "  ronctl drill status\n  ronctl drill status --fail-overdue --output json",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := t.Connect(c)
			if err != nil {
				return err
			}
			list, err := drills.List(ctx, cl)
			if err != nil {
				return err
			}
			if err := t.Print(map[string]any{"drills": list}, func(w io.Writer) { WriteDrills(w, list) }); err != nil {
				return err
			}
			var late []string
			for _, e := range list {
				if e.OverdueMS > 0 {
					late = append(late, e.Name)
				}
			}
			if !overdue || len(late) == 0 {
				return nil
			}
			return cli.Exit(errors.New("overdue: "+strings.Join(late, ", ")), macronode.ExitNotReady)
		},
	}
	c.Flags().BoolVar(&overdue, "fail-overdue", false, "exit with 5 if a drill is overdue")
	return c
}

// WriteDrills writes the drills as a table for people.
func WriteDrills(w io.Writer, list []drills.Entry) {
	fmt.Fprintln(w, "DRILL\tLAST\tRESULT\tDUE")
	for _, e := range list {
		at, result, due := "never", "-", time.UnixMilli(e.DueMS).UTC().Format(time.DateOnly)
		if e.Last != nil {
			at, result = time.UnixMilli(e.Last.AtMS).UTC().Format("2006-01-02 15:04Z"), "pass"
			if !e.Last.Pass {
				result = "FAILED: " + e.Last.Error
			}
		}
		if e.OverdueMS > 0 {
			due += ", OVERDUE"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.Name, at, result, due)
	}
}
