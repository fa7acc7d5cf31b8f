// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/cmd/ronctl/auditlog"
	"github.com/rustyonions/macronode/cmd/ronctl/facet"
	"github.com/rustyonions/macronode/cmd/ronctl/index"
	"github.com/rustyonions/macronode/cmd/ronctl/mail"
	"github.com/rustyonions/macronode/cmd/ronctl/names"
	"github.com/rustyonions/macronode/cmd/ronctl/policy"
	"github.com/rustyonions/macronode/cmd/ronctl/register"
	"github.com/rustyonions/macronode/cmd/ronctl/search"
)

const defaultNode = "http://127.0.0.1:8080"

// retryBurst is how many tries a command may make beyond the first of each call,
// over what its calls earn: a tree may have many files.
const retryBurst = 10 * client.DefaultRetryBurst

// maxCapFileBytes bounds a .cap file: a token is at most 4096 bytes of CBOR.
const maxCapFileBytes = 16 << 10

// app holds the global flags.
type app struct {
	cli.Terminal
	node, cap, context, ca string
	cert, key              string
	discharges             []string
	insecure, plaintext    bool
	timeout                time.Duration
	cancel                 context.CancelFunc // of the timeout
	dialled                string             // the node that connect prepared for
}

func run(ctx context.Context, args []string, t cli.Terminal) int {
	a := &app{Terminal: t, cancel: func() {}}
	defer func() { a.cancel() }()
	return a.Run(ctx, a.command(), args, cli.Judge{Exit: exitCode, Describe: a.describe})
}

// aToken is what looks like a capability. One that was typed in the wrong place
// must not go on into a log with the error.
var aToken = regexp.MustCompile(capability.TextPrefix + `[A-Za-z0-9_-]+`)

// describe tells what went wrong; the node's own problem document goes on as it is.
func (a *app) describe(err error, _ int) (string, any) {
	hide := func(s string) string { return aToken.ReplaceAllString(s, capability.TextPrefix+"…") }
	line := hide(a.explain(err))
	var refused *client.Error
	if !errors.As(err, &refused) {
		return line, map[string]string{"error": line}
	}
	p := refused.Problem
	p.Title, p.Detail = hide(p.Title), hide(p.Detail)
	return line, p
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
	case errors.Is(err, client.ErrPlaintext):
		return fmt.Sprintf("%v: nothing was sent to %s\nUse https:// or oap://, or --insecure-plaintext if all on the way may read the capability.", client.ErrPlaintext, a.dialled)
	case !errors.As(err, &network):
		return err.Error()
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return fmt.Sprintf("no answer from the node at %s: %v\nIs it running there? The address comes from --node, RON_NODE or the context.", a.dialled, err)
	case errors.As(err, &unknown):
		return fmt.Sprintf("no answer from the node at %s: %v\nGive its certificate authority with --ca or RON_CA.", a.dialled, err)
	}
	return fmt.Sprintf("no answer from the node at %s: %v", a.dialled, err)
}

// exitCode sets apart what time ran out for.
func exitCode(err error) int {
	var refused *client.Error
	late := errors.As(err, &refused) && (refused.Status == http.StatusRequestTimeout || refused.Status == http.StatusGatewayTimeout)
	if late || errors.Is(err, context.DeadlineExceeded) {
		return macronode.ExitNotReady
	}
	return macronode.ExitFailed
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "ronctl",
		Short: "Talk to a macronode",
		Long: "ronctl talks to a macronode: objects, names, messages, capabilities, tenants and the node itself.\n\n" +
			"The node and the capability come from --node and --cap, else from the context that\n--context names, else from RON_NODE and RON_CAP, else from the current context (see:\nronctl context --help). A context's capability goes to that context's node alone.\n\n" +
			"A node is spoken to over HTTP (https://, http://, unix://) or over OAP/1: oap:// is TLS, but\nunencrypted to a loopback address, as a development node speaks it, unless --ca, --cert or\n--insecure-tls is given; oaps:// is always TLS, oap+plain:// never. A capability goes\nunencrypted to another machine only with --insecure-plaintext.",
		Example: "  export RON_NODE=http://127.0.0.1:8080 RON_CAP=@macronode-data/tenant.cap\n  ronctl put README.md\n  ronctl ls",
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if a.timeout > 0 {
				ctx, cancel := context.WithTimeout(c.Context(), a.timeout)
				a.cancel = cancel
				c.SetContext(ctx)
			}
			return nil
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.node, "node", "", "address of the node: https://, http://, oap:// or oaps:// and HOST:PORT, or unix:///PATH (RON_NODE)")
	f.StringVar(&a.cap, "cap", "", "capability: a token or @FILE (RON_CAP)")
	f.StringArrayVar(&a.discharges, "discharge", nil, "discharge of a third-party caveat of the capability, TOKEN or @FILE; repeatable")
	f.StringVar(&a.context, "context", "", "named context to use (RON_CONTEXT)")
	f.StringVar(&a.ca, "ca", "", "PEM file with the certificate authority of the node (RON_CA)")
	f.StringVar(&a.cert, "cert", "", "PEM file with the certificate to show to the node (RON_CERT)")
	f.StringVar(&a.key, "key", "", "PEM file with the certificate's key, mode 0600; default: in the file of --cert (RON_KEY)")
	f.BoolVar(&a.insecure, "insecure-tls", false, "accept any certificate; for nodes on this machine alone")
	f.BoolVar(&a.plaintext, "insecure-plaintext", false, "send the capability unencrypted to another machine, for all on the way to read")
	f.DurationVar(&a.timeout, "timeout", 0, "give up after this long; 0 waits (exit code 5)")
	a.Setup(root, "  ronctl help cap attenuate", a.putCommand(), a.getCommand(), a.statCommand(), a.lsCommand(), a.rmCommand(),
		a.capCommand(), a.tenantCommand(), a.nodeCommand(), mail.Command(&a.Terminal, a.connect), register.Command(&a.Terminal, a.connect), auditlog.Command(&a.Terminal, a.connect), policy.Command(&a.Terminal, a.connect), a.drillCommand(), a.contextCommand(), a.versionCommand())
	root.AddCommand(search.Command(&a.Terminal, a.connect))
	root.AddCommand(names.Command(&a.Terminal, a.connect))
	root.AddCommand(index.Commands(&a.Terminal, a.connect)...)
	root.AddCommand(facet.Graph(&a.Terminal, a.connect), facet.Feed(&a.Terminal, a.connect))
	return root
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print ronctl's version", Example: "  ronctl version --output json", Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			doc := map[string]string{"client": "ronctl", "go": "unknown"}
			if info, ok := debug.ReadBuildInfo(); ok {
				doc["go"] = info.GoVersion
				doc["module"] = info.Main.Version
			}
			return a.Print(doc, func(w io.Writer) { fmt.Fprintf(w, "ronctl %s %s\n", doc["module"], doc["go"]) })
		},
	}
}

