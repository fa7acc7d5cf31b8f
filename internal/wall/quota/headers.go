// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package quota

import (
	"strconv"
	"time"

	"github.com/rustyonions/macronode"
)

// The policies that RateLimit and RateLimit-Policy speak of, as in
// draft-ietf-httpapi-ratelimit-headers, with the unit each counts in; the unit
// of requests goes without saying.
var units = map[string]string{"bytes": "content-bytes", "in_flight": "concurrent-requests"}

// fields are the two header fields under construction, one item a policy.
type fields struct{ policy, limit []byte }

// rate adds a token bucket: burst in the time that perSec takes for it, or perSec
// in a second where the burst is less. left is what it has, reset when it is full again, or, where
// a call was refused, when the next may come.
func (f *fields) rate(name string, perSec, burst, left int64, reset time.Duration) {
	f.policy = item(f.policy, name, "q", max(burst, perSec))
	if perSec > 0 {
		f.policy = param(f.policy, "w", max((burst+perSec-1)/perSec, 1))
	}
	f.policy = unit(f.policy, name)
	f.limit = item(f.limit, name, "r", left)
	f.limit = param(f.limit, "t", int64((reset+time.Second-1)/time.Second))
}

// count adds a bound on what goes on at once.
func (f *fields) count(name string, most, left int64) {
	f.policy = unit(item(f.policy, name, "q", most), name)
	f.limit = item(f.limit, name, "r", left)
}

func item(b []byte, name, key string, n int64) []byte {
	if len(b) > 0 {
		b = append(b, ", "...)
	}
	b = append(append(append(b, '"'), name...), '"')
	return param(b, key, n)
}

func param(b []byte, key string, n int64) []byte {
	b = append(append(append(b, ';'), key...), '=')
	return strconv.AppendInt(b, n, 10)
}

func unit(b []byte, name string) []byte {
	if u := units[name]; u != "" {
		b = append(append(append(b, `;qu="`...), u...), '"')
	}
	return b
}

func (f *fields) header() macronode.Header {
	if len(f.limit) == 0 {
		return nil
	}
	v := []string{string(f.policy), string(f.limit)}
	return macronode.Header{"Ratelimit-Policy": v[:1:1], "Ratelimit": v[1:]}
}

// standing is what is left of a tenant's rates; nil where it has none.
func (u *usage) standing(now time.Time, q *macronode.Quota) macronode.Header {
	if q.RequestsPerSec == macronode.NoLimit && q.BytesPerSec == macronode.NoLimit {
		return nil
	}
	var f fields
	if q.RequestsPerSec != macronode.NoLimit {
		n, reset := u.requests.left(now, q.RequestsPerSec, q.RequestBurst)
		f.rate("requests", q.RequestsPerSec, q.RequestBurst, n, reset)
	}
	if q.BytesPerSec != macronode.NoLimit {
		n, reset := u.bytes.left(now, q.BytesPerSec, q.ByteBurst)
		f.rate("bytes", q.BytesPerSec, q.ByteBurst, n, reset)
	}
	return f.header()
}
