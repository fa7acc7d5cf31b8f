// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package policy is ronctl's commands about policies: what the one in force
// decides, and what another would.
package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/cmd/internal/flips"
)

// Limits of what policy commands read.
const (
	maxCandidateBytes = 2 << 20
	maxDecisionsBytes = 14 << 20 // what fits a replay's body beside a candidate
	maxRecordBytes    = 64 << 20
)

// Connect makes the client that flags, environment and context describe.
type Connect func(*cobra.Command) (context.Context, *client.Client, error)

type app struct {
	*cli.Terminal
	connect Connect
}

// Command is "ronctl policy".
func Command(t *cli.Terminal, connect Connect) *cobra.Command {
	a := &app{t, connect}
	return cli.Group("policy", "See what a policy decides, and what another would", "  ronctl policy shadow",
		a.shadow(), a.record(), a.replay())
}

type shadowState struct {
	BundleHash string            `json:"bundle_hash"`
	Version    int64             `json:"version"`
	SinceMS    int64             `json:"since_ms"`
	Expired    bool              `json:"expired"`
	Results    map[string]uint64 `json:"results"`
	Failure    string            `json:"failure"`
	Flips      []flips.Flip      `json:"flips"`
	Recorded   int               `json:"recorded"`
	Dropped    uint64            `json:"dropped"`
}

func (a *app) shadow() *cobra.Command {
	return &cobra.Command{
		Use: "shadow", Short: "Show what the shadow policy would have decided otherwise", Args: cli.NoArgs,
		Example: "  ronctl policy shadow --cap @macronode-data/operator.cap",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			doc, err := cl.Document(ctx, "/v1/admin/policy/shadow")
			if err != nil {
				return err
			}
			var s shadowState
			if err := json.Unmarshal(doc, &s); err != nil {
				return fmt.Errorf("the node's answer is no shadow status: %w", err)
			}
			return a.Print(doc, s.write)
		},
	}
}

func (s *shadowState) write(w io.Writer) {
	if s.BundleHash == "" {
		fmt.Fprintf(w, "shadow\tnone: set policy.shadow_kms and policy.shadow_hash, sign, reload\n")
	} else {
		state := "asked since " + time.UnixMilli(s.SinceMS).UTC().Format(time.RFC3339)
		if s.Expired {
			state = "EXPIRED"
		}
		fmt.Fprintf(w, "shadow\tversion %d, %s, %s\n", s.Version, s.BundleHash, state)
		for _, result := range slices.Sorted(maps.Keys(s.Results)) {
			fmt.Fprintf(w, "%s\t%d\n", result, s.Results[result])
		}
		if s.Failure != "" {
			fmt.Fprintf(w, "first failure\t%s\n", s.Failure)
		}
	}
	fmt.Fprintf(w, "recorded\t%d decisions, %d never looked at\n", s.Recorded, s.Dropped)
	flips.Write(w, s.Flips)
}

func (a *app) record() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "record -o FILE", Short: "Write the node's recent policy decisions to a file, one a line", Args: cli.NoArgs,
		Long: "record writes what the node keeps of its recent decisions: attributes and hashes, no token and\n" +
			"no address of a single machine. How many are kept is policy.record in the config.",
		Example: "  ronctl policy record -o decisions.ndjson --cap @macronode-data/operator.cap",
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return cli.Usagef("policy record needs -o FILE, or - for standard output")
			}
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			text, err := cl.Text(ctx, "/v1/admin/policy/decisions", maxRecordBytes)
			if err != nil {
				return err
			}
			if out == "-" {
				_, err := a.Out.Write(text)
				return err
			}
			if err := os.WriteFile(out, text, 0o600); err != nil {
				return err
			}
			n := bytes.Count(text, []byte("\n"))
			return a.Print(map[string]any{"file": out, "decisions": n}, func(w io.Writer) { fmt.Fprintf(w, "%d decisions\t%s\n", n, out) })
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "", "file to write; - is standard output")
	return c
}

func (a *app) replay() *cobra.Command {
	var decisions, candidate string
	var allow bool
	c := &cobra.Command{
		Use: "replay --candidate BUNDLE|SRCDIR [--decisions FILE]", Short: "Ask a candidate policy about recorded decisions; exit 1 if one flips", Args: cli.NoArgs,
		Long: "replay asks a candidate, a bundle or a directory of sources, what it would have said to decisions\n" +
			"that policy record wrote, or without --decisions to those that the node keeps now. The node\n" +
			"does it beside its work; nothing comes into force. (Offline: macronode policy replay.)",
		Example: "  ronctl policy replay --decisions decisions.ndjson --candidate ./policy",
		RunE: func(c *cobra.Command, _ []string) error {
			if candidate == "" {
				return cli.Usagef("policy replay needs --candidate BUNDLE or SRCDIR")
			}
			in, err := replayBody(candidate, decisions)
			if err != nil {
				return err
			}
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			doc, err := cl.Admin(ctx, "policy/replay", in)
			if err != nil {
				return err
			}
			return flips.Tell(doc, a.Print, allow)
		},
	}
	f := c.Flags()
	f.StringVar(&decisions, "decisions", "", "file that policy record wrote; default: what the node keeps")
	f.StringVar(&candidate, "candidate", "", "policy bundle, or directory of policy sources")
	f.BoolVar(&allow, "allow-flips", false, "exit 0 although decisions flip")
	return c
}

// replayBody is what the node is sent.
func replayBody(candidate, decisions string) (map[string]any, error) {
	in := map[string]any{}
	info, err := os.Stat(candidate)
	if err != nil {
		return nil, cli.Exit(err, macronode.ExitConfig)
	}
	if info.IsDir() {
		if in["sources"], err = policySources(candidate); err != nil {
			return nil, err
		}
	} else {
		text, err := readBounded(candidate, maxCandidateBytes)
		if err != nil {
			return nil, err
		}
		if !json.Valid(text) {
			return nil, cli.Exit(fmt.Errorf("%s is no policy bundle", candidate), macronode.ExitConfig)
		}
		in["bundle"] = json.RawMessage(text)
	}
	if decisions == "" {
		return in, nil
	}
	text, err := readBounded(decisions, maxDecisionsBytes)
	if err != nil {
		return nil, err
	}
	list := []json.RawMessage{}
	for i, line := range bytes.Split(text, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if !json.Valid(line) {
			return nil, cli.Exit(fmt.Errorf("%s:%d is no decision", decisions, i+1), macronode.ExitConfig)
		}
		list = append(list, line)
	}
	in["decisions"] = list
	return in, nil
}

// policySources reads the files of a policy directory. Which of them count, and
// what is wrong with them, the node says.
func policySources(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, cli.Exit(err, macronode.ExitConfig)
	}
	src := map[string]string{}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") || !slices.Contains([]string{".cedar", ".toml", ".json", ".cedarschema"}, filepath.Ext(name)) {
			continue
		}
		text, err := readBounded(filepath.Join(dir, name), maxCandidateBytes)
		if err != nil {
			return nil, err
		}
		src[name] = string(text)
	}
	if len(src) == 0 {
		return nil, cli.Exit(fmt.Errorf("%s holds no policy", dir), macronode.ExitConfig)
	}
	return src, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, cli.Exit(err, macronode.ExitConfig)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is over %d bytes", path, limit)
	}
	if err != nil {
		return nil, cli.Exit(err, macronode.ExitConfig)
	}
	return text, nil
}
