// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/rustyonions/macronode/revocation"
)

// Revoke kills the capability link with this id and all that descends from it.
func (c *Client) Revoke(ctx context.Context, id string) error {
	in := struct {
		ID string `json:"id"`
	}{id}
	return c.JSON(ctx, "POST", "/v1/caps/revoke", "", in, nil)
}

// RevokedKeys is the answer to RevokeKeys.
type RevokedKeys struct {
	Tenant    string   `json:"tenant"`
	KIDs      []string `json:"kids"`
	RevokedMS int64    `json:"revoked_ms"`
}

// RevokeKeys kills all capabilities that a tenant's minting key kid made; an
// empty kid: all that the tenant has. What is minted afterwards is good. An empty
// tenant is the caller's own.
func (c *Client) RevokeKeys(ctx context.Context, tenant, kid string) (RevokedKeys, error) {
	in := struct {
		Tenant string `json:"tenant,omitempty"`
		KID    string `json:"kid,omitempty"`
	}{tenant, kid}
	var out RevokedKeys
	err := c.JSON(ctx, "POST", "/v1/caps/revoke", "", in, &out)
	return out, err
}

// Revocation is one revoked id, or key id of a tenant.
type Revocation = revocation.Entry

func pagePath(path, cursor string, limit int) string {
	q := url.Values{}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}

// Revocations returns a page of what is revoked.
func (c *Client) Revocations(ctx context.Context, cursor string, limit int) ([]Revocation, string, error) {
	var page struct {
		Revocations []Revocation `json:"revocations"`
		Cursor      string       `json:"cursor"`
	}
	err := c.JSON(ctx, "GET", pagePath("/v1/caps/revocations", cursor, limit), "", nil, &page)
	return page.Revocations, page.Cursor, err
}

// NodeID is the id that the node gives itself. Who wants to be sure of it learns
// it elsewhere.
func (c *Client) NodeID(ctx context.Context) (string, error) {
	var v struct {
		NodeID string `json:"node_id"`
	}
	err := c.JSON(ctx, "GET", "/version", "", nil, &v)
	return v.NodeID, err
}

// ExportRevocations writes the whole list, as the node with that id signed it,
// to w: what revocation.Read takes. It returns how many entries there are. Every
// page is verified before it is written.
func (c *Client) ExportRevocations(ctx context.Context, nodeID string, w io.Writer) (int, error) {
	n := 0
	for cursor := ""; ; {
		text, err := c.Text(ctx, pagePath("/v1/caps/revocations/export", cursor, revocation.MaxEntries), maxListPage)
		if err != nil {
			return n, err
		}
		page, err := revocation.Parse(text, nodeID)
		if err != nil {
			return n, err
		}
		if page.After != cursor || page.Cursor == cursor && cursor != "" {
			return n, errors.New("the node's list does not go on")
		}
		if _, err := w.Write(text); err != nil {
			return n, err
		}
		n += len(page.Entries)
		if cursor = page.Cursor; cursor == "" {
			return n, nil
		}
	}
}

// maxListPage bounds a page of the signed list.
const maxListPage = 1 << 20

// ImportRevocations gives a node a page of a list that it signed earlier, as an
// envelope's text, and returns how many of its entries were new.
func (c *Client) ImportRevocations(ctx context.Context, page []byte) (int, error) {
	resp, err := c.Do(ctx, Request{Method: "POST", Path: "/v1/caps/revocations/import", Body: bytes.NewReader(page), Length: int64(len(page)),
		Header: http.Header{"Content-Type": {"application/vnd.dsse.envelope.v1+json"}}, Repeat: true})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var out struct {
		New int `json:"new"`
	}
	err = decode(resp.Body, &out)
	return out.New, err
}
