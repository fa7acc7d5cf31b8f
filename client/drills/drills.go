// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package drills puts drills that were carried out on record at a node, and reads
// what is on record there. Both need node:drill.
package drills

import (
	"context"

	"github.com/rustyonions/macronode/client"
)

// Result is a drill that was carried out. AtMS is when it ended, in unix
// milliseconds; Report the address of the whole report, if one is kept.
type Result struct {
	Name    string  `json:"name"`
	Pass    bool    `json:"pass"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
	AtMS    int64   `json:"at_ms"`
	Report  string  `json:"report,omitempty"`
	Live    bool    `json:"live"`
}

// Entry is what a node has on record of a drill. Last is nil where it never
// was carried out; OverdueMS is 0 where it is not overdue.
type Entry struct {
	Name         string  `json:"name"`
	Last         *Result `json:"last,omitempty"`
	LastPassedMS int64   `json:"last_passed_ms,omitempty"`
	DueMS        int64   `json:"due_ms"`
	OverdueMS    int64   `json:"overdue_ms"`
}

// List returns when each drill was carried out last.
func List(ctx context.Context, c *client.Client) ([]Entry, error) {
	var out struct {
		Drills []Entry `json:"drills"`
	}
	err := c.JSON(ctx, "GET", "/v1/admin/drills", "", nil, &out)
	return out.Drills, err
}

// Record puts a result on record, durably and in the audit log.
func Record(ctx context.Context, c *client.Client, r Result) (e Entry, err error) {
	err = c.JSON(ctx, "POST", "/v1/admin/drills", "", r, &e)
	return e, err
}
