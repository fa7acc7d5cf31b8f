// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import "context"

// DrillResult is a drill that was carried out. AtMS is when it ended, in unix
// milliseconds; Report the address of the whole report, if one is kept.
type DrillResult struct {
	Name    string  `json:"name"`
	Pass    bool    `json:"pass"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
	AtMS    int64   `json:"at_ms"`
	Report  string  `json:"report,omitempty"`
	Live    bool    `json:"live"`
}

// DrillEntry is what a node has on record of a drill. Last is nil where it never
// was carried out; OverdueMS is 0 where it is not overdue.
type DrillEntry struct {
	Name         string       `json:"name"`
	Last         *DrillResult `json:"last,omitempty"`
	LastPassedMS int64        `json:"last_passed_ms,omitempty"`
	DueMS        int64        `json:"due_ms"`
	OverdueMS    int64        `json:"overdue_ms"`
}

// Drills returns when each drill was carried out last. It needs node:drill.
func (c *Client) Drills(ctx context.Context) ([]DrillEntry, error) {
	var out struct {
		Drills []DrillEntry `json:"drills"`
	}
	err := c.JSON(ctx, "GET", "/v1/admin/drills", "", nil, &out)
	return out.Drills, err
}

// RecordDrill puts a result on record, durably and in the audit log. It needs
// node:drill.
func (c *Client) RecordDrill(ctx context.Context, r DrillResult) (e DrillEntry, err error) {
	err = c.JSON(ctx, "POST", "/v1/admin/drills", "", r, &e)
	return e, err
}
