// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// Check is one named readiness test.
type Check struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Detail   string `json:"detail"`
	Since    string `json:"since"`
	Required bool   `json:"required"`
}

// Readiness is the node's own judgement whether it may take traffic.
type Readiness struct {
	Ready         bool     `json:"ready"`
	Degraded      bool     `json:"degraded"`
	Checks        []Check  `json:"checks"`
	Missing       []string `json:"missing"`
	ConfigVersion uint64   `json:"config_version"`
}

// Ready asks /readyz. A node that is not ready is no error.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
	var out Readiness
	req, err := http.NewRequestWithContext(ctx, "GET", c.base+"/readyz", nil)
	if err != nil {
		return out, err
	}
	resp, err := c.wire.do(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if err := decode(resp.Body, &out); err != nil {
		return out, err
	}
	if resp.StatusCode != 200 && resp.StatusCode != 503 {
		return out, errors.New("/readyz answered " + resp.Status)
	}
	return out, nil
}

// Document returns the JSON answer of a GET, as it came.
func (c *Client) Document(ctx context.Context, path string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.JSON(ctx, "GET", path, "", nil, &out)
	return out, err
}

// Text returns the answer of a GET, bounded to limit bytes.
func (c *Client) Text(ctx context.Context, path string, limit int64) ([]byte, error) {
	resp, err := c.Do(ctx, Request{Method: "GET", Path: path})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, limit))
}

// Admin posts to an operator's route ("reload", "drain", "undrain",
// "shutdown", "drills/service-crash") and returns what it answered.
func (c *Client) Admin(ctx context.Context, verb string, in any) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.JSON(ctx, "POST", "/v1/admin/"+verb, "", in, &out)
	return out, err
}

// Event is one kernel event.
type Event struct {
	Seq     uint64         `json:"seq"`
	TSMS    int64          `json:"ts_ms"`
	Event   string         `json:"event"`
	Service string         `json:"service,omitempty"`
	Attrs   map[string]any `json:"attrs,omitempty"`
}

// Events returns kernel events after the given sequence number, and the number
// to ask from next.
func (c *Client) Events(ctx context.Context, after uint64, limit int) ([]Event, uint64, error) {
	var page struct {
		Events []Event `json:"events"`
		Next   uint64  `json:"next"`
	}
	path := "/v1/admin/events?after=" + strconv.FormatUint(after, 10)
	if limit > 0 {
		path += "&limit=" + strconv.Itoa(limit)
	}
	err := c.JSON(ctx, "GET", path, "", nil, &page)
	return page.Events, page.Next, err
}

// PutRaw puts data as it is and decodes the JSON answer into out.
func (c *Client) PutRaw(ctx context.Context, path string, data []byte, out any) error {
	resp, err := c.Do(ctx, Request{Method: "PUT", Path: path, Body: bytes.NewReader(data), Length: int64(len(data)),
		Header: http.Header{"Content-Type": {"application/octet-stream"}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decode(resp.Body, out)
}
