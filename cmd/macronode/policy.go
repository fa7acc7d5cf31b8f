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
		a.policyBuild(), a.policySign(), a.policyVerify(), a.policyTest(), a.policyLint(), a.policyExplain(), a.policyDefaults())
}

// policyPayload reads a payload from a source directory, an envelope or a bare
// payload.
func policyPayload(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cli.Exit(err, macronode.ExitConfig)
	}
	if info.IsDir() {
		// Sources do not say when their bundle ends, the build does: some end is
		// assumed, so that lint speaks of what stands in them alone.
		now := time.Now()
		payload, _, err := policy.BuildDir(os.DirFS(path), policy.Meta{Version: 1, Issued: now, Expires: now.Add(time.Hour)})
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

type builtPolicy struct {
	File       string `json:"file"`
	Version    int64  `json:"version"`
	BundleHash string `json:"bundle_hash"`
	Installed  string `json:"installed,omitempty"` // KMS:obj/NAME@vN
	Tests      int    `json:"tests"`
}

func (a *app) policyBuild() *cobra.Command {
	var out, dir, key, install, previous string
	var version int64
	var expires time.Duration
	c := &cobra.Command{
		Use: "build SRCDIR -o FILE --data DIR", Short: "Build, test and sign a policy bundle; prints the bundle_hash to pin", Args: cli.ExactArgs(1),
		Long: "build makes a signed bundle of *.cedar, schema.cedarschema, entities.json, quotas.toml\nand tests.toml in SRCDIR. It refuses what does not validate or fails its own tests.\n\n" +
			"With --install the bundle is kept as a KMS object, ready to be pinned by the config:\n  [policy] bundle_kms = \"KMS:obj/NAME@vN\", bundle_hash = the hash printed.",
		Example: "  macronode policy build ./policy -o policy.bundle.json --data DIR --install policy-bundle@v2",
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				return cli.Usagef("policy build needs -o FILE")
			}
			if version == 0 {
				version = 1
				if ref, err := bundle.ParseRef("KMS:obj/" + install); err == nil && ref.Version != 0 {
					version = int64(ref.Version)
				}
			}
			meta := policy.Meta{Version: version, Issued: time.Now(), Previous: previous}
			if expires > 0 {
				meta.Expires = meta.Issued.Add(expires)
			}
			payload, report, err := policy.BuildDir(os.DirFS(args[0]), meta)
			if err != nil {
				return badPolicy(err)
			}
			envelope, kept, err := datadir.SignPolicy(c.Context(), payload, dir, key, install, a.warnings())
			if err != nil {
				return err
			}
			if err := datadir.WriteFile(out, envelope, false); err != nil {
				return err
			}
			built := builtPolicy{File: out, Version: version, BundleHash: policy.Hash(payload), Tests: report.Passed}
			if kept != nil {
				built.Installed = fmt.Sprintf("KMS:obj/%s@v%d", kept.Name, kept.Version)
			}
			return a.Print(built, func(w io.Writer) {
				fmt.Fprintf(w, "bundle_hash\t%s\nversion\t%d\ntests\t%d passed\nfile\t%s\n", built.BundleHash, version, report.Passed, out)
				if kept != nil {
					fmt.Fprintf(w, "installed\t%s\n", built.Installed)
				}
			})
		},
	}
	a.dataFlag(c, &dir, true)
	f := c.Flags()
	f.StringVarP(&out, "out", "o", "", "file to write the signed bundle to")
	f.StringVar(&key, "key", "KMS:key/policy", "key to sign with")
	f.StringVar(&install, "install", "", "also keep it as this KMS object: NAME or NAME@vN")
	f.StringVar(&previous, "previous", "", "hash of the bundle that this one follows")
	f.Int64Var(&version, "version", 0, "version of the bundle; default: N of --install, else 1")
	f.DurationVar(&expires, "expires", 0, "the bundle stops deciding this long from now; 0: never")
	return c
}

func (a *app) policySign() *cobra.Command {
	var out, dir, key, install string
	c := &cobra.Command{
		Use: "sign FILE -o FILE --data DIR", Short: "Sign a payload or sign an envelope's payload again", Args: cli.ExactArgs(1),
		Example: "  macronode policy sign policy.bundle.json -o policy.signed.json --data DIR",
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				return cli.Usagef("policy sign needs -o FILE")
			}
			payload, err := policyPayload(args[0])
			if err != nil {
				return err
			}
			envelope, _, err := datadir.SignPolicy(c.Context(), payload, dir, key, install, a.warnings())
			if err != nil {
				return err
			}
			if err := datadir.WriteFile(out, envelope, false); err != nil {
				return err
			}
			hash := policy.Hash(payload)
			return a.Print(map[string]string{"file": out, "bundle_hash": hash}, func(w io.Writer) { fmt.Fprintf(w, "bundle_hash\t%s\n", hash) })
		},
	}
	a.dataFlag(c, &dir, true)
	c.Flags().StringVarP(&out, "out", "o", "", "file to write the signed bundle to")
	c.Flags().StringVar(&key, "key", "KMS:key/policy", "key to sign with")
	c.Flags().StringVar(&install, "install", "", "also keep it as this KMS object: NAME or NAME@vN")
	return c
}

func (a *app) policyVerify() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "verify FILE --data DIR", Short: "Exit 0 if the data directory's anchors accept the bundle, else 4", Args: cli.ExactArgs(1),
		Example: "  macronode policy verify policy.bundle.json --data DIR",
		RunE: func(_ *cobra.Command, args []string) error {
			envelope, err := readText(args[0])
			if err != nil {
				return err
			}
			payload, err := datadir.VerifyPolicy(envelope, dir)
			if err != nil {
				return err
			}
			set, err := policy.Load(payload)
			if err != nil {
				return badPolicy(err)
			}
			doc := map[string]any{"bundle_hash": set.Hash(), "version": set.Version(), "policies": set.Len()}
			return a.Print(doc, func(w io.Writer) {
				fmt.Fprintf(w, "version %d, %d policies, %s\n", set.Version(), set.Len(), set.Hash())
			})
		},
	}
	a.dataFlag(c, &dir, true)
	return c
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
	payload, err := policyPayload(path)
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
			payload, err := policyPayload(args[0])
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
			payload, err := policyPayload(args[0])
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
