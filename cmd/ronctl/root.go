// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
)

const defaultNode = "http://127.0.0.1:8080"

// maxCapFileBytes bounds a .cap file: a token is at most 4096 bytes of CBOR.
const maxCapFileBytes = 16 << 10

// terminal is the outside of one invocation, so that tests have their own.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
}

// app holds the global flags.
type app struct {
	terminal
	node, cap, context, output, ca string
	insecure                       bool
	timeout                        time.Duration
	cancel                         context.CancelFunc // of the timeout
	dialled                        string             // the node that connect prepared for
}

// usageError is a fault in the command line: exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// codeError carries its own exit code.
type codeError struct {
	error
	code int
}

func (c codeError) Unwrap() error { return c.error }

func run(ctx context.Context, args []string, t terminal) int {
	a := &app{terminal: t, cancel: func() {}}
	defer func() { a.cancel() }()
	root := a.command()
	root.SetArgs(append([]string{}, args...)) // nil would mean the arguments of the process
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return macronode.ExitOK
	}
	code := exitCode(err)
	a.report(err, code)
	return code
}

// aToken is what looks like a capability. One that was typed in the wrong place
// must not go on into a log with the error.
var aToken = regexp.MustCompile(capability.TextPrefix + `[A-Za-z0-9_-]+`)

// report tells what went wrong: the node's own problem document or an "error"
// member as JSON, else a line and what to do.
func (a *app) report(err error, code int) {
	hide := func(s string) string { return aToken.ReplaceAllString(s, capability.TextPrefix+"…") }
	var refused *client.Error
	if a.output == "json" {
		var doc any = map[string]string{"error": hide(a.explain(err))}
		if errors.As(err, &refused) {
			p := refused.Problem
			p.Title, p.Detail = hide(p.Title), hide(p.Detail)
			doc = p
		}
		json.NewEncoder(a.err).Encode(doc)
		return
	}
	fmt.Fprintln(a.err, "ronctl:", hide(a.explain(err)))
	if code == macronode.ExitUsage {
		fmt.Fprintln(a.err, "Try: ronctl --help")
	}
}

// explain adds to failures of the network which node was asked and what may be
// wrong with that.
func (a *app) explain(err error) string {
	var network *url.Error
	var unknown x509.UnknownAuthorityError
	var tree *treeError
	switch {
	case errors.As(err, &tree):
		return fmt.Sprintf("%s\n%d of %d files are %s; the same command again goes on from there.", a.explain(tree.error), tree.done, tree.files, tree.where)
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case !errors.As(err, &network):
		return err.Error()
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return fmt.Sprintf("no answer from the node at %s: %v\nIs it running there? The address comes from --node, RON_NODE or the context.", a.dialled, err)
	case errors.As(err, &unknown):
		return fmt.Sprintf("no answer from the node at %s: %v\nGive its certificate authority with --ca or RON_CA.", a.dialled, err)
	}
	return fmt.Sprintf("no answer from the node at %s: %v", a.dialled, err)
}

func exitCode(err error) int {
	var usage usageError
	var coded codeError
	var refused *client.Error
	late := func() bool {
		return refused != nil && (refused.Status == http.StatusRequestTimeout || refused.Status == http.StatusGatewayTimeout)
	}
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"):
		return macronode.ExitUsage
	case errors.As(err, &refused) && refused.Denied():
		return macronode.ExitDenied
	case errors.Is(err, context.DeadlineExceeded), late():
		return macronode.ExitNotReady
	default:
		return macronode.ExitFailed
	}
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "ronctl",
		Short: "Talk to a macronode",
		Long: "ronctl talks to a macronode: objects, capabilities, tenants and the node itself.\n\n" +
			"The node and the capability come from --node and --cap, else from the context that\n--context names, else from RON_NODE and RON_CAP, else from the current context (see:\nronctl context --help). A context's capability goes to that context's node alone.",
		Example:       "  export RON_NODE=http://127.0.0.1:8080 RON_CAP=@macronode-data/tenant.cap\n  ronctl put README.md\n  ronctl ls",
		SilenceErrors: true, SilenceUsage: true,
		SuggestionsMinimumDistance: 2,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if a.output != "text" && a.output != "json" {
				return usagef("--output is text or json, not %q", a.output)
			}
			if a.timeout > 0 {
				ctx, cancel := context.WithTimeout(c.Context(), a.timeout)
				a.cancel = cancel
				c.SetContext(ctx)
			}
			return nil
		},
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			c.SetOut(a.err)
			c.Help()
			return usagef("a command is needed")
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.node, "node", "", "address of the node: http://HOST:PORT, https://HOST:PORT or unix:///PATH (RON_NODE)")
	f.StringVar(&a.cap, "cap", "", "capability: a token or @FILE (RON_CAP)")
	f.StringVar(&a.context, "context", "", "named context to use (RON_CONTEXT)")
	f.StringVar(&a.output, "output", "text", "text or json")
	f.StringVar(&a.ca, "ca", "", "PEM file with the certificate authority of the node (RON_CA)")
	f.BoolVar(&a.insecure, "insecure-tls", false, "accept any certificate; for nodes on this machine alone")
	f.DurationVar(&a.timeout, "timeout", 0, "give up after this long; 0 waits (exit code 5)")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(a.putCommand(), a.getCommand(), a.statCommand(), a.lsCommand(), a.rmCommand(),
		a.capCommand(), a.tenantCommand(), a.nodeCommand(), a.contextCommand(), a.versionCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() { // cobra's own have no examples
		switch c.Name() {
		case "help":
			c.Example = "  ronctl help cap attenuate"
		case "completion":
			c.Example = "  ronctl completion bash > /etc/bash_completion.d/ronctl"
			c.Args, c.RunE = noArgs, needsSubcommand
			for _, shell := range c.Commands() {
				shell.Example = "  ronctl completion " + shell.Name()
			}
		}
	}
	return root
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print ronctl's version", Example: "  ronctl version --output json", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			doc := map[string]string{"client": "ronctl", "go": "unknown"}
			if info, ok := debug.ReadBuildInfo(); ok {
				doc["go"] = info.GoVersion
				doc["module"] = info.Main.Version
			}
			return a.print(doc, func(w io.Writer) { fmt.Fprintf(w, "ronctl %s %s\n", doc["module"], doc["go"]) })
		},
	}
}

