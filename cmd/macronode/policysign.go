// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

type builtPolicy struct {
	File       string `json:"file"`
	Version    int64  `json:"version"`
	Previous   string `json:"previous,omitempty"`
	BundleHash string `json:"bundle_hash"`
	Installed  string `json:"installed,omitempty"` // KMS:obj/NAME@vN
	Tests      int    `json:"tests"`
}

// policyMaking are the flags of policy build and sign.
type policyMaking struct {
	out, dir, key, install, previous string
	version                          int64
	expires                          time.Duration
}

func (a *app) policyBuild() *cobra.Command {
	var o policyMaking
	c := &cobra.Command{
		Use: "build SRCDIR|FILE -o FILE --data DIR", Short: "Build, test and sign a policy bundle; prints the bundle_hash to pin", Args: cli.ExactArgs(1),
		Long: "build makes a signed bundle of *.cedar, schema.cedarschema, entities.json, quotas.toml\nand tests.toml in SRCDIR. It refuses what does not validate or fails its own tests.\n" +
			"Of a bundle FILE it makes a new version with the same content: the way back to an older\npolicy, which a node refuses as it stands.\n\n" +
			"The bundle says which one it follows: the one in force in DIR, unless --previous says\notherwise. Its version is above that one's.\n\n" +
			"With --install the bundle is kept as a KMS object, ready to be pinned by the config:\n  [policy] bundle_kms = \"KMS:obj/NAME@vN\", bundle_hash = the hash printed.",
		Example: "  macronode policy build ./policy -o policy.bundle.json --data DIR --install policy-bundle@v2",
		RunE: func(c *cobra.Command, args []string) error {
			if o.out == "" {
				return cli.Usagef("policy build needs -o FILE")
			}
			return a.buildPolicy(c, args[0], &o)
		},
	}
	a.dataFlag(c, &o.dir, true)
	f := c.Flags()
	f.StringVarP(&o.out, "out", "o", "", "file to write the signed bundle to")
	f.StringVar(&o.key, "key", "KMS:key/policy", "key to sign with")
	f.StringVar(&o.install, "install", "", "also keep it as this KMS object: NAME or NAME@vN")
	f.StringVar(&o.previous, "previous", "", "hash of the bundle that this one follows; default: the one in force in DIR")
	f.Int64Var(&o.version, "version", 0, "version of the bundle; default: N of --install, and above the one in force")
	f.DurationVar(&o.expires, "expires", 0, "the bundle stops deciding this long from now; 0: never")
	return c
}

func (a *app) buildPolicy(c *cobra.Command, src string, o *policyMaking) error {
	// What is wrong with the sources is told before the keys are asked for.
	if _, _, err := makePolicy(src, policy.Meta{Version: 1, Issued: time.Now()}); err != nil {
		return badPolicy(err)
	}
	k, err := datadir.OpenKeys(o.dir, a.warnings())
	if err != nil {
		return err
	}
	defer k.Close()
	var installed int64
	if ref, err := bundle.ParseRef("KMS:obj/" + o.install); err == nil {
		installed = int64(ref.Version)
	}
	version, previous, err := k.NextPolicy(installed)
	if err != nil {
		return err
	}
	if o.version != 0 {
		version = o.version
	}
	if o.previous != "" {
		previous = o.previous
	}
	if version == 1 {
		previous = o.previous
	}
	meta := policy.Meta{Version: version, Issued: time.Now(), Previous: previous}
	if o.expires > 0 {
		meta.Expires = meta.Issued.Add(o.expires)
	}
	payload, report, err := makePolicy(src, meta)
	if err != nil {
		return badPolicy(err)
	}
	envelope, kept, err := k.SignPolicy(c.Context(), payload, nil, o.key, o.install)
	if err != nil {
		return err
	}
	if err := datadir.WriteFile(o.out, envelope, false); err != nil {
		return err
	}
	built := builtPolicy{File: o.out, Version: version, Previous: previous, BundleHash: policy.Hash(payload), Tests: report.Passed}
	if kept != nil {
		built.Installed = fmt.Sprintf("KMS:obj/%s@v%d", kept.Name, kept.Version)
	}
	return a.Print(built, func(w io.Writer) {
		fmt.Fprintf(w, "bundle_hash\t%s\nversion\t%d\ntests\t%d passed\nfile\t%s\n", built.BundleHash, version, report.Passed, o.out)
		if kept != nil {
			fmt.Fprintf(w, "installed\t%s\n", built.Installed)
		}
	})
}

