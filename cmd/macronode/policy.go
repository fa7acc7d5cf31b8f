// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

func (a *app) policyCommand() *cobra.Command {
	return cli.Group("policy", "Build, sign, test and explain policy bundles", "  macronode policy test policy.bundle.json",
		a.policyBuild(), a.policySign(), a.policyVerify(), a.policyTest(), a.policyLint(), a.policyExplain(), a.policyReplay(), a.policyDefaults())
}

// candidatePayload reads a payload from a source directory, an envelope or a bare
// payload, to be looked at: its own tests may fail.
func candidatePayload(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cli.Exit(err, macronode.ExitConfig)
	}
	if info.IsDir() {
		// Sources do not say when their bundle ends, the build does: some end is
		// assumed, so that lint speaks of what stands in them alone.
		now := time.Now()
		payload, err := policy.AssembleDir(os.DirFS(path), policy.Meta{Version: 1, Issued: now, Expires: now.Add(time.Hour)})
		return payload, badPolicy(err)
	}
	text, err := readText(path)
	if err != nil {
		return nil, err
	}
	if env, err := bundle.Decode(text); err == nil {
		return env.Payload, nil
	}
	return bytes.TrimSpace(text), nil
}

// badPolicy gives a policy that does not load its exit code.
func badPolicy(err error) error {
	if err == nil {
		return nil
	}
	return cli.Exit(err, macronode.ExitConfig)
}

func (a *app) policyTest() *cobra.Command {
	return &cobra.Command{
		Use: "test SRCDIR|FILE", Short: "Run a policy's own tests; exit 1 if one fails", Args: cli.ExactArgs(1),
		Example: "  macronode policy test ./policy",
		RunE: func(_ *cobra.Command, args []string) error {
			report, err := testPolicy(args[0])
			if err != nil {
				return badPolicy(err)
			}
			err = a.Print(report, func(w io.Writer) {
				for _, r := range report.Results {
					mark := "ok"
					if !r.Pass {
						mark = "FAILED"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\n", mark, r.Name, r.Detail)
				}
				fmt.Fprintf(w, "%d passed, %d failed\n", report.Passed, report.Failed)
			})
			if err == nil && report.Failed > 0 {
				err = cli.ExitSilently(report.Err(), macronode.ExitFailed)
			}
			return err
		},
	}
}

// testPolicy runs the tests of a directory or a bundle. A build refuses a
// directory whose tests fail, but still has the report.
func testPolicy(path string) (policy.Report, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		_, report, err := policy.BuildDir(os.DirFS(path), policy.Meta{Version: 1, Issued: time.Now()})
		if report.Failed > 0 {
			err = nil
		}
		return report, err
	}
	payload, err := candidatePayload(path)
	if err != nil {
		return policy.Report{}, err
	}
	return policy.Test(payload)
}

func (a *app) policyLint() *cobra.Command {
	return &cobra.Command{
		Use: "lint SRCDIR|FILE", Short: "Find rules that are likely mistakes; exit 1 if there are any", Args: cli.ExactArgs(1),
		Example: "  macronode policy lint ./policy",
		RunE: func(_ *cobra.Command, args []string) error {
			payload, err := candidatePayload(args[0])
			if err != nil {
				return err
			}
			findings, err := policy.Lint(payload)
			if err != nil {
				return badPolicy(err)
			}
			if findings == nil {
				findings = []policy.Finding{}
			}
			err = a.Print(findings, func(w io.Writer) {
				for _, f := range findings {
					fmt.Fprintf(w, "%s\t%s\n", f.Policy, f.Text)
				}
			})
			if err == nil && len(findings) > 0 {
				err = cli.Exit(fmt.Errorf("%d findings", len(findings)), macronode.ExitFailed)
			}
			return err
		},
	}
}

func (a *app) policyExplain() *cobra.Command {
	var request string
	c := &cobra.Command{
		Use: "explain SRCDIR|FILE --request FILE|-", Short: "Say which policy decides a request, and why", Args: cli.ExactArgs(1),
		Example: `  echo '{"tenant":"system","action":"node:drain","resource":"node/"}' | macronode policy explain ./policy --request -`,
		RunE: func(_ *cobra.Command, args []string) error {
			payload, err := candidatePayload(args[0])
			if err != nil {
				return err
			}
			var text []byte
			switch request {
			case "":
				return cli.Usagef("policy explain needs --request FILE, or - for standard input")
			case "-":
				text, err = io.ReadAll(io.LimitReader(a.In, 1<<20))
			default:
				text, err = readText(request)
			}
			if err != nil {
				return err
			}
			var r policy.Request
			d := json.NewDecoder(bytes.NewReader(text))
			d.DisallowUnknownFields()
			if err := d.Decode(&r); err != nil {
				return cli.Exit(fmt.Errorf("request: %w", err), macronode.ExitConfig)
			}
			e, err := policy.Explain(payload, r)
			if err != nil {
				return badPolicy(err)
			}
			return a.Print(e, func(w io.Writer) { writeExplanation(w, e) })
		},
	}
	c.Flags().StringVar(&request, "request", "", "file with the request as JSON; - is standard input")
	return c
}

func writeExplanation(w io.Writer, e policy.Explanation) {
	fmt.Fprintf(w, "%s: %s\n", e.Decision, e.Summary)
	for _, r := range e.Reasons {
		fmt.Fprintf(w, "decided by\t%s\t%s\t%s:%d\n", r.Effect, r.ID, r.File, r.Line)
	}
	for _, f := range e.Errors {
		fmt.Fprintf(w, "failed\t%s\t%s:%d\t%s\n", f.ID, f.File, f.Line, f.Message)
	}
	for _, o := range e.Obligations {
		fmt.Fprintf(w, "obligation\t%s\n", o)
	}
	for _, m := range e.NearMisses {
		fmt.Fprintf(w, "would permit\t%s\t%s:%d\tbut lacks: %s\n", m.ID, m.File, m.Line, strings.Join(m.Lacks, "; "))
	}
}

func (a *app) policyDefaults() *cobra.Command {
	var ids []string
	c := &cobra.Command{
		Use: "defaults DIR", Short: "Write the sources of a new node's policy to DIR, to start from", Args: cli.ExactArgs(1),
		Long: "defaults writes a policy that lets the operator in, and with --tenant the tenants named,\n" +
			"each with its own data. A tenant that no policy names can do nothing.",
		Example: "  macronode policy defaults ./policy --tenant 01ARZ3NDEKTSV4RRFFQ69G5FAV && macronode policy test ./policy",
		RunE: func(_ *cobra.Command, args []string) error {
			var tenants []macronode.TenantID
			for _, s := range ids {
				id, err := macronode.ParseTenantID(s)
				if err != nil {
					return cli.Usagef("--tenant: %v (ronctl tenant ls shows ids)", err)
				}
				tenants = append(tenants, id)
			}
			if err := datadir.WriteSources(args[0], policy.InitSources(tenants...)); err != nil {
				return err
			}
			return a.Print(map[string]string{"dir": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "written to", args[0]) })
		},
	}
	c.Flags().StringSliceVar(&ids, "tenant", nil, "ids of tenants that may work with their own data")
	return c
}
