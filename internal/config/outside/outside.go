// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package outside reads what [audit] says of those who look after the audit log from
// outside: witnesses, and sinks of its records.
package outside

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/rustyonions/macronode/tlog"
)

// MaxWitnesses bounds audit.witnesses.
const MaxWitnesses = 16

// Witness is an element of audit.witnesses, taken apart.
type Witness struct {
	URL  string
	Keys []tlog.Key
}

// ParseWitness takes an element of audit.witnesses apart: false where it is none.
func ParseWitness(s string) (w Witness, ok bool) {
	parts := strings.Fields(s)
	if len(parts) < 2 || len(parts) > 5 || !callable(parts[0]) {
		return w, false
	}
	w.URL = parts[0]
	for _, text := range parts[1:] {
		k, err := tlog.ParseKey(text)
		if err != nil || k.Type == tlog.Ed25519 {
			return w, false // a log's key, which says nothing of a time
		}
		w.Keys = append(w.Keys, k)
	}
	return w, true
}

// IsWitness reports whether s is an element of audit.witnesses.
func IsWitness(s string) bool {
	_, ok := ParseWitness(s)
	return ok
}

// callable reports whether s is a URL that the node may post to: https, or http to
// this machine, and without credentials.
func callable(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	local := u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && local
}

// CheckWitnesses judges audit.witnesses with audit.witness_quorum. fail is told the
// key, and what is wrong with it.
func CheckWitnesses(witnesses []string, quorum int64, fail func(key, format string, args ...any)) {
	switch n := len(witnesses); {
	case n > MaxWitnesses:
		fail("audit.witnesses", "names %d witnesses; at most %d are accepted", n, MaxWitnesses)
	case n == 0 && quorum > 0:
		fail("audit.witness_quorum", "has no effect without audit.witnesses")
	case quorum > int64(n):
		fail("audit.witness_quorum", "wants %d of %d witnesses", quorum, n)
	}
	names := map[string]bool{}
	for i, s := range witnesses {
		w, ok := ParseWitness(s)
		if ok && names[w.Keys[0].Name] {
			fail(fmt.Sprintf("audit.witnesses[%d]", i), "duplicate: another is called %s too", w.Keys[0].Name)
		}
		if ok {
			names[w.Keys[0].Name] = true
		}
	}
}
