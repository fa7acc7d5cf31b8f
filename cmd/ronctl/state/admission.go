// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"io"
	"time"
)

// admission is the part of /v1/admin/status that says whether the node
// refuses calls, and why.
type admission struct {
	Limit           int64  `json:"limit"`
	MaxInflight     int64  `json:"max_inflight"`
	Cause           string `json:"cause"`
	Working         int64  `json:"working"`
	ClientWaits     int64  `json:"client_waits"`
	Queued          int64  `json:"queued"`
	ProcessorWaitUS int64  `json:"processor_wait_us"`
	LatencyUS       int64  `json:"latency_us"`
	BaselineUS      int64  `json:"baseline_us"`
	TopTenant       string `json:"top_tenant"`
	TopShare        int64  `json:"top_share"`
	Classes         []struct {
		Class   string `json:"class"`
		State   string `json:"state"`
		SinceMS int64  `json:"since_ms"`
		Refused uint64 `json:"refused"`
		Cause   string `json:"cause"`
		Why     string `json:"why"`
		Ends    string `json:"ends"`
	} `json:"classes"`
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// write says how much the node lets in and, where it refuses, why and until when.
func (a *admission) write(w io.Writer) {
	fmt.Fprintf(w, "admission\t%d of %d places in use (%s; max_inflight %d), %d queued, %d wait for their clients\n",
		a.Working, a.Limit, a.Cause, a.MaxInflight, a.Queued, a.ClientWaits)
	shed := false
	for _, c := range a.Classes {
		if c.State == "open" {
			continue
		}
		shed = true
		fmt.Fprintf(w, "  %s\t%s since %s, %d refused: %s\n", c.Class, c.State, since(c.SinceMS), c.Refused, c.Cause)
		fmt.Fprintf(w, "    why\t%s\n    ends when\t%s\n", c.Why, c.Ends)
	}
	if !shed {
		return
	}
	fmt.Fprintf(w, "  measured\twait for a processor %s; calls take %s, %s on a quiet node\n",
		micros(a.ProcessorWaitUS), micros(a.LatencyUS), micros(a.BaselineUS))
	if a.TopTenant != "" {
		fmt.Fprintf(w, "  uses most\ttenant %s, %d%% of late\n", a.TopTenant, a.TopShare)
	}
}
