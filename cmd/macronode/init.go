// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/inspect"
	"github.com/rustyonions/macronode/internal/provision"
)

func (a *app) initCommand() *cobra.Command {
	var o provision.Options
	c := &cobra.Command{
		Use: "init --data DIR", Short: "Make a production data directory", Args: cli.NoArgs,
		Long: "init makes a data directory: a sealed keystore, trust anchors, the signing key\nops-release, a policy bundle that lets only the operator (and the tenant named by\n--tenant) in, a signed config bundle, and the operator's capability. It never asks.\n\n" +
			"With --recovery-out it also writes the recovery export of the root key, which\nbelongs off the machine.",
		Example: "  macronode init --data /var/lib/rustyonions/macronode --tenant acme --recovery-out recovery.key",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := provision.Init(c.Context(), o)
			if err != nil {
				return err
			}
			return a.Print(r, func(w io.Writer) {
				fmt.Fprintf(w, "config bundle\t%s\n", r.Bundle)
				fmt.Fprintf(w, "trust anchors\t%s\n", r.Trust)
				fmt.Fprintf(w, "operator capability\t%s\n", r.OperatorCap)
				if r.TenantCap != "" {
					fmt.Fprintf(w, "tenant %s\t%s\n", r.TenantLabel, r.Tenant)
					fmt.Fprintf(w, "tenant capability\t%s\n", r.TenantCap)
				}
				if r.Certificate != "" {
					fmt.Fprintf(w, "TLS certificate\t%s (self-signed; clients: ronctl --ca)\n", r.Certificate)
				}
				fmt.Fprintf(w, "node id\t%s\n", r.NodeID)
				fmt.Fprintf(w, "registry\t%s\n", r.Registry)
				if r.Recovery != "" {
					fmt.Fprintf(w, "recovery export\t%s (keep it off this machine)\n", r.Recovery)
				} else {
					fmt.Fprintf(w, "no recovery export; make one with:\tmacronode kms export-recovery --data %s --out FILE\n", r.Dir)
				}
				fmt.Fprintf(w, "start with:\tmacronode run --config %s --data %s\n", r.Bundle, r.Dir)
			})
		},
	}
	a.dataFlag(c, &o.Dir, true)
	f := c.Flags()
	f.StringVar(&o.HTTP, "http", "", "address of the HTTP listener (default 0.0.0.0:8080)")
	f.StringVar(&o.OAP, "oap", "", "address of the OAP/1 listener (default 0.0.0.0:34000)")
	f.StringVar(&o.Tenant, "tenant", "", "label of a first tenant that may work with its own data")
	f.StringVar(&o.TenantID, "tenant-id", "", "the id that this tenant has on another node, so that both nodes have the same")
	f.StringVar(&o.TLS, "tls", provision.TLSSelfSigned, "self-signed or none; none serves only the probes to peers that are not loopback")
	f.StringVar(&o.Registry, "registry", "", "follow the registry in this file, which ronctl registry export wrote at another node")
	f.StringVar(&o.RegistryID, "registry-id", "", "the id that this registry must have, known from elsewhere")
	f.StringVar(&o.RecoveryOut, "recovery-out", "", "write the recovery export of the root key to this file")
	return c
}

func (a *app) checkCommand() *cobra.Command {
	var bundle, dir string
	c := &cobra.Command{
		Use: "check", Short: "Check config, ports, permissions, clock, entropy, disk and limits without starting", Args: cli.NoArgs,
		Example: "  macronode check --config macronode.bundle.toml --data /var/lib/rustyonions/macronode",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := inspect.Check(c.Context(), bundle, dir)
			if err != nil {
				return err
			}
			err = a.Print(r, func(w io.Writer) {
				for _, f := range r.Findings {
					mark := "ok"
					if !f.OK {
						mark = f.Severity
					}
					fmt.Fprintf(w, "%s\t%s\t%s\n", mark, f.Name, f.Detail)
					if f.Fix != "" && !f.OK {
						fmt.Fprintf(w, "\t\tfix: %s\n", f.Fix)
					}
				}
			})
			if err == nil && r.ExitCode != macronode.ExitOK {
				err = cli.Exit(fmt.Errorf("%d of %d checks failed", r.Failed, len(r.Findings)), r.ExitCode)
			}
			return err
		},
	}
	c.Flags().StringVar(&bundle, "config", a.Getenv("MACRONODE_CONFIG"), "config bundle; default DIR/macronode.bundle.toml")
	a.dataFlag(c, &dir, false)
	return c
}