// connect prepares the client that flags, environment and context describe.
func (a *app) connect(c *cobra.Command) (context.Context, *client.Client, error) {
	ctx := c.Context()
	t, err := a.target()
	if err != nil {
		return nil, nil, err
	}
	// What somebody sits before and waits for may repeat more than a service may.
	o := client.Options{Token: t.token, InsecureTLS: a.insecure, Plaintext: a.plaintext, UserAgent: "ronctl",
		RetryBudget: client.RetryBudget{Burst: retryBurst}}
	for _, d := range a.discharges {
		text, err := readCap(d)
		if err != nil {
			return nil, nil, err
		}
		o.Discharges = append(o.Discharges, text)
	}
	if t.ca != "" {
		pem, err := os.ReadFile(t.ca)
		if err != nil {
			return nil, nil, err
		}
		o.CA = x509.NewCertPool()
		if !o.CA.AppendCertsFromPEM(pem) {
			return nil, nil, cli.Exit(fmt.Errorf("%s holds no certificate", t.ca), macronode.ExitConfig)
		}
	}
	if t.cert != "" {
		pair, err := clientPair(t.cert, cmp.Or(t.key, t.cert))
		if err != nil {
			return nil, nil, err
		}
		o.Certificate = &pair
	}
	if jobs, err := c.Flags().GetInt("jobs"); err == nil {
		o.IdleConns = max(jobs, client.DefaultIdleConns)
	}
	a.dialled = t.node
	cl, err := client.Dial(t.node, o)
	if err != nil {
		return nil, nil, cli.Usage(err)
	}
	return ctx, cl, nil
}

// target is where a command goes and with what.
type target struct{ node, token, ca, cert, key string }

func (a *app) target() (target, error) {
	saved, err := a.currentContext()
	if err != nil {
		return target{}, err
	}
	// A context named on this command line goes before the environment, one that
	// was chosen some time ago comes after it.
	pick := func(flag, env, saved string) string {
		if a.context != "" {
			return cmp.Or(flag, saved, a.Getenv(env))
		}
		return cmp.Or(flag, a.Getenv(env), saved)
	}
	t := target{node: cmp.Or(pick(a.node, "RON_NODE", saved.Node), defaultNode)}
	if t.node != saved.Node {
		saved.Cap, saved.CA, saved.Cert, saved.Key = "", "", "", "" // not for another node's eyes
	}
	t.ca = pick(a.ca, "RON_CA", saved.CA)
	t.cert, t.key = pick(a.cert, "RON_CERT", saved.Cert), pick(a.key, "RON_KEY", saved.Key)
	if a.cert != "" && a.key == "" {
		t.key = "" // one of another certificate
	}
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
			return "", cli.Usagef("the capability does not begin with %s; a file is given as @FILE", capability.TextPrefix)
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

// clientPair reads a client certificate and its key, which others must not read.
func clientPair(cert, key string) (tls.Certificate, error) {
	info, err := os.Stat(key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("client certificate's key: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return tls.Certificate{}, fmt.Errorf("client certificate's key %s: others may read it; chmod 600 it first", key)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return pair, cli.Exit(fmt.Errorf("client certificate %s with key %s: %w", cert, key, err), macronode.ExitConfig)
	}
	return pair, nil
}
