// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
)

func (a *app) configCommand() *cobra.Command {
	return cli.Group("config", "Look at config bundles", "  macronode config validate macronode.bundle.toml",
		a.configPrint(), a.configValidate(), a.configDiff())
}

func (a *app) configPrint() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "print FILE", Short: "Print the effective config, with the origin of every value and secrets redacted", Args: cli.ExactArgs(1),
		Example: "  macronode config print macronode.bundle.toml --output json",
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := datadir.CheckBundle(args[0], dir, "")
			if err != nil {
				return err
			}
			if a.JSON() {
				return l.PrintJSON(a.Out)
			}
			return l.PrintText(a.Out)
		},
	}
	a.dataFlag(c, &dir, false)
	return c
}

func (a *app) configValidate() *cobra.Command {
	var dir, rollback string
	c := &cobra.Command{
		Use: "validate FILE", Short: "Exit 3 for a bad key or value, 4 for hash, signature, signer or version", Args: cli.ExactArgs(1),
		Long: "validate judges keys and values first. With --data it judges hash, signature, signer\n" +
			"and version too, against that data directory's trust anchors.",
		Example: "  macronode config validate macronode.bundle.toml --data /var/lib/rustyonions/macronode",
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := datadir.CheckBundle(args[0], dir, rollback)
			if err != nil {
				return err
			}
			doc := map[string]any{"file": l.File, "version": l.Version, "bundle_hash": l.Hash.String(), "signature_checked": dir != ""}
			return a.Print(doc, func(w io.Writer) {
				fmt.Fprintf(w, "%s: version %d, %s", l.File, l.Version, l.Hash)
				for _, s := range l.Signers {
					fmt.Fprintf(w, ", signed by %s", s)
				}
				if dir == "" {
					fmt.Fprint(w, "; signature not checked (give --data)")
				}
				fmt.Fprintln(w)
			})
		},
	}
	a.dataFlag(c, &dir, false)
	c.Flags().StringVar(&rollback, "allow-rollback", "", "accept this older bundle: VERSION@HASH")
	return c
}

func (a *app) configDiff() *cobra.Command {
	return &cobra.Command{
		Use: "diff OLD NEW", Short: "List the settings that differ, and what applying each needs", Args: cli.ExactArgs(2),
		Example: "  macronode config diff old.bundle.toml new.bundle.toml",
		RunE: func(_ *cobra.Command, args []string) error {
			before, err := datadir.CheckBundle(args[0], "", "")
			if err != nil {
				return err
			}
			after, err := datadir.CheckBundle(args[1], "", "")
			if err != nil {
				return err
			}
			diff := config.Diff(&before.Config, &after.Config)
			if diff == nil {
				diff = []config.Difference{}
			}
			return a.Print(diff, func(w io.Writer) {
				for _, d := range diff {
					fmt.Fprintf(w, "%s\t%s\t->\t%s\t(%s)\n", d.Key, d.Old, d.New, d.Apply)
				}
			})
		},
	}
}
