// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package payload

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
)

// Request is a question to a policy as people write it: in tests.toml and on
// the command line.
type Request struct {
	// Principal is "capability" (where it is empty too), "anonymous" or "peer".
	Principal string `json:"principal,omitempty" toml:"principal"`
	// Tenant is a ULID, "system", "anonymous", or a label that the document's
	// [tenants] table knows. Empty for an anonymous principal and a peer.
	Tenant string `json:"tenant,omitempty" toml:"tenant"`
	Label  string `json:"label,omitempty" toml:"label"` // the tenant's, where Tenant is a ULID
	Root   string `json:"root,omitempty" toml:"root"`   // 32 hex digits; empty: zeros
	Node   string `json:"node,omitempty" toml:"node"`   // a peer's node_id
	Action string `json:"action" toml:"action"`
	// Resource is "object/b3:…", "topic/jobs", "node/"; nothing after the
	// slash is the collection.
	Resource string `json:"resource" toml:"resource"`
	Bytes    int64  `json:"bytes,omitempty" toml:"bytes"`
	IP       string `json:"ip,omitempty" toml:"ip"`   // empty: 127.0.0.1
	TLS      *bool  `json:"tls,omitempty" toml:"tls"` // missing: true
	Subject  string `json:"mtls_subject,omitempty" toml:"mtls_subject"`
	Path     string `json:"path,omitempty" toml:"path"`
	Method   string `json:"method,omitempty" toml:"method"`
	Hour     int64  `json:"hour,omitempty" toml:"hour"` // 0 to 23, UTC
	Service  string `json:"service,omitempty" toml:"service"`
}

// Compile makes the wall's request of r. Labels are looked up in tenants.
func (r *Request) Compile(tenants map[string]macronode.TenantID) (*wall.PolicyRequest, error) {
	p, t, err := r.principal(tenants)
	if err != nil {
		return nil, err
	}
	res, err := parseResource(r.Resource)
	if err != nil {
		return nil, err
	}
	if r.Action == "" {
		return nil, errors.New("action is missing")
	}
	ip := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if r.IP != "" {
		if ip, err = netip.ParseAddr(r.IP); err != nil {
			return nil, fmt.Errorf("ip %q is no address", r.IP)
		}
	}
	if r.Bytes < 0 || r.Bytes > maxInt {
		return nil, errors.New("bytes must be from 0 to 2^53-1")
	}
	if r.Hour < 0 || r.Hour > 23 {
		return nil, errors.New("hour must be from 0 to 23")
	}
	return &wall.PolicyRequest{
		Principal: p, Tenant: t, Action: macronode.Action(r.Action), Resource: res,
		Bytes: r.Bytes, IP: ip, TLS: r.TLS == nil || *r.TLS, Subject: r.Subject,
		Path: r.Path, Method: r.Method, Service: r.Service,
		Time: time.Date(2026, time.January, 1, int(r.Hour), 0, 0, 0, time.UTC),
	}, nil
}

// Describe is the request that Compile makes r of, but for times beyond the hour.
func Describe(r *wall.PolicyRequest) Request {
	tls := r.TLS
	q := Request{
		Tenant: r.Tenant.ID.String(), Label: r.Tenant.Label, Action: string(r.Action), Resource: r.Resource.String(),
		Bytes: r.Bytes, TLS: &tls, Subject: r.Subject, Path: r.Path, Method: r.Method,
		Hour: int64(r.Time.UTC().Hour()), Service: r.Service, IP: "0.0.0.0",
	}
	if r.IP.IsValid() {
		q.IP = r.IP.Unmap().WithZone("").String()
	}
	switch r.Tenant.ID {
	case macronode.SystemTenant:
		q.Tenant, q.Label = macronode.SystemTenantLabel, ""
	case macronode.AnonymousTenant:
		q.Tenant, q.Label = macronode.AnonymousTenantLabel, ""
	}
	switch p := r.Principal; p.Kind {
	case macronode.Capability:
		q.Principal, q.Root = "capability", hex.EncodeToString(p.RootID[:])
	case macronode.PeerNode:
		q.Principal, q.Node = "peer", p.Node
	default:
		q.Principal = "anonymous"
	}
	return q
}

func (r *Request) principal(tenants map[string]macronode.TenantID) (*macronode.Principal, *macronode.Tenant, error) {
	p := &macronode.Principal{MaxBytes: macronode.NoLimit, Node: r.Node}
	switch r.Principal {
	case "", "capability":
		p.Kind = macronode.Capability
	case "anonymous":
		p.Kind = macronode.Anonymous
	case "peer":
		p.Kind = macronode.PeerNode
	default:
		return nil, nil, fmt.Errorf("principal %q is not capability, anonymous or peer", r.Principal)
	}
	if (r.Node != "") != (p.Kind == macronode.PeerNode) {
		return nil, nil, errors.New("node is for peers, who must have one")
	}
	t := &macronode.Tenant{ID: macronode.AnonymousTenant, Label: macronode.AnonymousTenantLabel}
	switch name := r.Tenant; {
	case name == "" && p.Kind == macronode.Capability:
		return nil, nil, errors.New("tenant is missing")
	case name == "" || name == macronode.AnonymousTenantLabel:
	case name == macronode.SystemTenantLabel:
		t.ID, t.Label = macronode.SystemTenant, name
	default:
		t.Label = r.Label
		id, ok := tenants[name]
		if ok {
			t.Label = name
		} else {
			var err error
			if id, err = macronode.ParseTenantID(name); err != nil {
				return nil, nil, fmt.Errorf("tenant %q is no ULID and not in [tenants]", name)
			}
		}
		t.ID = id
	}
	p.Tenant = t.ID
	if r.Root != "" {
		b, err := hex.DecodeString(r.Root)
		if err != nil || len(b) != len(p.RootID) || strings.ToLower(r.Root) != r.Root {
			return nil, nil, errors.New("root is not 32 lower-case hex digits")
		}
		copy(p.RootID[:], b)
		p.LeafID = p.RootID
	}
	return p, t, nil
}

// parseResource reads the form of macronode.Resource.String.
func parseResource(s string) (macronode.Resource, error) {
	kind, id, ok := strings.Cut(s, "/")
	for k := range macronode.FacetResource + 1 {
		if ok && k.Prefix() == kind {
			return macronode.Resource{Kind: k, ID: id}, nil
		}
	}
	return macronode.Resource{}, fmt.Errorf("resource %q is not of the form object/ID, node/, …", s)
}
