// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/docs"
)

// runbookCommand shows what to do about an alert, from inside the binary.
func (a *app) runbookCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "runbook [ALERT]",
		Short:   "Print the runbook's section for an alert, offline",
		Long:    "runbook prints what to do about an alert. Without a name it lists the alerts; \"all\"\nprints the runbook whole. Nothing is asked of a node or of the network.",
		Example: "  macronode runbook\n  macronode runbook MacronodeNotReady\n  macronode runbook all | less",
		Args:    cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, al := range docs.Alerts(docs.Runbook()) {
				names = append(names, al.Name)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			alerts := docs.Alerts(docs.Runbook())
			switch {
			case len(args) == 0:
				return a.listAlerts(alerts)
			case args[0] == "all":
				_, err := fmt.Fprint(a.Out, docs.Runbook())
				return err
			}
			for _, al := range alerts {
				if strings.EqualFold(al.Name, args[0]) {
					return a.showAlert(al)
				}
			}
			return cli.Usagef("the runbook has no alert %q%s; \"macronode runbook\" lists them", args[0], nearAlert(alerts, args[0]))
		},
	}
}

func (a *app) listAlerts(alerts []docs.Alert) error {
	return a.Print(map[string]any{"alerts": alerts}, func(w io.Writer) {
		for _, al := range alerts {
			fmt.Fprintf(w, "%s\t%s\t%s\n", al.Severity, al.Name, al.First)
		}
	})
}

func (a *app) showAlert(al docs.Alert) error {
	for _, s := range docs.Sections(docs.Runbook()) {
		if s.Anchor != al.Anchor {
			continue
		}
		doc := struct {
			docs.Alert
			Title string `json:"title"`
			Text  string `json:"text"`
		}{al, s.Title, s.Text}
		if a.JSON() {
			return a.Print(doc, nil)
		}
		_, err := fmt.Fprintf(a.Out, "%s, %s. First: %s\n\n%s", al.Name, al.Severity, al.First, s.Text)
		return err
	}
	return fmt.Errorf("the runbook has no section #%s", al.Anchor)
}

// nearAlert proposes the alerts whose names contain what was asked for, without
// the prefix that all of them have.
func nearAlert(alerts []docs.Alert, asked string) string {
	part := strings.ToLower(strings.TrimPrefix(asked, "Macronode"))
	if part == "" {
		return ""
	}
	var near []string
	for _, al := range alerts {
		if strings.Contains(strings.ToLower(al.Name), part) {
			near = append(near, al.Name)
		}
	}
	if len(near) == 0 {
		return ""
	}
	return " (did you mean " + strings.Join(near, " or ") + "?)"
}
