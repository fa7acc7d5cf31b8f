// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Command ronctl is what operators and application developers of a macronode
// hold in their hand.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/rustyonions/macronode/cmd/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], cli.Terminal{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv})
	stop()
	os.Exit(code)
}
