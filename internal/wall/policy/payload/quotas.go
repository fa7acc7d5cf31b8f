// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package payload

import (
	"fmt"
	"regexp"

	"github.com/rustyonions/macronode"
)

// QuotaDoc is the form of quotas.toml: a [default] table and [tenants.X]
// tables, X a tenant's id or label. A member that is missing from a tenant's
// table is the default's; one missing from [default] is unlimited (weight: 1).
// -1 is unlimited, 0 forbids.
type QuotaDoc struct {
	Default *QuotaSpec           `json:"default,omitempty" toml:"default"`
	Tenants map[string]QuotaSpec `json:"tenants,omitempty" toml:"tenants"`
}

// QuotaSpec is one table of quotas.toml; nil members are not given.
type QuotaSpec struct {
	RequestsPerSec *int64 `json:"requests_per_s,omitempty" toml:"requests_per_s"`
	RequestBurst   *int64 `json:"request_burst,omitempty" toml:"request_burst"`
	BytesPerSec    *int64 `json:"bytes_per_s,omitempty" toml:"bytes_per_s"`
	ByteBurst      *int64 `json:"byte_burst,omitempty" toml:"byte_burst"`
	InFlight       *int64 `json:"in_flight,omitempty" toml:"in_flight"`
	StoredBytes    *int64 `json:"stored_bytes,omitempty" toml:"stored_bytes"`
	Objects        *int64 `json:"objects,omitempty" toml:"objects"`
	QueueDepth     *int64 `json:"queue_depth,omitempty" toml:"queue_depth"`
	Weight         *int64 `json:"weight,omitempty" toml:"weight"`
}

// maxWeight bounds a tenant's share under contention.
const maxWeight = 10_000

// labelForm is that of tenant labels.
var labelForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func (d *QuotaDoc) check() error {
	if d.Default != nil {
		if err := d.Default.check(); err != nil {
			return fmt.Errorf("quotas: default: %w", err)
		}
	}
	for name, q := range d.Tenants {
		if _, err := macronode.ParseTenantID(name); err != nil && !labelForm.MatchString(name) {
			return fmt.Errorf("quotas: %q is neither a tenant's id nor a label", name)
		}
		if err := q.check(); err != nil {
			return fmt.Errorf("quotas: tenant %s: %w", name, err)
		}
	}
	return nil
}

// members pairs each member of s with its place in q.
func (s *QuotaSpec) members(q *macronode.Quota) []quotaMember {
	return []quotaMember{
		{"requests_per_s", s.RequestsPerSec, &q.RequestsPerSec}, {"request_burst", s.RequestBurst, &q.RequestBurst},
		{"bytes_per_s", s.BytesPerSec, &q.BytesPerSec}, {"byte_burst", s.ByteBurst, &q.ByteBurst},
		{"in_flight", s.InFlight, &q.InFlight}, {"stored_bytes", s.StoredBytes, &q.StoredBytes},
		{"objects", s.Objects, &q.Objects}, {"queue_depth", s.QueueDepth, &q.QueueDepth},
		{"weight", s.Weight, &q.Weight},
	}
}

type quotaMember struct {
	name string
	from *int64
	to   *int64
}

func (s *QuotaSpec) check() error {
	var q macronode.Quota
	for _, m := range s.members(&q) {
		switch {
		case m.from == nil:
		case m.name == "weight" && (*m.from < 1 || *m.from > maxWeight):
			return fmt.Errorf("weight must be from 1 to %d, is %d", maxWeight, *m.from)
		case *m.from < macronode.NoLimit || *m.from > maxInt:
			return fmt.Errorf("%s must be from -1 (unlimited) to 2^53-1, is %d", m.name, *m.from)
		}
	}
	return nil
}

func (s *QuotaSpec) apply(q macronode.Quota) macronode.Quota {
	for _, m := range s.members(&q) {
		if m.from != nil {
			*m.to = *m.from
		}
	}
	return q
}

// Quotas is what a bundle says of quotas. The zero value says nothing.
type Quotas struct {
	hasDefault bool
	def        macronode.Quota
	tenants    map[string]macronode.Quota
}

// Quotas is d with what is not given filled in.
func (d *QuotaDoc) Quotas() Quotas {
	q := Quotas{def: macronode.UnlimitedQuota(), tenants: make(map[string]macronode.Quota, len(d.Tenants))}
	if d.Default != nil {
		q.hasDefault = true
		q.def = d.Default.apply(q.def)
	}
	for name, spec := range d.Tenants {
		q.tenants[name] = spec.apply(q.def)
	}
	return q
}

// Default is the quota of tenants that are not named; false where the bundle
// gives none, and the quota is then unlimited.
func (q Quotas) Default() (macronode.Quota, bool) {
	if q.tenants == nil {
		return macronode.UnlimitedQuota(), false
	}
	return q.def, q.hasDefault
}

// Named calls f with every tenant that the bundle names, by id or label as it
// stands there, and its quota.
func (q Quotas) Named(f func(ref string, quota macronode.Quota)) {
	for ref, quota := range q.tenants {
		f(ref, quota)
	}
}

// Tenant is the quota of the tenant, found by id, else by label, else the
// default; false where the bundle does not name the tenant.
func (q Quotas) Tenant(id macronode.TenantID, label string) (macronode.Quota, bool) {
	if v, ok := q.tenants[id.String()]; ok {
		return v, true
	}
	if v, ok := q.tenants[label]; ok {
		return v, true
	}
	def, _ := q.Default()
	return def, false
}
