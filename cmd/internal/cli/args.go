// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"math"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// suggestWithin is how many typing errors a word may have to be understood.
const suggestWithin = 2

// Group is a command that only holds others.
func Group(use, short, example string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: NoArgs, SuggestionsMinimumDistance: suggestWithin, RunE: needsSubcommand}
	c.AddCommand(sub...)
	return c
}

func needsSubcommand(c *cobra.Command, _ []string) error {
	return Usagef("%s needs a subcommand; see: %s --help", c.CommandPath(), c.CommandPath())
}

// NeedsCommand is what a bare root runs: its help, as a fault.
func NeedsCommand(c *cobra.Command, _ []string) error {
	c.SetOut(c.ErrOrStderr())
	c.Help()
	return Usagef("a command is needed")
}

// NoArgs, ExactArgs, MaxArgs and MinArgs are cobra's with exit code 2, and with
// a hint where a word may be a mistyped subcommand.
func NoArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return Usagef("unknown command %q for %q%s", args[0], c.CommandPath(), DidYouMean(args[0], c.SuggestionsFor(args[0])))
}

// ExactArgs wants n arguments.
func ExactArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return Usagef("%s takes %d argument(s), got %d; usage: %s", c.CommandPath(), n, len(args), c.UseLine())
		}
		return nil
	}
}

// MaxArgs wants n arguments at the most.
func MaxArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return Usagef("%s takes at most %d argument(s), got %d; usage: %s", c.CommandPath(), n, len(args), c.UseLine())
		}
		return nil
	}
}

// MinArgs wants n arguments or more.
func MinArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return Usagef("%s takes at least %d argument(s); usage: %s", c.CommandPath(), n, c.UseLine())
		}
		return nil
	}
}

// flagError adds the flag that was perhaps meant.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return Usage(err)
	}
	typed := unknown.GetSpecifiedName()
	var near []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if levenshtein.Distance(f.Name, typed, nil) <= suggestWithin {
			near = append(near, "--"+f.Name)
		}
	})
	return Usagef("%w%s", err, DidYouMean("--"+typed, near))
}

// DidYouMean ends a message with those of words that typed is nearest to.
func DidYouMean(typed string, words []string) string {
	near := nearest(typed, words)
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

// nearest keeps the words that fewest typing errors turn into typed.
func nearest(typed string, words []string) []string {
	var best []string
	least := math.MaxInt
	for _, w := range words {
		d := levenshtein.Distance(typed, w, nil)
		if d < least {
			best, least = nil, d
		}
		if d == least {
			best = append(best, w)
		}
	}
	return best
}
