// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"

	"github.com/rustyonions/macronode"
)

func decode(r io.Reader, out any) error {
	r = io.LimitReader(r, maxDocumentBytes)
	if err := json.NewDecoder(r).Decode(out); err != nil {
		return err
	}
	// Read to its end, an answer leaves its connection to the next call.
	_, err := io.Copy(io.Discard, r)
	return err
}

// Tenant is a tenant as its administrator sees it.
type Tenant struct {
	macronode.Tenant
	CreatedMS int64 `json:"created_ms"`
}

// QuotaChange holds the members of a quota that change; nil leaves one as it
// is, -1 lifts the limit.
type QuotaChange struct {
	RequestsPerSec *int64 `json:"requests_per_s,omitempty"`
	RequestBurst   *int64 `json:"request_burst,omitempty"`
	BytesPerSec    *int64 `json:"bytes_per_s,omitempty"`
	ByteBurst      *int64 `json:"byte_burst,omitempty"`
	InFlight       *int64 `json:"in_flight,omitempty"`
	StoredBytes    *int64 `json:"stored_bytes,omitempty"`
	Objects        *int64 `json:"objects,omitempty"`
	QueueDepth     *int64 `json:"queue_depth,omitempty"`
	Weight         *int64 `json:"weight,omitempty"`
}

// Usage is what a tenant holds now.
type Usage struct {
	ID          macronode.TenantID `json:"id"`
	Label       string             `json:"label"`
	StoredBytes int64              `json:"stored_bytes"`
	Objects     int64              `json:"objects"`
	InFlight    int64              `json:"in_flight"`
	Quota       macronode.Quota    `json:"quota"`
}

func tenantPath(tenant, rest string) string { return "/v1/tenants/" + url.PathEscape(tenant) + rest }

// CreateTenant makes a tenant; a nil quota is unlimited.
func (c *Client) CreateTenant(ctx context.Context, label string, quota *QuotaChange, key string) (Tenant, error) {
	return c.CreateTenantAs(ctx, "", label, quota, key)
}

// CreateTenantAs is CreateTenant with the id of a tenant that another node has, so
// that both have the same one; "" makes a new id.
func (c *Client) CreateTenantAs(ctx context.Context, id, label string, quota *QuotaChange, key string) (Tenant, error) {
	in := struct {
		ID    string       `json:"id,omitempty"`
		Label string       `json:"label"`
		Quota *QuotaChange `json:"quota,omitempty"`
	}{id, label, quota}
	var out Tenant
	err := c.JSON(ctx, "POST", "/v1/tenants", key, in, &out)
	return out, err
}

// Tenants lists every tenant.
func (c *Client) Tenants(ctx context.Context) ([]Tenant, error) {
	var all []Tenant
	for cursor := ""; ; {
		var page struct {
			Tenants []Tenant `json:"tenants"`
			Cursor  string   `json:"cursor"`
		}
		path := "/v1/tenants"
		if cursor != "" {
			path += "?cursor=" + url.QueryEscape(cursor)
		}
		if err := c.JSON(ctx, "GET", path, "", nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Tenants...)
		if page.Cursor == "" {
			return all, nil
		}
		if page.Cursor == cursor {
			return nil, errors.New("the node's list does not go on")
		}
		cursor = page.Cursor
	}
}

// Tenant returns a tenant by id or label.
func (c *Client) Tenant(ctx context.Context, tenant string) (Tenant, error) {
	var out Tenant
	err := c.JSON(ctx, "GET", tenantPath(tenant, ""), "", nil, &out)
	return out, err
}

// SetSuspended suspends a tenant or lets it go on.
func (c *Client) SetSuspended(ctx context.Context, tenant string, suspended bool) (Tenant, error) {
	verb := "/resume"
	if suspended {
		verb = "/suspend"
	}
	var out Tenant
	err := c.JSON(ctx, "POST", tenantPath(tenant, verb), "", nil, &out)
	return out, err
}

// SetQuota changes a tenant's quota; it holds from the next call on.
func (c *Client) SetQuota(ctx context.Context, tenant string, q QuotaChange) (Tenant, error) {
	var out Tenant
	err := c.JSON(ctx, "PUT", tenantPath(tenant, "/quota"), "", q, &out)
	return out, err
}

// Usage returns what a tenant holds.
func (c *Client) Usage(ctx context.Context, tenant string) (Usage, error) {
	var out Usage
	err := c.JSON(ctx, "GET", tenantPath(tenant, "/usage"), "", nil, &out)
	return out, err
}

// DeleteTenant purges a tenant and everything it has.
func (c *Client) DeleteTenant(ctx context.Context, tenant string) error {
	return c.JSON(ctx, "DELETE", tenantPath(tenant, ""), "", nil, nil)
}

// MintRequest describes a new capability; empty members do not narrow it.
type MintRequest struct {
	Tenant    string   `json:"tenant,omitempty"` // id or label; empty: the caller's
	Actions   []string `json:"actions,omitempty"`
	Resources []string `json:"resources,omitempty"`
	Methods   []string `json:"methods,omitempty"`
	Confine   []string `json:"confine,omitempty"`
	IPNets    []string `json:"ipnets,omitempty"`
	ExpiresS  int64    `json:"expires_s,omitempty"`  // seconds from now
	NotBefore int64    `json:"not_before,omitempty"` // unix seconds
	MaxBytes  *int64   `json:"max_bytes,omitempty"`  // nil: any number; 0 is a limit too
	Rate      *Rate    `json:"rate,omitempty"`
}

// Rate is a token bucket.
type Rate struct {
	PerSec int64 `json:"per_s"`
	Burst  int64 `json:"burst"`
}

// Minted is a new capability.
type Minted struct {
	Token  string `json:"token"`
	Tenant string `json:"tenant"`
	RootID string `json:"root_id"`
	LeafID string `json:"leaf_id"`
	KID    string `json:"kid"`
}

// Mint makes a capability.
func (c *Client) Mint(ctx context.Context, r MintRequest, key string) (Minted, error) {
	var out Minted
	err := c.JSON(ctx, "POST", "/v1/caps", key, r, &out)
	return out, err
}
