// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/cmd/ronctl/state"
)

func (a *app) nodePeers() *cobra.Command {
	return &cobra.Command{
		Use: "peers", Short: "Show the nodes that this one holds sessions with", Args: cli.NoArgs, Example: "  ronctl node peers --cap @macronode-data/operator.cap",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			doc, err := cl.Document(ctx, "/v1/admin/status")
			if err != nil {
				return err
			}
			var s state.Node
			if err := json.Unmarshal(doc, &s); err != nil {
				return fmt.Errorf("the node's status is no status: %w", err)
			}
			if s.Peers == nil {
				s.Peers = []state.Peer{}
			}
			return a.Print(map[string]any{"peers": s.Peers}, func(w io.Writer) { state.WritePeers(w, s.Peers) })
		},
	}
}
