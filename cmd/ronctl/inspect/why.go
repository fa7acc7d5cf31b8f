// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// Why is the command that says why a call was refused.
func (t Tools) Why() *cobra.Command {
	return &cobra.Command{
		Use: "why CORR_ID", Short: "Say why a call was refused, and what would have let it pass", Args: cli.ExactArgs(1),
		Long: "why looks a refusal up by its correlation id (corr_id in the problem, X-Corr-Id in the\nanswer): which stage refused, the policies that decided, the permit that came nearest to\n" +
			"allowing it, and what would have let it pass. The node remembers the last few thousand\nrefusals. It asks the policy that is in force now, and says so where that has changed;\naddresses are kept without their last part, so a condition on context.ip may be judged\ndifferently.",
		Example: "  ronctl node why 3f0c9a52d1e84b77a0b6d769f9f68511",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := t.Connect(c)
			if err != nil {
				return err
			}
			doc, err := cl.Why(ctx, args[0])
			if err != nil {
				return err
			}
			var r report
			if err := json.Unmarshal(doc, &r); err != nil {
				return fmt.Errorf("the node's answer is no report: %w", err)
			}
			return t.Print(doc, r.write)
		},
	}
}

// report is the part of the node's document that the text form shows.
type report struct {
	Refusals []struct {
		CorrID      string   `json:"corr_id"`
		TSMS        int64    `json:"ts_ms"`
		Route       string   `json:"route"`
		Stage       string   `json:"stage"`
		Status      int      `json:"status"`
		Code        string   `json:"code"`
		Detail      string   `json:"detail"`
		NotBefore   int64    `json:"not_before_ms"`
		Principal   string   `json:"principal"`
		Tenant      string   `json:"tenant"`
		TenantLabel string   `json:"tenant_label"`
		CapRoot     string   `json:"cap_root"`
		CapLeaf     string   `json:"cap_leaf"`
		Action      string   `json:"action"`
		Resource    string   `json:"resource"`
		Net         string   `json:"net"`
		Policies    []string `json:"policies"`
		PassesIf    []string `json:"passes_if"`
		Policy      *struct {
			Changed    bool   `json:"changed"`
			BundleHash string `json:"bundle_hash"`
			Summary    string `json:"summary"`
			Nearest    *struct {
				ID, File string
				Line     int
				Misses   []struct{ Part, Wants, Has, Error string }
			} `json:"nearest"`
		} `json:"policy"`
	} `json:"refusals"`
}

func (r *report) write(w io.Writer) {
	for i := range r.Refusals {
		e := &r.Refusals[i]
		if i > 0 {
			fmt.Fprintln(w)
		}
		line := func(name, format string, args ...any) {
			if text := strings.TrimSpace(fmt.Sprintf(format, args...)); text != "" {
				fmt.Fprintf(w, "%s\t%s\n", name, text)
			}
		}
		line("refused", "%d %s by %s, at %s", e.Status, e.Code, e.Stage, time.UnixMilli(e.TSMS).UTC().Format("2006-01-02T15:04:05.000Z"))
		line("detail", "%s", e.Detail)
		line("call", "%s", e.Route)
		if e.Action != "" {
			line("asked for", "%s on %s", e.Action, e.Resource)
		}
		line("who", "%s", strings.TrimSpace(e.Principal+" "+e.CapLeaf))
		if e.CapRoot != "" && e.CapRoot != e.CapLeaf {
			line("narrowed from", "%s", e.CapRoot)
		}
		if e.Tenant != "" {
			line("tenant", "%s (%s)", e.TenantLabel, e.Tenant)
		}
		line("from", "%s", e.Net)
		line("decided by", "%s", strings.Join(e.Policies, ", "))
		if p := e.Policy; p != nil {
			line("policy", "%s", p.Summary)
			if p.Changed {
				line("", "(the policy in force now; %s, which refused, is another)", p.BundleHash)
			}
			if g := p.Nearest; g != nil {
				line("nearest grant", "%s (%s:%d)", g.ID, g.File, g.Line)
				for _, m := range g.Misses {
					line("  misses", "%s: wants %s%s%s", m.Part, m.Wants, prefixed("; has ", m.Has), prefixed("; fails: ", m.Error))
				}
			}
		}
		if e.NotBefore != 0 {
			line("not before", "%s", time.UnixMilli(e.NotBefore).UTC().Format("2006-01-02T15:04:05.000Z"))
		}
		for _, p := range e.PassesIf {
			line("passes if", "%s", p)
		}
	}
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
