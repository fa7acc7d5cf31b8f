// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package cli is what the commands of this project have in common, so that who
// knows one of them knows the other: standard output holds answers alone, as text
// or JSON; faults go to standard error; the exit code says which kind of fault it
// was; a mistyped word is answered with the one that was perhaps meant.
package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
)

// Terminal is the outside of one invocation, so that tests have their own.
type Terminal struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Output   string // text or json: the flag --output, that Setup adds
}

// JSON reports whether answers are to be JSON.
func (t *Terminal) JSON() bool { return t.Output == "json" }

// Print writes doc as JSON, or what text writes, its columns parted by tabs.
func (t *Terminal) Print(doc any, text func(io.Writer)) error {
	if t.JSON() {
		e := json.NewEncoder(t.Out)
		e.SetIndent("", "  ")
		return e.Encode(doc)
	}
	w := tabwriter.NewWriter(t.Out, 2, 8, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// Setup makes root the root of a command line with the commands sub: it has the
// flag --output, and a fault in its use is told as such. The example is of its
// command help.
func (t *Terminal) Setup(root *cobra.Command, helpExample string, sub ...*cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true // Run reports
	root.SuggestionsMinimumDistance = suggestWithin
	root.Args = NoArgs
	if root.RunE == nil {
		root.RunE = NeedsCommand
	}
	next := root.PersistentPreRunE
	root.PersistentPreRunE = func(c *cobra.Command, args []string) error {
		if t.Output != "text" && t.Output != "json" {
			return Usagef("--output is text or json, not %q", t.Output)
		}
		if next == nil {
			return nil
		}
		return next(c, args)
	}
	root.PersistentFlags().StringVar(&t.Output, "output", "text", "text or json")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(sub...)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() { // cobra's own have no examples
		switch c.Name() {
		case "help":
			c.Example = helpExample
		case "completion":
			c.Example = fmt.Sprintf("  %s bash > /etc/bash_completion.d/%s", c.CommandPath(), root.Name())
			c.Args, c.RunE = NoArgs, needsSubcommand
			for _, shell := range c.Commands() {
				shell.Example = "  " + shell.CommandPath()
			}
		}
	}
}

// Judge says what one program knows of its own errors.
type Judge struct {
	// Exit returns the exit code of an error that is no fault in the command
	// line, brings no code of its own and is no refusal of a capability.
	Exit func(error) int
	// Describe returns what is told of an error: a line, and a document for JSON.
	Describe func(err error, code int) (line string, doc any)
}

// Run executes root, which Setup has prepared, and returns the exit code. What
// went wrong goes to t.Err.
func (t *Terminal) Run(ctx context.Context, root *cobra.Command, args []string, j Judge) int {
	root.SetArgs(append([]string{}, args...)) // nil would mean the arguments of the process
	root.SetIn(t.In)
	root.SetOut(t.Out)
	root.SetErr(t.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return macronode.ExitOK
	}
	code := exitCode(err, j.Exit)
	if silent(err) {
		return code
	}
	line, doc := j.Describe(err, code)
	if t.JSON() {
		json.NewEncoder(t.Err).Encode(doc)
		return code
	}
	fmt.Fprintf(t.Err, "%s: %s\n", root.Name(), line)
	if code == macronode.ExitUsage {
		fmt.Fprintf(t.Err, "Try: %s --help\n", root.Name())
	}
	return code
}
