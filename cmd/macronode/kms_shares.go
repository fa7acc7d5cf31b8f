// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/datadir"
)

func (a *app) kmsSplitRoot() *cobra.Command {
	var dir, out, from string
	var n, threshold int
	c := &cobra.Command{
		Use: "split-root --shares N --threshold M --out-dir DIR --data DIR", Short: "Seal the keystore by a new root in N shares, any M of which open it", Args: cli.NoArgs,
		Long: "The node must be stopped. The old root opens the keystore no more. Then set\n" +
			"kms.root = \"shares:" + datadir.SharesName + "\" in the bundle and sign it with --bump, which asks for\n" +
			"shares already. From then on a start waits for them (kms unseal). Give each share\n" +
			"to another person, and keep none of them on this machine.",
		Example: "  macronode kms split-root --shares 5 --threshold 3 --out-dir /mnt/shares --data DIR",
		RunE: func(*cobra.Command, []string) error {
			if out == "" {
				return cli.Usagef("kms split-root needs --out-dir DIR")
			}
			files, err := datadir.SplitRoot(dir, out, from, n, threshold)
			if err != nil {
				return err
			}
			return a.Print(map[string]any{"shares": files, "threshold": threshold, "root": "shares:" + datadir.SharesName}, func(w io.Writer) {
				for _, f := range files {
					fmt.Fprintln(w, f)
				}
				fmt.Fprintf(w, "any %d of them open the keystore; now set kms.root = \"shares:%s\" and sign the bundle\n", threshold, datadir.SharesName)
			})
		},
	}
	a.dataFlag(c, &dir, true)
	c.Flags().IntVar(&n, "shares", 0, "how many shares, 2 to 32")
	c.Flags().IntVar(&threshold, "threshold", 0, "how many of them are needed, 2 to their number")
	c.Flags().StringVar(&out, "out-dir", "", "empty or new directory for the shares, mode 0600 each")
	c.Flags().StringVar(&from, "from", "", "the root that opens the keystore now; the bundle's where missing")
	return c
}

func (a *app) kmsUnseal() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "unseal --data DIR < SHARE", Short: "Hand one share of the root, on stdin, to the process that waits for it", Args: cli.NoArgs,
		Long:    "A share is never an argument. On a terminal its line is asked for and not shown.",
		Example: "  macronode kms unseal --data DIR < share-2-of-5",
		RunE: func(c *cobra.Command, _ []string) error {
			share, err := a.readShare()
			if err != nil {
				return err
			}
			answer, err := datadir.HandShare(c.Context(), dir, share)
			if err != nil {
				return err
			}
			return a.Print(map[string]string{"answer": answer}, func(w io.Writer) { fmt.Fprintln(w, answer) })
		},
	}
	a.dataFlag(c, &dir, true)
	return c
}

// maxShareInput is more than any share has.
const maxShareInput = 64 << 10

// readShare reads a share from stdin.
func (a *app) readShare() ([]byte, error) {
	if f, ok := a.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(a.Err, "share: ")
		line, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.Err)
		return line, err
	}
	share, err := io.ReadAll(io.LimitReader(a.In, maxShareInput))
	if err == nil && len(share) == 0 {
		return nil, cli.Usagef("kms unseal reads a share from stdin: macronode kms unseal --data DIR < share")
	}
	return share, err
}

func (a *app) kmsSealRoot() *cobra.Command {
	var dir, to, from string
	c := &cobra.Command{
		Use: "seal-root --to URL --data DIR", Short: "Seal the keystore by a new root that a key service opens", Args: cli.NoArgs,
		Long: "The node must be stopped. The old root opens the keystore no more. Then set kms.root\n" +
			"to the same URL in the bundle and sign it with --bump. The secret that the service\n" +
			"sealed lies in DIR/" + datadir.RootSealedName + "; the service's token in a file of its own, mode 0600.",
		Example: "  macronode kms seal-root --to 'hashivault://macronode?addr=https://vault:8200&token_file=/etc/macronode/vault.token' --data DIR",
		RunE: func(c *cobra.Command, _ []string) error {
			if to == "" {
				return cli.Usagef("kms seal-root needs --to URL")
			}
			if err := datadir.SealRoot(c.Context(), dir, to, from); err != nil {
				return err
			}
			return a.Print(map[string]string{"root": to}, func(w io.Writer) {
				fmt.Fprintf(w, "sealed; now set kms.root = %q and sign the bundle\n", to)
			})
		},
	}
	a.dataFlag(c, &dir, true)
	c.Flags().StringVar(&to, "to", "", "the key service: hashivault://KEY?addr=URL&token_file=PATH or base64key:///PATH")
	c.Flags().StringVar(&from, "from", "", "the root that opens the keystore now; the bundle's where missing")
	return c
}
