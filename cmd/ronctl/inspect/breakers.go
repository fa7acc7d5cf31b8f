// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// Breakers is the command that shows and forces circuit breakers.
func (t Tools) Breakers() *cobra.Command {
	var force, reason string
	var lasts time.Duration
	c := &cobra.Command{
		Use: "breakers [NAME]", Short: "Show the circuit breakers before the node's dependencies, or force one", Args: cli.MaxArgs(1),
		Long: "breakers shows what the node keeps away from its dependencies, and why. With --force a\nbreaker is held open or closed, or left to itself again (auto). A force ends with --for,\n" +
			"with auto, or with the process; what the operator's own way in depends on (keystore,\npolicy_source) is held open for half a minute at most.",
		Example: "  ronctl node breakers\n  ronctl node breakers metadata --force open --for 30s --reason \"moving the disk\"\n  ronctl node breakers metadata --force auto",
		RunE: func(c *cobra.Command, args []string) error {
			states := []string{"open", "closed", "auto"}
			switch {
			case force == "" && (lasts != 0 || reason != ""):
				return cli.Usagef("--for and --reason go with --force")
			case force != "" && len(args) == 0:
				return cli.Usagef("--force wants the breaker's name")
			case force != "" && !slices.Contains(states, force):
				return cli.Usagef("--force is open, closed or auto, not %q%s", force, cli.DidYouMean(force, states))
			case lasts < 0:
				return cli.Usagef("--for is a time to come")
			}
			ctx, cl, err := t.Connect(c)
			if err != nil {
				return err
			}
			var list []client.Breaker
			if force != "" {
				one, err := cl.ForceBreaker(ctx, args[0], force, lasts, reason)
				if err != nil {
					return err
				}
				return t.Print(one, func(w io.Writer) { WriteBreakers(w, []client.Breaker{one}, time.Now()) })
			}
			if list, err = cl.Breakers(ctx); err != nil {
				return err
			}
			if len(args) > 0 {
				at := slices.IndexFunc(list, func(b client.Breaker) bool { return b.Name == args[0] })
				if at < 0 {
					var names []string
					for _, b := range list {
						names = append(names, b.Name)
					}
					return fmt.Errorf("there is no breaker %q%s", args[0], cli.DidYouMean(args[0], names))
				}
				list = list[at : at+1]
			}
			return t.Print(map[string]any{"breakers": list}, func(w io.Writer) { WriteBreakers(w, list, time.Now()) })
		},
	}
	f := c.Flags()
	f.StringVar(&force, "force", "", "hold it open or closed, or auto to leave it to itself")
	f.DurationVar(&lasts, "for", 0, "end the force after this long; 0: not by itself, or as late as the node allows")
	f.StringVar(&reason, "reason", "", "why, for the record and for who looks")
	return c
}

// WriteBreakers is the text form of breakers at a moment.
func WriteBreakers(w io.Writer, list []client.Breaker, now time.Time) {
	fmt.Fprintf(w, "BREAKER\tSTATE\tMODE\tNEXT\tOPENED\tREFUSED\tWHY\n")
	for _, b := range list {
		next, mode, why := "-", b.Mode, b.Reason
		if b.UntilMS != 0 {
			next = "in " + max(time.UnixMilli(b.UntilMS).Sub(now), 0).Round(100*time.Millisecond).String()
		}
		if b.Mode != "auto" {
			mode = "forced " + b.Mode
		}
		if why == "" {
			why = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", b.Name, b.State, mode, next, b.Opened, b.Refused, why)
	}
}
