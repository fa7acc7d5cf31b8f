// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
)

func (a *app) bundleCommand() *cobra.Command {
	return cli.Group("bundle", "Hash, sign and verify config bundles", "  macronode bundle sign macronode.bundle.toml --data DIR --bump",
		a.bundleHash(), a.bundleSign(), a.bundleVerify(), a.bundleShow())
}

// readText reads a file that the command line names.
func readText(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, cli.Exit(err, macronode.ExitConfig)
	}
	return text, nil
}

func (a *app) bundleHash() *cobra.Command {
	return &cobra.Command{
		Use: "hash FILE", Short: "Print the hash that meta.bundle_hash must have", Args: cli.ExactArgs(1),
		Example: "  macronode bundle hash macronode.bundle.toml",
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := readText(args[0])
			if err != nil {
				return err
			}
			meta, err := config.ReadMeta(text, args[0])
			if err != nil {
				return err
			}
			return a.Print(map[string]string{"bundle_hash": meta.Document.String()}, func(w io.Writer) { fmt.Fprintln(w, meta.Document) })
		},
	}
}

func (a *app) bundleSign() *cobra.Command {
	var dir, key string
	var bump bool
	c := &cobra.Command{
		Use: "sign FILE --data DIR", Short: "Write the hash into a bundle and its signature beside it", Args: cli.ExactArgs(1),
		Long: "sign writes meta.bundle_hash and meta.signer into FILE and the signature to FILE.sig.\n" +
			"With --bump it raises meta.version above both its own and the last applied one.",
		Example: "  macronode bundle sign macronode.bundle.toml --data /var/lib/rustyonions/macronode --bump",
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := datadir.SignBundle(args[0], dir, key, bump, a.warnings())
			if err != nil {
				return err
			}
			return a.Print(s, func(w io.Writer) {
				fmt.Fprintf(w, "%s: version %d, %s, signed by %s\n", s.File, s.Version, s.Hash, s.Signer)
			})
		},
	}
	a.dataFlag(c, &dir, true)
	c.Flags().StringVar(&key, "key", "KMS:key/ops-release", "key to sign with")
	c.Flags().BoolVar(&bump, "bump", false, "raise the version")
	return c
}

func (a *app) bundleVerify() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "verify FILE --data DIR", Short: "Exit 0 if the data directory's anchors accept the bundle, else 3 or 4", Args: cli.ExactArgs(1),
		Example: "  macronode bundle verify macronode.bundle.toml --data /var/lib/rustyonions/macronode",
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := datadir.CheckBundle(args[0], dir, "")
			if err != nil {
				return err
			}
			signers := make([]string, len(l.Signers))
			for i, s := range l.Signers {
				signers[i] = s.String()
			}
			doc := map[string]any{"file": l.File, "version": l.Version, "bundle_hash": l.Hash.String(), "signers": signers}
			return a.Print(doc, func(w io.Writer) {
				fmt.Fprintf(w, "%s: version %d, %s, signed by %v\n", l.File, l.Version, l.Hash, signers)
			})
		},
	}
	a.dataFlag(c, &dir, true)
	return c
}

func (a *app) bundleShow() *cobra.Command {
	return &cobra.Command{
		Use: "show FILE", Short: "Print what a bundle says of itself, whether or not it is right", Args: cli.ExactArgs(1),
		Example: "  macronode bundle show macronode.bundle.toml",
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := readText(args[0])
			if err != nil {
				return err
			}
			m, err := config.ReadMeta(text, args[0])
			if err != nil {
				return err
			}
			keyIDs, err := datadir.SignatureKeyIDs(args[0])
			if err != nil {
				return err
			}
			doc := map[string]any{"version": m.Version, "bundle_hash": m.Hash.String(), "document_hash": m.Document.String(), "signer": m.Signer, "signatures": keyIDs}
			return a.Print(doc, func(w io.Writer) {
				fmt.Fprintf(w, "version\t%d\nbundle_hash\t%s\ndocument hash\t%s\nsigner\t%s\nsignatures\t%v\n", m.Version, m.Hash, m.Document, m.Signer, keyIDs)
			})
		},
	}
}
