// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/datadir"
)

func (a *app) kmsDropVersion() *cobra.Command {
	var dir string
	var version uint64
	c := &cobra.Command{
		Use: "drop-version NAME --version N --data DIR", Short: "End an old version of an app or tls key, for good", Args: cli.ExactArgs(1),
		Long:    "What the version signed can no longer be verified by this node, and what it wrapped\ncan no longer be opened. The newest version stays: rotate first.",
		Example: "  macronode kms drop-version webhook --version 1 --data DIR",
		RunE: func(c *cobra.Command, args []string) error {
			if version == 0 {
				return cli.Usagef("kms drop-version needs --version N")
			}
			return a.withKey(c, dir, func(ctx context.Context, k *datadir.Keys) (datadir.KeyInfo, error) {
				return k.DropVersion(ctx, args[0], version)
			})
		},
	}
	a.dataFlag(c, &dir, true)
	c.Flags().Uint64Var(&version, "version", 0, "the version to end")
	return c
}

func (a *app) kmsCSR() *cobra.Command {
	var dir, out, name string
	var version uint64
	var dns, ips []string
	c := &cobra.Command{
		Use: "csr NAME --dns HOST --data DIR", Short: "Make a certificate request for a tls key", Args: cli.ExactArgs(1),
		Long: "Prints a PKCS #10 request in PEM, signed by the key's newest version (or --version).\n" +
			"Have a certificate authority sign it, put the chain with kms put-object, reload.",
		Example: "  macronode kms rotate tls --data DIR\n  macronode kms csr tls --dns node.example.org --ip 192.0.2.7 --out tls.csr --data DIR",
		RunE: func(c *cobra.Command, args []string) error {
			if len(dns)+len(ips) == 0 {
				return cli.Usagef("kms csr needs --dns HOST or --ip ADDRESS")
			}
			return a.withKeys(c, dir, func(ctx context.Context, k *datadir.Keys) error {
				csr, key, err := k.CertRequest(ctx, args[0], version, dns, ips, name)
				if err != nil {
					return err
				}
				if out != "" {
					if err := datadir.WriteFile(out, []byte(csr), false); err != nil {
						return err
					}
					return a.Print(map[string]string{"key": key, "file": out}, func(w io.Writer) { fmt.Fprintln(w, "request of", key, "written to", out) })
				}
				return a.Print(map[string]string{"key": key, "csr": csr}, func(w io.Writer) { fmt.Fprint(w, csr) })
			})
		},
	}
	a.dataFlag(c, &dir, true)
	c.Flags().StringSliceVar(&dns, "dns", nil, "DNS name to be for; may be repeated")
	c.Flags().StringSliceVar(&ips, "ip", nil, "IP address to be for; may be repeated")
	c.Flags().StringVar(&name, "common-name", "", "common name of the subject")
	c.Flags().Uint64Var(&version, "version", 0, "version of the key; 0: the newest")
	c.Flags().StringVar(&out, "out", "", "file to write instead of stdout")
	return c
}
