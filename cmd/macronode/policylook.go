// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

// testedPolicy is what policy test prints as JSON.
type testedPolicy struct {
	policy.Report
	Coverage *policy.Coverage `json:"coverage,omitempty"`
}

func (a *app) policyTest() *cobra.Command {
	var coverage bool
	var least int
	c := &cobra.Command{
		Use: "test SRCDIR|FILE", Short: "Run a policy's own tests; exit 1 if one fails", Args: cli.ExactArgs(1),
		Long: "test runs the tests that a policy brings. With --coverage it says of each policy which tests it\n" +
			"decided, which it matched without deciding, and which only its conditions kept away; with\n" +
			"--min N it fails (exit 1) where fewer than N percent of the policies decided some test.",
		Example: "  macronode policy test ./policy --coverage --min 90",
		RunE: func(c *cobra.Command, args []string) error {
			if least < 0 || least > 100 {
				return cli.Usagef("--min is a percentage from 0 to 100")
			}
			payload, err := candidatePayload(args[0])
			if err != nil {
				return err
			}
			report, covered, err := policy.Cover(payload)
			if err != nil {
				return badPolicy(err)
			}
			doc := testedPolicy{Report: report}
			if coverage || c.Flags().Changed("min") {
				doc.Coverage = &covered
			}
			err = a.Print(doc, doc.write)
			switch {
			case err != nil:
				return err
			case report.Failed > 0:
				return cli.ExitSilently(report.Err(), macronode.ExitFailed)
			case covered.Percent < least:
				return cli.Exit(fmt.Errorf("%d%% of the policies decided a test, %d%% are wanted", covered.Percent, least), macronode.ExitFailed)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&coverage, "coverage", false, "say which policies the tests reach")
	c.Flags().IntVar(&least, "min", 0, "least percentage of policies that must decide some test")
	return c
}

func (t *testedPolicy) write(w io.Writer) {
	for _, r := range t.Results {
		mark := "ok"
		if !r.Pass {
			mark = "FAILED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, r.Name, r.Detail)
	}
	fmt.Fprintf(w, "%d passed, %d failed\n", t.Passed, t.Failed)
	if t.Coverage == nil {
		return
	}
	fmt.Fprintf(w, "\nPOLICY\tEFFECT\tDECIDED\tMATCHED\tMISSED\tWHERE\n")
	for _, p := range t.Coverage.Policies {
		missed := fmt.Sprint(len(p.Missed))
		if !p.Conditions {
			missed = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s:%d\n", p.ID, p.Effect, len(p.DecidedBy), len(p.MatchedBy), missed, p.File, p.Line)
	}
	fmt.Fprintf(w, "%d of %d policies decided a test: %d%%\n", t.Coverage.Decided, len(t.Coverage.Policies), t.Coverage.Percent)
}

func (a *app) policyLint() *cobra.Command {
	var level string
	c := &cobra.Command{
		Use: "lint SRCDIR|FILE", Short: "Find rules that are likely mistakes; exit 1 if there are any", Args: cli.ExactArgs(1),
		Long: "lint looks for what is legal and likely not meant: rules that never apply or that another makes\n" +
			"pointless, permits for everything or everybody, rules that no test decides, tenants and quotas\n" +
			"of whom nothing is known, rules that read the clock. --output json has level, check, policy,\n" +
			"file, line and text of each finding.",
		Example: "  macronode policy lint ./policy --level warning",
		RunE: func(_ *cobra.Command, args []string) error {
			if level != "note" && level != "warning" {
				return cli.Usagef("--level is note or warning, not %q", level)
			}
			payload, err := candidatePayload(args[0])
			if err != nil {
				return err
			}
			findings, err := policy.Lint(payload)
			if err != nil {
				return badPolicy(err)
			}
			findings = slices.DeleteFunc(append([]policy.Finding{}, findings...), func(f policy.Finding) bool { return level == "warning" && f.Level != level })
			err = a.Print(findings, func(w io.Writer) {
				for _, f := range findings {
					where := "-"
					if f.File != "" {
						where = fmt.Sprintf("%s:%d", f.File, f.Line)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Level, f.Check, where, f.Policy, f.Text)
				}
			})
			if err == nil && len(findings) > 0 {
				err = cli.Exit(fmt.Errorf("%d findings", len(findings)), macronode.ExitFailed)
			}
			return err
		},
	}
	c.Flags().StringVar(&level, "level", "note", "least level that is told and fails: note or warning")
	return c
}

func (a *app) policyExplain() *cobra.Command {
	var request string
	var r policy.Request
	var tls bool
	c := &cobra.Command{
		Use: "explain SRCDIR|FILE [--request FILE|-]", Short: "Say which policy decides a request, and why", Args: cli.ExactArgs(1),
		Long: "explain says what a policy decides on one request, which policies decided, which matched without\n" +
			"deciding and which failed, and what kept the nearest others from applying. The request comes as\n" +
			"JSON with --request, or by the other flags.",
		Example: `  macronode policy explain ./policy --tenant system --action node:drain --resource node/
  echo '{"tenant":"system","action":"node:drain","resource":"node/"}' | macronode policy explain ./policy --request -`,
		RunE: func(c *cobra.Command, args []string) error {
			flags := r.Action != "" || r.Resource != ""
			if flags == (request != "") {
				return cli.Usagef("policy explain needs --action and --resource, or --request FILE, or --request - for standard input")
			}
			payload, err := candidatePayload(args[0])
			if err != nil {
				return err
			}
			if flags {
				if c.Flags().Changed("tls") {
					r.TLS = &tls
				}
			} else if r, err = a.readRequest(request); err != nil {
				return err
			}
			e, err := policy.Explain(payload, r)
			if err != nil {
				return badPolicy(err)
			}
			return a.Print(e, func(w io.Writer) { writeExplanation(w, e) })
		},
	}
	f := c.Flags()
	f.StringVar(&request, "request", "", "file with the request as JSON; - is standard input")
	f.StringVar(&r.Principal, "principal", "", "capability (default), anonymous or peer")
	f.StringVar(&r.Tenant, "tenant", "", "the caller's tenant: a ULID, system, anonymous, or a label that the tests know")
	f.StringVar(&r.Label, "label", "", "the tenant's label, where --tenant is a ULID")
	f.StringVar(&r.Root, "root", "", "root id of the capability, 32 hex digits")
	f.StringVar(&r.Node, "peer", "", "a peer's node_id")
	f.StringVar(&r.Action, "action", "", "what is done: object:get")
	f.StringVar(&r.Resource, "resource", "", "to what: object/b3:…, topic/jobs, node/")
	f.Int64Var(&r.Bytes, "bytes", 0, "length of the request's body")
	f.StringVar(&r.IP, "ip", "", "the caller's address (default 127.0.0.1)")
	f.BoolVar(&tls, "tls", true, "whether the connection is TLS")
	f.StringVar(&r.Subject, "mtls-subject", "", "subject of the client certificate")
	f.StringVar(&r.Path, "path", "", "the route's pattern")
	f.StringVar(&r.Method, "method", "", "the HTTP method")
	f.Int64Var(&r.Hour, "hour", 0, "hour of the day, UTC")
	f.StringVar(&r.Service, "service", "", "the service that would answer")
	return c
}

// maxRequestBytes bounds a request that is read.
const maxRequestBytes = 1 << 20

// readRequest reads a request as JSON from a file, or from standard input.
func (a *app) readRequest(from string) (r policy.Request, err error) {
	var text []byte
	if from == "-" {
		text, err = io.ReadAll(io.LimitReader(a.In, maxRequestBytes))
	} else {
		text, err = readText(from)
	}
	if err != nil {
		return r, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, cli.Exit(fmt.Errorf("request: %w", err), macronode.ExitConfig)
	}
	return r, nil
}

func writeExplanation(w io.Writer, e policy.Explanation) {
	fmt.Fprintf(w, "%s: %s\n", e.Decision, e.Summary)
	for _, r := range e.Reasons {
		fmt.Fprintf(w, "decided by\t%s\t%s\t%s:%d\n", r.Effect, r.ID, r.File, r.Line)
	}
	for _, r := range e.Matched {
		fmt.Fprintf(w, "matched too\t%s\t%s\t%s:%d\n", r.Effect, r.ID, r.File, r.Line)
	}
	for _, f := range e.Errors {
		fmt.Fprintf(w, "failed\t%s\t%s:%d\t%s\n", f.ID, f.File, f.Line, f.Message)
	}
	for _, o := range e.Obligations {
		fmt.Fprintf(w, "obligation\t%s\n", o)
	}
	for _, m := range e.NearMisses {
		fmt.Fprintf(w, "would %s\t%s\t%s:%d\tbut lacks: %s\n", m.Effect, m.ID, m.File, m.Line, strings.Join(m.Lacks, "; "))
	}
}
