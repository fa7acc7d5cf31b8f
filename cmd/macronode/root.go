// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/node"
)

// terminal is the outside of one invocation, so that tests have their own.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
}

type app struct {
	terminal
	output string
	run    node.Options // flags of run, also of the bare form
}

// usageError is a fault in the command line: exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// codeError carries its own exit code, and says nothing where it is silent.
type codeError struct {
	error
	code   int
	silent bool
}

func (c codeError) Unwrap() error { return c.error }

func run(ctx context.Context, args []string, t terminal) int {
	a := &app{terminal: t}
	root := a.command()
	root.SetArgs(append([]string{}, args...)) // nil would mean the arguments of the process
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return macronode.ExitOK
	}
	code := exitCode(err)
	var coded codeError
	if errors.As(err, &coded) && coded.silent {
		return code
	}
	if a.output == "json" {
		json.NewEncoder(t.err).Encode(map[string]any{"error": err.Error(), "exit_code": code})
	} else {
		fmt.Fprintln(t.err, "macronode:", err)
	}
	if code == macronode.ExitUsage {
		fmt.Fprintln(t.err, "Try: macronode --help")
	}
	return code
}

func exitCode(err error) int {
	var usage usageError
	var coded codeError
	var refused *client.Error
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"):
		return macronode.ExitUsage
	case errors.As(err, &refused) && refused.Denied():
		return macronode.ExitDenied
	default:
		return datadir.ExitCode(err)
	}
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "macronode",
		Short: "A multi-tenant node: objects, capabilities, policy and a record of what happened",
		Long: "macronode runs the node and prepares what it runs from: data directories, signed\nconfig and policy bundles, keys.\n\n" +
			"With --config it runs the node, as \"macronode run\" does.",
		Example:       "  macronode run\n  macronode --config /etc/macronode/macronode.bundle.toml",
		SilenceErrors: true, SilenceUsage: true,
		SuggestionsMinimumDistance: 2,
		Args:                       noArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "text" && a.output != "json" {
				return usagef("--output is text or json, not %q", a.output)
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			if a.run.Bundle == "" {
				c.SetOut(a.err)
				c.Help()
				return usagef("a command is needed")
			}
			return a.runNode(c)
		},
	}
	root.PersistentFlags().StringVar(&a.output, "output", "text", "text or json")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	a.runFlags(root)
	root.AddCommand(a.runCommand(), a.initCommand(), a.checkCommand(), a.configCommand(), a.bundleCommand(),
		a.policyCommand(), a.kmsCommand(), a.versionCommand())
	root.InitDefaultCompletionCmd()
	return root
}

func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	msg := fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		msg += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("%s", msg)
}

func exactArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s takes %d argument(s), got %d; usage: %s", c.CommandPath(), n, len(args), c.UseLine())
		}
		return nil
	}
}

func atMostOneArg(c *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("%s takes at most 1 argument, got %d; usage: %s", c.CommandPath(), len(args), c.UseLine())
	}
	return nil
}

// group is a command that only holds others.
func group(use, short, example string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: noArgs, SuggestionsMinimumDistance: 2, RunE: func(c *cobra.Command, _ []string) error {
		return usagef("%s needs a subcommand; see: %s --help", c.CommandPath(), c.CommandPath())
	}}
	c.AddCommand(sub...)
	return c
}

// print writes doc as JSON, or what text writes.
func (a *app) print(doc any, text func(io.Writer)) error {
	if a.output == "json" {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(doc)
	}
	w := tabwriter.NewWriter(a.out, 2, 8, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// warnings is the logger of commands that are not the node.
func (a *app) warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// dataFlag adds --data to a command that needs a data directory.
func (a *app) dataFlag(c *cobra.Command, dir *string, required bool) {
	c.Flags().StringVar(dir, "data", a.getenv("MACRONODE_DATA"), "data directory (MACRONODE_DATA)")
	if required {
		next := c.RunE
		c.RunE = func(c *cobra.Command, args []string) error {
			if *dir == "" {
				return usagef("%s needs --data DIR", c.CommandPath())
			}
			return next(c, args)
		}
	}
}
