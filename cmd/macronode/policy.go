// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

func (a *app) policyCommand() *cobra.Command {
	return cli.Group("policy", "Build, sign, test and explain policy bundles", "  macronode policy test policy.bundle.json",
		a.policyBuild(), a.policySign(), a.policyVerify(), a.policyTest(), a.policyLint(), a.policyExplain(), a.policyReplay(), a.policyDefaults())
}

// candidatePayload reads a payload from a source directory, an envelope or a bare
// payload, to be looked at: its own tests may fail.
func candidatePayload(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cli.Exit(err, macronode.ExitConfig)
	}
	if info.IsDir() {
		// Sources do not say when their bundle ends, the build does: some end is
		// assumed, so that lint speaks of what stands in them alone.
		now := time.Now()
		payload, err := policy.AssembleDir(os.DirFS(path), policy.Meta{Version: 1, Issued: now, Expires: now.Add(time.Hour)})
		return payload, badPolicy(err)
	}
	text, err := readText(path)
	if err != nil {
		return nil, err
	}
	if env, err := bundle.Decode(text); err == nil {
		return env.Payload, nil
	}
	return bytes.TrimSpace(text), nil
}

// badPolicy gives a policy that does not load its exit code.
func badPolicy(err error) error {
	if err == nil {
		return nil
	}
	return cli.Exit(err, macronode.ExitConfig)
}

func (a *app) policyDefaults() *cobra.Command {
	var ids []string
	c := &cobra.Command{
		Use: "defaults DIR", Short: "Write the sources of a new node's policy to DIR, to start from", Args: cli.ExactArgs(1),
		Long: "defaults writes a policy that lets the operator in, and with --tenant the tenants named,\n" +
			"each with its own data. A tenant that no policy names can do nothing.",
		Example: "  macronode policy defaults ./policy --tenant 01ARZ3NDEKTSV4RRFFQ69G5FAV && macronode policy test ./policy",
		RunE: func(_ *cobra.Command, args []string) error {
			var tenants []macronode.TenantID
			for _, s := range ids {
				id, err := macronode.ParseTenantID(s)
				if err != nil {
					return cli.Usagef("--tenant: %v (ronctl tenant ls shows ids)", err)
				}
				tenants = append(tenants, id)
			}
			if err := datadir.WriteSources(args[0], policy.InitSources(tenants...)); err != nil {
				return err
			}
			return a.Print(map[string]string{"dir": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "written to", args[0]) })
		},
	}
	c.Flags().StringSliceVar(&ids, "tenant", nil, "ids of tenants that may work with their own data")
	return c
}