// noArgs, exactArgs, maxArgs and minArgs are cobra's with exit code 2, and with a hint
// where a word may be a mistyped subcommand.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	msg := fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())
	if near := nearest(args[0], c.SuggestionsFor(args[0])); len(near) > 0 {
		msg += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("%s", msg)
}

// flagError adds the flag that was perhaps meant.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return usageError{err}
	}
	var close []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if levenshtein.Distance(f.Name, unknown.GetSpecifiedName(), nil) <= 2 {
			close = append(close, "--"+f.Name)
		}
	})
	if near := nearest("--"+unknown.GetSpecifiedName(), close); len(near) > 0 {
		return usagef("%w; did you mean %s?", err, strings.Join(near, " or "))
	}
	return usageError{err}
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

func exactArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s takes %d argument(s), got %d; usage: %s", c.CommandPath(), n, len(args), c.UseLine())
		}
		return nil
	}
}

func maxArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef("%s takes at most %d argument(s), got %d; usage: %s", c.CommandPath(), n, len(args), c.UseLine())
		}
		return nil
	}
}

func minArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef("%s takes at least %d argument(s); usage: %s", c.CommandPath(), n, c.UseLine())
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short, example string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: noArgs, SuggestionsMinimumDistance: 2, RunE: needsSubcommand}
	c.AddCommand(sub...)
	return c
}

func needsSubcommand(c *cobra.Command, _ []string) error {
	return usagef("%s needs a subcommand; see: %s --help", c.CommandPath(), c.CommandPath())
}

// connect prepares the client that flags, environment and context describe.
func (a *app) connect(c *cobra.Command) (context.Context, *client.Client, error) {
	ctx := c.Context()
	t, err := a.target()
	if err != nil {
		return nil, nil, err
	}
	o := client.Options{Token: t.token, InsecureTLS: a.insecure, UserAgent: "ronctl"}
	if t.ca != "" {
		pem, err := os.ReadFile(t.ca)
		if err != nil {
			return nil, nil, err
		}
		o.CA = x509.NewCertPool()
		if !o.CA.AppendCertsFromPEM(pem) {
			return nil, nil, codeError{fmt.Errorf("%s holds no certificate", t.ca), macronode.ExitConfig}
		}
	}
	if jobs, err := c.Flags().GetInt("jobs"); err == nil {
		o.IdleConns = max(jobs, client.DefaultIdleConns)
	}
	a.dialled = t.node
	cl, err := client.Dial(t.node, o)
	if err != nil {
		return nil, nil, usageError{err}
	}
	return ctx, cl, nil
}

// target is where a command goes and with what.
type target struct{ node, token, ca string }

func (a *app) target() (target, error) {
	saved, err := a.currentContext()
	if err != nil {
		return target{}, err
	}
	// A context named on this command line goes before the environment, one that
	// was chosen some time ago comes after it.
	pick := func(flag, env, saved string) string {
		if a.context != "" {
			return cmp.Or(flag, saved, a.getenv(env))
		}
		return cmp.Or(flag, a.getenv(env), saved)
	}
	t := target{node: cmp.Or(pick(a.node, "RON_NODE", saved.Node), defaultNode)}
	if t.node != saved.Node {
		saved.Cap, saved.CA = "", "" // not for another node's eyes
	}
	t.ca = pick(a.ca, "RON_CA", saved.CA)
	t.token, err = readCap(pick(a.cap, "RON_CAP", saved.Cap))
	return t, err
}

// readCap returns the token given as itself or as @FILE; "" is none. What does
// not begin like a token is refused, so that another file's secrets do not travel
// in its stead.
func readCap(s string) (string, error) {
	path, isFile := strings.CutPrefix(s, "@")
	if !isFile {
		if s = strings.TrimSpace(s); s != "" && !strings.HasPrefix(s, capability.TextPrefix) {
			return "", usagef("the capability does not begin with %s; a file is given as @FILE", capability.TextPrefix)
		}
		return s, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("capability: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCapFileBytes+1))
	if err != nil {
		return "", fmt.Errorf("capability %s: %w", path, err)
	}
	if len(text) > maxCapFileBytes {
		return "", fmt.Errorf("capability %s: the file is too large for a token", path)
	}
	token := strings.TrimSpace(string(text))
	if !strings.HasPrefix(token, capability.TextPrefix) || strings.ContainsFunc(token, unicode.IsSpace) {
		return "", fmt.Errorf("capability %s: the file holds no token", path)
	}
	return token, nil
}

// print writes doc as JSON, or what text writes.
func (a *app) print(doc any, text func(io.Writer)) error {
	if a.output == "json" {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(doc)
	}
	w := tabwriter.NewWriter(a.out, 2, 8, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// each calls f with every page of a listing until one has no cursor.
func each(f func(cursor string) (next string, err error)) error {
	for cursor := ""; ; {
		next, err := f(cursor)
		if err != nil || next == "" {
			return err
		}
		if next == cursor {
			return errors.New("the node's list does not go on")
		}
		cursor = next
	}
}
