// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Command macronode is the node.
package main

import (
	"context"
	"os"

	"github.com/rustyonions/macronode/cmd/internal/cli"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], cli.Terminal{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}))
}
