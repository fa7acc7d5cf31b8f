// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/cmd/ronctl/state"
)

func (a *app) nodePeers() *cobra.Command {
	return &cobra.Command{
		Use: "peers", Short: "Show the nodes that this one holds sessions with", Args: cli.NoArgs, Example: "  ronctl node peers --cap @macronode-data/operator.cap",
		RunE: func(c *cobra.Command, _ []string) error {
			_, s, err := a.status(c)
			if err != nil {
				return err
			}
			if s.Peers == nil {
				s.Peers = []state.Peer{}
			}
			return a.Print(map[string]any{"peers": s.Peers}, func(w io.Writer) { state.WritePeers(w, s.Peers) })
		},
	}
}
