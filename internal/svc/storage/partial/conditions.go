// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package partial

import (
	"strings"

	"github.com/rustyonions/macronode"
)

// maxTagBytes bounds a precondition header that is looked at; a longer one is
// refused.
const maxTagBytes = 8 << 10

// Preconditions evaluates If-Match and If-None-Match against the strong tag
// etag of an object that is there, in the order of RFC 9110 section 13.2.2.
// There are no dates: an object never changes.
func Preconditions(h macronode.Header, etag string) (notModified bool, err error) {
	if v := h["If-Match"]; len(v) > 0 {
		ok, err := matches(v, etag, false)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, macronode.Errorf(macronode.PreconditionFailed, "If-Match does not name the object")
		}
	}
	if v := h["If-None-Match"]; len(v) > 0 {
		ok, err := matches(v, etag, true)
		if err != nil {
			return false, err
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}

// RangeCounts evaluates If-Range: a Range counts where there is none, or where
// it is the object's own strong tag. A date never is.
func RangeCounts(h macronode.Header, etag string) bool {
	v := h["If-Range"]
	return len(v) == 0 || (len(v) == 1 && strings.Trim(v[0], " \t") == etag)
}

// matches reports whether the lists of tags name etag, with "*" for any. A weak
// tag counts where weak is set. A list that is none is refused: to guess would be
// to change, or to leave out, what the caller wanted guarded.
func matches(lists []string, etag string, weak bool) (bool, error) {
	total, found := 0, false
	for _, l := range lists {
		if total += len(l); total > maxTagBytes {
			return false, macronode.Errorf(macronode.HeaderTooLarge, "a list of ETags may have %d bytes", maxTagBytes)
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
			tag, after, ok := cutTag(strings.TrimPrefix(rest, "W/"))
			if !ok {
				return false, errTags()
			}
			rest = after
			if tag == etag && (weak || !isWeak) {
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
