// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Command macronode is the node.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}))
}
