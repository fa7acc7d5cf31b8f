// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package state is what ronctl shows of a node's /v1/admin/status.
package state

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/ronctl/inspect"
)

// Node is the part of /v1/admin/status that the text form shows. Times
// are unix milliseconds.
type Node struct {
	NodeID    string   `json:"node_id"`
	State     string   `json:"state"`
	SinceMS   int64    `json:"since_ms"`
	StartedMS int64    `json:"started_ms"`
	Ready     bool     `json:"ready"`
	Degraded  bool     `json:"degraded"`
	Missing   []string `json:"missing"`
	Config    struct {
		Version         uint64   `json:"version"`
		BundleHash      string   `json:"bundle_hash"`
		RestartRequired []string `json:"restart_required"`
	} `json:"config"`
	Drain struct {
		Phase   string `json:"phase"`
		SinceMS int64  `json:"since_ms"`
		Left    int    `json:"left"`
	} `json:"drain"`
	InFlight    map[string]int64 `json:"in_flight"`
	LongRunning int64            `json:"long_running"`
	Breakers    []client.Breaker `json:"breakers"`
	Peers       []Peer           `json:"peers"`
	Admission   admission        `json:"admission"`
	Services    []struct {
		Name      string `json:"name"`
		State     string `json:"state"`
		SinceMS   int64  `json:"since_ms"`
		Healthy   bool   `json:"healthy"`
		Degraded  bool   `json:"degraded"`
		Restarts  int    `json:"restarts"`
		LastError string `json:"last_error"`
	} `json:"services"`
}

func since(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}

// judged is "ready", "not ready" or one of them with "(degraded)".
func judged(ok, degraded bool, yes, no string) string {
	text := no
	if ok {
		text = yes
	}
	if degraded {
		text += " (degraded)"
	}
	return text
}

// Write shows s as text, in columns that a tab separates.
func (s *Node) Write(w io.Writer) {
	fmt.Fprintf(w, "node\t%s\n", s.NodeID)
	fmt.Fprintf(w, "state\t%s since %s, started %s\n", s.State, since(s.SinceMS), since(s.StartedMS))
	fmt.Fprintf(w, "readiness\t%s\n", judged(s.Ready, s.Degraded, "ready", "not ready"))
	if len(s.Missing) > 0 {
		fmt.Fprintf(w, "missing\t%s\n", strings.Join(s.Missing, ", "))
	}
	fmt.Fprintf(w, "config\tversion %d %s\n", s.Config.Version, s.Config.BundleHash)
	if len(s.Config.RestartRequired) > 0 {
		fmt.Fprintf(w, "needs a restart\t%s\n", strings.Join(s.Config.RestartRequired, ", "))
	}
	fmt.Fprintf(w, "drain\t%s, %d calls left\n", s.Drain.Phase, s.Drain.Left)
	var calls []string
	for _, class := range slices.Sorted(maps.Keys(s.InFlight)) {
		calls = append(calls, fmt.Sprintf("%s %d", class, s.InFlight[class]))
	}
	calls = append(calls, fmt.Sprintf("long-running %d", s.LongRunning))
	fmt.Fprintf(w, "in flight\t%s\n", strings.Join(calls, ", "))
	if len(s.Peers) > 0 {
		fmt.Fprintln(w)
		WritePeers(w, s.Peers)
	}
	if len(s.Breakers) > 0 {
		fmt.Fprintln(w)
		inspect.WriteBreakers(w, s.Breakers, time.Now())
	}
	s.Admission.write(w)
	fmt.Fprintf(w, "\nSERVICE\tSTATE\tHEALTH\tRESTARTS\tSINCE\tLAST ERROR\n")
	for _, v := range s.Services {
		last := v.LastError
		if last == "" {
			last = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", v.Name, v.State, judged(v.Healthy, v.Degraded, "healthy", "unhealthy"), v.Restarts, since(v.SinceMS), last)
	}
}
