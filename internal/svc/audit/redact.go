// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"net/netip"
	"regexp"
	"strings"

	"github.com/rustyonions/macronode/tlog"
)

const (
	// tokenPrefix begins the text of every capability.
	tokenPrefix = "ron1_"
	// tokenBytes are those that may follow it.
	tokenBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/="
	// redactedAttr counts in a record what was taken out of it.
	redactedAttr = "redacted"
	// v4Bits and v6Bits are what a record may say of an address.
	v4Bits, v6Bits = 24, 64
)

var (
	v4Form = regexp.MustCompile(`\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:/[0-9]{1,2}\b)?`)
	v6Form = regexp.MustCompile(`[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?:\.[0-9]{1,3}){3})?(?:%[0-9A-Za-z]+)?(?:/[0-9]{1,3}\b)?`)
)

// redact takes out of s what no record may hold, though a caller put it where it
// does not belong: capabilities, and addresses beyond their network. It returns how
// many there were.
func redact(s string) (string, int) {
	n := 0
	for from := 0; ; n++ {
		at := strings.Index(s[from:], tokenPrefix)
		if at < 0 {
			break
		}
		at += from
		const mark = "[redacted]"
		s = s[:at] + mark + strings.TrimLeft(s[at+len(tokenPrefix):], tokenBytes)
		from = at + len(mark)
	}
	network := func(m string) string {
		text, narrower := networkOf(m)
		if !narrower {
			return m
		}
		n++
		return text
	}
	if strings.Count(s, ":") >= 2 {
		s = v6Form.ReplaceAllStringFunc(s, network)
	}
	if strings.Count(s, ".") >= 3 {
		s = v4Form.ReplaceAllStringFunc(s, network)
	}
	return s, n
}

// networkOf is the network of the address that m is, with or without a length.
// narrower says that m is an address, and tells more than its network.
func networkOf(m string) (text string, narrower bool) {
	host, length, _ := strings.Cut(m, "/")
	a, err := netip.ParseAddr(host)
	if err != nil {
		return "", false
	}
	bits := v6Bits
	if a = a.WithZone("").Unmap(); a.Is4() {
		bits = v4Bits
	}
	if length != "" {
		if p, err := netip.ParsePrefix(a.String() + "/" + length); err == nil && p.Bits() <= bits && p == p.Masked() {
			return m, false
		}
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "", false
	}
	return p.String(), true
}

// cleaner makes texts fit for one record, and counts what it took out.
type cleaner struct{ taken int }

func (c *cleaner) text(s string) string {
	s, n := redact(s)
	c.taken += n
	return text(s)
}

// attrs copies the attributes as a record can hold them.
func (c *cleaner) attrs(m map[string]any) tlog.Attrs {
	out := make(tlog.Attrs, len(m))
	for k, v := range m {
		k = c.text(k)
		switch v := v.(type) {
		case string:
			out[k] = c.text(v)
		case bool:
			out[k] = int64(0)
			if v {
				out[k] = int64(1)
			}
		case int32:
			out[k] = int64(v)
		case uint32:
			out[k] = int64(v)
		default: // int, int64, uint64; anything else the record refuses
			out[k] = v
		}
	}
	if n := len(m) - len(out); n > 0 { // names that were equal once cut
		out["cut"] = int64(n)
	}
	return out
}
