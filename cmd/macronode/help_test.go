// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
)

var update = flag.Bool("update", false, "rewrite golden files")

// result is one invocation as a user sees it.
type result struct {
	code     int
	out, err string
}

// invoke runs a command line with an environment of its own.
func invoke(t testing.TB, in string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(context.WithoutCancel(t.Context()), args, cli.Terminal{In: strings.NewReader(in), Out: &out, Err: &errs, Getenv: func(string) string { return "" }})
	return result{code, out.String(), errs.String()}
}

// walk calls f with every command a user can see.
func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			walk(sub, f)
		}
	}
}

func tree() *cobra.Command {
	a := &app{Terminal: cli.Terminal{Getenv: func(string) string { return "" }}}
	return a.command()
}

// TestHelp holds every help text against testdata/help.golden.
func TestHelp(t *testing.T) {
	var got bytes.Buffer
	walk(tree(), func(c *cobra.Command) {
		if c.Parent() != nil && c.Parent().Name() == "completion" {
			return // the library's own
		}
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		r := invoke(t, "", args...)
		if r.code != 0 || r.err != "" {
			t.Errorf("%v: exit %d, stderr %q", args, r.code, r.err)
		}
		fmt.Fprintf(&got, "$ %s --help\n%s\n", c.CommandPath(), r.out)
	})
	const file = "testdata/help.golden"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if g, w := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n"); got.String() != string(want) {
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				t.Fatalf("the help is not what %s says, first in line %d; look at it, then: make golden\n got  %s\n want %s", file, i+1, g[i], w[i])
			}
		}
		t.Fatalf("the help has %d lines, %s has %d; look at it, then: make golden", len(g), file, len(w))
	}
}

// TestExamples: every command shows how it is used.
func TestExamples(t *testing.T) {
	walk(tree(), func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no description", c.CommandPath())
		}
		switch {
		case c.Example == "":
			t.Errorf("%s has no example", c.CommandPath())
		case !strings.Contains(c.Example, "macronode"):
			t.Errorf("%s: the example is not a command line: %s", c.CommandPath(), c.Example)
		}
	})
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args  string
		wants string
	}{
		{"", "a command is needed"},
		{"runn", "did you mean run?"},
		{"bogus", `unknown command "bogus"`},
		{"kms", "needs a subcommand"},
		{"kms rotat", "did you mean rotate?"},
		{"run extra", "unknown command"},
		{"run --nope", "unknown flag"},
		{"run --confg x", "did you mean --config?"},
		{"run --opa x", "did you mean --oap?"},
		{"completion", "needs a subcommand"},
		{"run --http 0.0.0.0:0", "loopback"},
		{"run --config x --http 127.0.0.1:0", "development mode"},
		{"--output xml version", "text or json"},
		{"init", "needs --data"},
		{"init --data x --tls maybe", "self-signed or none"},
		{"init --data x --tenant UPPER", "a label is"},
		{"check", "--config FILE or --data DIR"},
		{"bundle sign", "takes 1 argument"},
		{"bundle sign x", "needs --data"},
		{"config diff x", "takes 2 argument"},
		{"policy explain x y", "takes 1 argument"},
		{"policy build x --data y", "needs -o"},
		{"kms list", "needs --data"},
		{"kms create bad/name --data x", "key name"},
		{"kms create x --alg rot13 --data x", "--alg"},
		{"kms create x --purpose fun --data x", "--purpose"},
		{"kms create x --alg ed25519 --purpose tls-nope --data x", "--purpose"},
		{"kms import x --data x", "needs --in"},
		{"kms put-object x --data x", "needs --in"},
		{"kms export-recovery --data x", "needs --out"},
		{"kms restore-root --data x", "needs --in"},
		{"kms export-public a b --data x", "argument"},
	} {
		r := invoke(t, "", strings.Fields(c.args)...)
		if r.code != 2 || !strings.Contains(r.err, c.wants) {
			t.Errorf("macronode %s: exit %d, want 2 and %q:\n%s", c.args, r.code, c.wants, r.err)
		}
		if r.out != "" {
			t.Errorf("macronode %s: a fault in standard output: %s", c.args, r.out)
		}
	}
}

func TestJSONErrors(t *testing.T) {
	r := invoke(t, "", "--output", "json", "bundle", "hash", "/no/such/file")
	if r.code != 3 || !strings.Contains(r.err, `"exit_code":3`) || r.out != "" {
		t.Errorf("%+v", r)
	}
	// A fault in the command line is one document too, no hint beside it.
	r = invoke(t, "", "--output", "json", "kms")
	if r.code != 2 || !json.Valid([]byte(r.err)) {
		t.Errorf("%+v", r)
	}
}

func TestVersion(t *testing.T) {
	r := invoke(t, "", "version", "--json")
	if r.code != 0 || !strings.Contains(r.out, `"semver"`) {
		t.Errorf("%+v", r)
	}
	if r := invoke(t, "", "version"); r.code != 0 || !strings.HasPrefix(r.out, "macronode ") {
		t.Errorf("%+v", r)
	}
}
