// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package inspect is the commands that say why a node does what it does: what it
// keeps itself from, and why it refused a call.
package inspect

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/client"
)

// Tools are what the commands need of ronctl.
type Tools struct {
	// Connect returns a client of the node that the command line names.
	Connect func(*cobra.Command) (context.Context, *client.Client, error)
	// Print writes doc as JSON, or calls text, as the command line says.
	Print func(doc any, text func(io.Writer)) error
}
