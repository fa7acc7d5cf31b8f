// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/node"
)

// defaultDevDir is the data directory of development mode.
const defaultDevDir = "./macronode-data"

// overrideText describes the flags that may stand beside a signed bundle.
var overrideText = map[string]string{
	"data":             "data directory; overrides data.dir (MACRONODE_DATA)",
	"log-level":        "debug, info, warn or error; overrides telemetry.log_level (MACRONODE_LOG_LEVEL, RUST_LOG)",
	"log-format":       "auto, json or text; overrides telemetry.log_format (MACRONODE_LOG_FORMAT)",
	"graceful-timeout": "overrides server.drain_timeout (MACRONODE_GRACEFUL_TIMEOUT)",
	"allow-rollback":   "accept this older bundle once: VERSION@HASH; audited (MACRONODE_ALLOW_ROLLBACK)",
	"endpoints":        "write the bound addresses to this file while listening (MACRONODE_ENDPOINTS)",
	"operator-cap-out": "write a fresh operator capability to this file (MACRONODE_OPERATOR_CAP_OUT)",
	"trust":            "trust anchors, instead of DIR/trust.json (MACRONODE_TRUST)",
}

func (a *app) runFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.run.Bundle, "config", a.Getenv("MACRONODE_CONFIG"), "signed config bundle; without it, development mode (MACRONODE_CONFIG)")
	for _, name := range config.OverrideFlags() {
		f.String(name, "", overrideText[name])
	}
	f.StringVar(&a.run.HTTP, "http", "", "development mode: HTTP address, loopback only (default "+config.DefaultDevBind+")")
	f.StringVar(&a.run.OAP, "oap", "", "development mode: OAP/1 address, loopback only (default "+config.DefaultDevOAP+")")
}

func (a *app) runCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "run", Short: "Run the node", Args: cli.NoArgs,
		Long: "run starts the node and stays until it is told to stop: SIGTERM or SIGINT drain and\nstop, a second one stops at once, SIGHUP reloads the config bundle.\n\n" +
			"Without --config it makes and uses a development data directory, ./macronode-data.",
		Example: "  macronode run\n  macronode run --config /etc/macronode/macronode.bundle.toml --data /var/lib/rustyonions/macronode",
		RunE:    func(c *cobra.Command, _ []string) error { return a.runNode(c) },
	}
	a.runFlags(c)
	return c
}

func (a *app) runNode(c *cobra.Command) error {
	o := a.run
	given := func(name string) (string, bool) {
		f := c.Flags().Lookup(name)
		return f.Value.String(), f.Changed
	}
	set := func(name string) (string, bool) { v := a.Getenv(name); return v, v != "" }
	var err error
	if o.Overrides, err = config.ReadOverrides(given, set); err != nil {
		return cli.Usage(err)
	}
	o.Dir, o.Stdout = o.Overrides.Data.Value, a.Out
	if o.Bundle != "" {
		if o.HTTP != "" || o.OAP != "" {
			return cli.Usagef("--http and --oap are for development mode; with --config the bundle says where to listen")
		}
		return node.Run(c.Context(), o)
	}
	if o.Dir == "" {
		o.Dir = defaultDevDir
	}
	if err := node.PrepareDev(c.Context(), &o); err != nil {
		return err
	}
	return node.Run(c.Context(), o)
}

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Print which binary this is", Args: cli.NoArgs, Example: "  macronode version --json",
		RunE: func(*cobra.Command, []string) error {
			v := node.Version()
			if asJSON {
				a.Output = "json"
			}
			return a.Print(v, func(w io.Writer) {
				fmt.Fprintf(w, "macronode %s (%s, built %s, %s)\n", v.Semver, v.GitSHA, v.BuildTS, v.Go)
				fmt.Fprintf(w, "features: zk=%v arti=%v amnesia=%v pq=%v\n", v.Features.ZK, v.Features.Arti, v.Features.Amnesia, v.Features.PQ)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "the same document as /version")
	return c
}
