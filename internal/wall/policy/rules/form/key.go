// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"net/netip"
	"strings"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
)

// Reads is what of a request a rule can depend on, beyond what every key
// holds: action, kinds of principal and resource, tenant and its label.
type Reads uint16

// What there is to read.
const (
	ReadsPrincipal Reads = 1 << iota // who exactly, within the tenant
	ReadsResource                    // which one
	ReadsBytes
	ReadsIP
	ReadsTLS
	ReadsSubject
	ReadsPath
	ReadsMethod
	ReadsHour
	ReadsService

	AllContext = ReadsBytes | ReadsIP | ReadsTLS | ReadsSubject | ReadsPath | ReadsMethod | ReadsHour | ReadsService
	AllReads   = AllContext | ReadsPrincipal | ReadsResource
)

// AnonymousID is the id of the one Anonymous entity.
const AnonymousID = "anonymous"

// TenantType is the type of tenants.
const TenantType = types.EntityType("Tenant")

// Key is everything a decision can depend on; what the rules that can apply do
// not read stays zero. Rules are asked about the key, never about the request:
// requests of one key have one answer, cached or not, because nothing else of
// them is there to look at.
type Key struct {
	// Always.
	Action       int // in the schema's order
	Kind         macronode.PrincipalKind
	ResourceKind macronode.ResourceKind
	Tenant       macronode.TenantID
	Label        string
	// By reads.
	Root                           macronode.CapID
	Node                           string
	Resource                       string
	Bytes                          int64
	IP                             netip.Addr
	TLS                            bool
	Hour                           int8
	Subject, Path, Method, Service string
}

// MaxKeyText bounds the text of one key: longer requests are not cached.
const MaxKeyText = 1024

// Fill takes from r what want says. The key was zero before.
func (k *Key) Fill(r *wall.PolicyRequest, action int, want Reads) {
	k.Action, k.Kind, k.ResourceKind = action, r.Principal.Kind, r.Resource.Kind
	k.Tenant, k.Label = r.Tenant.ID, r.Tenant.Label
	if want == 0 {
		return
	}
	if want&ReadsPrincipal != 0 {
		switch k.Kind {
		case macronode.Capability:
			k.Root = r.Principal.RootID
		case macronode.PeerNode:
			k.Node = r.Principal.Node
		}
	}
	if want&ReadsResource != 0 {
		k.Resource = r.Resource.ID
	}
	if want&ReadsBytes != 0 {
		k.Bytes = r.Bytes
	}
	if want&ReadsIP != 0 {
		k.IP = plainAddr(r.IP)
	}
	if want&ReadsTLS != 0 {
		k.TLS = r.TLS
	}
	if want&ReadsHour != 0 {
		k.Hour = int8(r.Time.UTC().Hour())
	}
	if want&ReadsSubject != 0 {
		k.Subject = r.Subject
	}
	if want&ReadsPath != 0 {
		k.Path = r.Path
	}
	if want&ReadsMethod != 0 {
		k.Method = r.Method
	}
	if want&ReadsService != 0 {
		k.Service = r.Service
	}
}

// Address is the caller's, in Cedar's form.
func (k *Key) Address() types.IPAddr {
	return types.IPAddr(netip.PrefixFrom(k.IP, k.IP.BitLen()))
}

// Keepable reports whether the key is short enough to be kept.
func (k *Key) Keepable() bool {
	return len(k.Label)+len(k.Node)+len(k.Resource)+len(k.Subject)+len(k.Path)+len(k.Method)+len(k.Service) <= MaxKeyText
}

// Clone copies the texts, which may be parts of a request's buffers.
func (k *Key) Clone() Key {
	c := *k
	for _, s := range []*string{&c.Label, &c.Node, &c.Resource, &c.Subject, &c.Path, &c.Method, &c.Service} {
		*s = strings.Clone(*s)
	}
	return c
}

// contextAttr is one attribute of the context.
type contextAttr struct {
	name  types.String
	bit   Reads
	value func(*Key) types.Value
}

var contextAttrs = [...]contextAttr{
	{"bytes", ReadsBytes, func(c *Key) types.Value { return types.Long(c.Bytes) }},
	{"ip", ReadsIP, func(c *Key) types.Value { return c.Address() }},
	{"tls", ReadsTLS, func(c *Key) types.Value { return types.Boolean(c.TLS) }},
	{"mtls_subject", ReadsSubject, func(c *Key) types.Value { return types.String(c.Subject) }},
	{"path", ReadsPath, func(c *Key) types.Value { return types.String(c.Path) }},
	{"method", ReadsMethod, func(c *Key) types.Value { return types.String(c.Method) }},
	{"hour", ReadsHour, func(c *Key) types.Value { return types.Long(c.Hour) }},
	{"service", ReadsService, func(c *Key) types.Value { return types.String(c.Service) }},
}

// ContextReads is the bit of a context's attribute.
func ContextReads(attr types.String) (Reads, bool) {
	for i := range contextAttrs {
		if contextAttrs[i].name == attr {
			return contextAttrs[i].bit, true
		}
	}
	return 0, false
}

// plainAddr is the address as rules see it. A caller without one, on a Unix
// socket, has the unspecified one: it is in no range that a permit would name.
func plainAddr(a netip.Addr) netip.Addr {
	if !a.IsValid() {
		return netip.IPv4Unspecified()
	}
	return a.Unmap().WithZone("")
}

// Context makes the record of the attributes in want.
func Context(k *Key, want Reads) types.Record {
	if want&AllContext == 0 {
		return types.Record{}
	}
	m := make(types.RecordMap, len(contextAttrs))
	for _, a := range contextAttrs {
		if want&a.bit != 0 {
			m[a.name] = a.value(k)
		}
	}
	return types.NewRecord(m)
}
