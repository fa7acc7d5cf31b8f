// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package etag reads the lists of entity tags that preconditions are made of
// (RFC 9110, sections 8.8.3 and 13.1).
package etag

import (
	"strings"

	"github.com/rustyonions/macronode"
)

// maxBytes bounds a precondition header that is looked at; a longer one is
// refused.
const maxBytes = 8 << 10

// Preconditions evaluates If-Match and If-None-Match of a read against tag, the
// strong tag of what is there, in the order of RFC 9110 section 13.2.2. There are no
// dates: only tags say whether something changed.
func Preconditions(h macronode.Header, tag string) (notModified bool, err error) {
	if v := h["If-Match"]; len(v) > 0 {
		ok, err := Match(v, tag, false)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, macronode.Errorf(macronode.PreconditionFailed, "If-Match does not name what is there")
		}
	}
	if v := h["If-None-Match"]; len(v) > 0 {
		ok, err := Match(v, tag, true)
		if err != nil {
			return false, err
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}

// Match reports whether lists, the values of If-Match or If-None-Match, name tag,
// with "*" for any. A weak tag counts where weak is set. A list that is none is
// refused: to guess would be to change, or to leave out, what the caller wanted
// guarded.
func Match(lists []string, tag string, weak bool) (bool, error) {
	total, found := 0, false
	for _, l := range lists {
		if total += len(l); total > maxBytes {
			return false, macronode.Errorf(macronode.HeaderTooLarge, "a list of ETags may have %d bytes", maxBytes)
		}
		if strings.Trim(l, " \t") == "*" {
			if len(lists) > 1 {
				return false, errTags()
			}
			return true, nil
		}
		for rest := l; ; {
			rest = strings.TrimLeft(rest, " \t,")
			if rest == "" {
				break
			}
			isWeak := strings.HasPrefix(rest, "W/")
			one, after, ok := cutTag(strings.TrimPrefix(rest, "W/"))
			if !ok {
				return false, errTags()
			}
			rest = after
			if one == tag && (weak || !isWeak) {
				found = true
			}
		}
	}
	return found, nil
}

func errTags() error {
	return macronode.Errorf(macronode.Malformed, "a precondition is * or a list of ETags")
}

// cutTag takes a quoted tag, with its quotes, off the front of s.
func cutTag(s string) (tag, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", "", false
	}
	i := strings.IndexByte(s[1:], '"')
	if i < 0 {
		return "", "", false
	}
	tag, rest = s[:i+2], strings.TrimLeft(s[i+2:], " \t")
	if rest != "" && rest[0] != ',' {
		return "", "", false
	}
	for j := 1; j < len(tag)-1; j++ {
		if tag[j] <= ' ' || tag[j] == 0x7f {
			return "", "", false
		}
	}
	return tag, rest, true
}
