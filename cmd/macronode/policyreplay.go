// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/cmd/internal/flips"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

func (a *app) policyReplay() *cobra.Command {
	var decisions, candidate string
	var allow bool
	c := &cobra.Command{
		Use: "replay --decisions FILE --candidate BUNDLE|SRCDIR", Short: "Ask a candidate about recorded decisions, offline; exit 1 if one flips", Args: cli.NoArgs,
		Long: "replay asks a candidate, a bundle or a directory of sources, what it would have said to the\n" +
			"decisions that ronctl policy record wrote. It needs no node.",
		Example: "  macronode policy replay --decisions decisions.ndjson --candidate ./policy",
		RunE: func(c *cobra.Command, _ []string) error {
			if candidate == "" || decisions == "" {
				return cli.Usagef("policy replay needs --decisions FILE and --candidate BUNDLE or SRCDIR")
			}
			report, err := replayPolicy(c, decisions, candidate)
			if err != nil {
				return err
			}
			doc, err := json.Marshal(report)
			if err != nil {
				return err
			}
			return flips.Tell(doc, a.Print, allow)
		},
	}
	f := c.Flags()
	f.StringVar(&decisions, "decisions", "", "file that ronctl policy record wrote")
	f.StringVar(&candidate, "candidate", "", "policy bundle, or directory of policy sources")
	f.BoolVar(&allow, "allow-flips", false, "exit 0 although decisions flip")
	return c
}

func replayPolicy(c *cobra.Command, decisions, candidate string) (policy.ReplayReport, error) {
	var none policy.ReplayReport
	payload, err := candidatePayload(candidate)
	if err != nil {
		return none, err
	}
	f, err := os.Open(decisions)
	if err != nil {
		return none, cli.Exit(err, macronode.ExitConfig)
	}
	defer f.Close()
	list, err := policy.ReadDecisions(f)
	if err != nil {
		return none, cli.Exit(fmt.Errorf("%s: %w", decisions, err), macronode.ExitConfig)
	}
	report, err := policy.Replay(c.Context(), payload, list)
	return report, badPolicy(err)
}
