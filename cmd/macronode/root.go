// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/node"
)

type app struct {
	cli.Terminal
	run node.Options // flags of run, also of the bare form
}

func run(ctx context.Context, args []string, t cli.Terminal) int {
	a := &app{Terminal: t}
	return a.Run(ctx, a.command(), args, cli.Judge{Exit: datadir.ExitCode, Describe: describe})
}

func describe(err error, code int) (string, any) {
	return err.Error(), map[string]any{"error": err.Error(), "exit_code": code}
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "macronode",
		Short: "A multi-tenant node: objects, capabilities, policy and a record of what happened",
		Long: "macronode runs the node and prepares what it runs from: data directories, signed\nconfig and policy bundles, keys.\n\n" +
			"With --config it runs the node, as \"macronode run\" does.",
		Example: "  macronode run\n  macronode --config /etc/macronode/macronode.bundle.toml",
		RunE: func(c *cobra.Command, args []string) error {
			if a.run.Bundle == "" {
				return cli.NeedsCommand(c, args)
			}
			return a.runNode(c)
		},
	}
	a.runFlags(root)
	a.Setup(root, "  macronode help kms rotate", a.runCommand(), a.initCommand(), a.checkCommand(), a.fsckCommand(), a.configCommand(), a.bundleCommand(),
		a.policyCommand(), a.kmsCommand(), a.runbookCommand(), a.versionCommand())
	return root
}

// warnings is the logger of commands that are not the node.
func (a *app) warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// dataFlag adds --data to a command that needs a data directory.
func (a *app) dataFlag(c *cobra.Command, dir *string, required bool) {
	c.Flags().StringVar(dir, "data", a.Getenv("MACRONODE_DATA"), "data directory (MACRONODE_DATA)")
	if required {
		next := c.RunE
		c.RunE = func(c *cobra.Command, args []string) error {
			if *dir == "" {
				return cli.Usagef("%s needs --data DIR", c.CommandPath())
			}
			return next(c, args)
		}
	}
}
