// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/url"
	"time"
)

// Breaker is the circuit breaker before one of the node's dependencies. Times are
// unix milliseconds.
type Breaker struct {
	Name     string `json:"name"`
	State    string `json:"state"` // closed, open, half_open
	Mode     string `json:"mode"`  // auto, or forced: open, closed
	Required bool   `json:"required"`
	SinceMS  int64  `json:"since_ms"`
	// UntilMS is when it is tried next, or when the force ends; 0: unknown.
	UntilMS     int64  `json:"until_ms,omitempty"`
	Reason      string `json:"reason,omitempty"`
	InFlight    int64  `json:"in_flight"`
	Failures    int64  `json:"failures"`
	Opened      uint64 `json:"opened"`
	Refused     uint64 `json:"refused"`
	LastFailure string `json:"last_failure,omitempty"`
}

// Breakers lists the node's breakers by name.
func (c *Client) Breakers(ctx context.Context) ([]Breaker, error) {
	var out struct {
		Breakers []Breaker `json:"breakers"`
	}
	err := c.JSON(ctx, "GET", "/v1/admin/breakers", "", nil, &out)
	return out.Breakers, err
}

// ForceBreaker forces a breaker: state is "open", "closed" or "auto", which leaves
// it to itself again. A force ends after d, cut to milliseconds; where d is zero it
// lasts until it is taken back, or as long as the node lets it.
func (c *Client) ForceBreaker(ctx context.Context, name, state string, d time.Duration, reason string) (Breaker, error) {
	in := struct {
		State  string `json:"state"`
		ForMS  int64  `json:"for_ms,omitempty"`
		Reason string `json:"reason,omitempty"`
	}{state, d.Milliseconds(), reason}
	var out Breaker
	err := c.JSON(ctx, "POST", "/v1/admin/breakers/"+url.PathEscape(name), "", in, &out)
	return out, err
}
