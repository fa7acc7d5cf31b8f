// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"fmt"
	"io"
)

// Peer is another node as /v1/admin/status shows it.
type Peer struct {
	NodeID   string `json:"node_id"`
	Addr     string `json:"addr"`
	Source   string `json:"source"`
	State    string `json:"state"`
	SinceMS  int64  `json:"since_ms"`
	Dialled  bool   `json:"dialled"`
	RTTUS    int64  `json:"rtt_us"`
	Sessions uint64 `json:"sessions"`
	Queued   int    `json:"queued"`
	Why      string `json:"why"`
}

// WritePeers is the text form of peers.
func WritePeers(w io.Writer, list []Peer) {
	fmt.Fprintf(w, "PEER\tADDRESS\tSTATE\tSINCE\tRTT\tDIALLED BY\tSESSIONS\tQUEUED\tWHY\n")
	for _, p := range list {
		rtt, by := "-", "-"
		if p.State == "active" {
			by = "peer"
			if p.Dialled {
				by = "this node"
			}
			if p.RTTUS > 0 {
				rtt = micros(p.RTTUS).String()
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", p.NodeID, p.Addr, p.State, since(p.SinceMS), rtt, by, p.Sessions, p.Queued, cmp.Or(p.Why, "-"))
	}
}