// makePolicy builds a payload from a directory of sources, or issues the content
// of an earlier bundle again.
func makePolicy(src string, meta policy.Meta) ([]byte, policy.Report, error) {
	if info, err := os.Stat(src); err == nil && info.IsDir() {
		return policy.BuildDir(os.DirFS(src), meta)
	}
	old, err := candidatePayload(src)
	if err != nil {
		return nil, policy.Report{}, err
	}
	return policy.Reissue(old, meta)
}

type signedPolicy struct {
	File       string `json:"file"`
	BundleHash string `json:"bundle_hash"`
	datadir.PolicySigners
	// Enough says that the data directory's anchors accept it now.
	Enough bool `json:"enough"`
}

func (a *app) policySign() *cobra.Command {
	var o policyMaking
	c := &cobra.Command{
		Use: "sign FILE -o FILE --data DIR", Short: "Sign a payload, or add a signature to an envelope", Args: cli.ExactArgs(1),
		Long: "sign puts a payload into a signed envelope. To an envelope it adds a signature and keeps\nthose that are there, so that several who must agree sign one after the other, each on\n" +
			"their own machine. The payload and its bundle_hash stay the same.",
		Example: "  macronode policy sign policy.bundle.json -o policy.bundle.json --data DIR --key KMS:key/policy-second",
		RunE: func(c *cobra.Command, args []string) error {
			if o.out == "" {
				return cli.Usagef("policy sign needs -o FILE")
			}
			payload, err := candidatePayload(args[0])
			if err != nil {
				return err
			}
			text, err := readText(args[0])
			if err != nil {
				return err
			}
			var to *bundle.Envelope
			if env, err := bundle.Decode(text); err == nil {
				to = env
			}
			envelope, err := a.signPolicy(c, payload, to, &o)
			if err != nil {
				return err
			}
			_, by, err := datadir.VerifyPolicy(envelope, o.dir)
			done := signedPolicy{File: o.out, BundleHash: policy.Hash(payload), PolicySigners: by, Enough: err == nil}
			return a.Print(done, func(w io.Writer) {
				fmt.Fprintf(w, "bundle_hash\t%s\n", done.BundleHash)
				writeSigners(w, by, err)
			})
		},
	}
	a.dataFlag(c, &o.dir, true)
	c.Flags().StringVarP(&o.out, "out", "o", "", "file to write the signed bundle to")
	c.Flags().StringVar(&o.key, "key", "KMS:key/policy", "key to sign with")
	c.Flags().StringVar(&o.install, "install", "", "also keep it as this KMS object: NAME or NAME@vN")
	return c
}

func (a *app) signPolicy(c *cobra.Command, payload []byte, to *bundle.Envelope, o *policyMaking) ([]byte, error) {
	k, err := datadir.OpenKeys(o.dir, a.warnings())
	if err != nil {
		return nil, err
	}
	defer k.Close()
	envelope, _, err := k.SignPolicy(c.Context(), payload, to, o.key, o.install)
	if err != nil {
		return nil, err
	}
	return envelope, datadir.WriteFile(o.out, envelope, false)
}

// writeSigners tells who signed, and what is missing.
func writeSigners(w io.Writer, by datadir.PolicySigners, err error) {
	who := strings.Join(by.Signed, ", ")
	if who == "" {
		who = "nobody whom this directory trusts"
	}
	fmt.Fprintf(w, "signed by\t%s\n", who)
	if err != nil {
		fmt.Fprintf(w, "needs\t%d signers: %v\n", by.Threshold, err)
	} else {
		fmt.Fprintf(w, "needs\t%d signers: enough\n", by.Threshold)
	}
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
			payload, by, err := datadir.VerifyPolicy(envelope, dir)
			if err != nil {
				return err
			}
			set, err := policy.Load(payload)
			if err != nil {
				return badPolicy(err)
			}
			doc := map[string]any{"bundle_hash": set.Hash(), "version": set.Version(), "previous": set.Previous(), "policies": set.Len(),
				"signed": by.Signed, "threshold": by.Threshold}
			return a.Print(doc, func(w io.Writer) {
				fmt.Fprintf(w, "version %d, %d policies, %s\n", set.Version(), set.Len(), set.Hash())
				writeSigners(w, by, nil)
			})
		},
	}
	a.dataFlag(c, &dir, true)
	return c
}
