// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package partial reads what a request wants of an object: its preconditions and
// its ranges, as RFC 9110 sections 13 and 14 have them. An object never changes,
// so there is one strong tag and there are no dates.
package partial

import (
	"math"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode"
)

// MaxRanges is how many ranges a request may name.
const MaxRanges = 16

// Span is bytes [Off, Off+N) of an object, N > 0.
type Span struct{ Off, N int64 }

// End is the first byte beyond s.
func (s Span) End() int64 { return s.Off + s.N }

// ContentRange is the Content-Range of s in an object of the given size.
func (s Span) ContentRange(size int64) string {
	b := make([]byte, 0, 64)
	b = append(b, "bytes "...)
	b = strconv.AppendInt(b, s.Off, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, s.End()-1, 10)
	b = append(b, '/')
	return string(strconv.AppendInt(b, size, 10))
}

// Ranges reads a Range header (RFC 9110 section 14) for an object of the
// given size. No spans and no error mean that the header does not count: its
// unit is another, or it is malformed. RangeNotSatisfiable is the answer where
// nothing of it lies in the object, or there are more than MaxRanges.
//
// Spans that overlap are merged into the first of them; else the order is that
// of the request.
func Ranges(h string, size int64) ([]Span, error) {
	unit, set, ok := strings.Cut(h, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return nil, nil
	}
	var spans []Span
	given := 0
	whole := false
	for len(set) > 0 {
		var spec string
		spec, set, _ = strings.Cut(set, ",")
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue // a list may have empty elements
		}
		if given++; given > MaxRanges {
			return nil, unsatisfiable(size, "a request may name 16 ranges")
		}
		s, ok := parseRange(spec, size)
		if !ok {
			return nil, nil
		}
		if s.N > 0 {
			spans = merge(spans, s)
		} else if s.Off < 0 {
			whole = true
		}
	}
	switch {
	case given == 0:
		return nil, nil
	case len(spans) > 0 || whole:
		return spans, nil
	default:
		return nil, unsatisfiable(size, "the object ends before the range")
	}
}

func unsatisfiable(size int64, detail string) error {
	e := macronode.Errorf(macronode.RangeNotSatisfiable, "%s", detail)
	e.Header = macronode.Header{"Content-Range": {"bytes */" + strconv.FormatInt(size, 10)}}
	return e
}

// parseRange reads one range. An empty span is one that the object does not
// reach; with a negative offset it is the suffix of an empty object, which
// is satisfied by nothing at all.
func parseRange(spec string, size int64) (s Span, ok bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return Span{}, false
	}
	if first == "" {
		n, ok := parsePos(last)
		switch {
		case !ok:
			return Span{}, false
		case n > 0 && size == 0:
			return Span{Off: -1}, true
		}
		n = min(n, size)
		return Span{size - n, n}, true
	}
	from, ok := parsePos(first)
	if !ok {
		return Span{}, false
	}
	to := int64(math.MaxInt64)
	if last != "" {
		if to, ok = parsePos(last); !ok || to < from {
			return Span{}, false
		}
	}
	if from >= size {
		return Span{}, true
	}
	return Span{from, min(to, size-1) - from + 1}, true
}

// parsePos reads digits alone; a number beyond int64 is as good as its largest.
func parsePos(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return math.MaxInt64, true
	}
	return n, true
}

// merge adds s to spans, none of which overlaps another. What s absorbs makes
// it no wider than their union, so it never reaches a span that was kept.
func merge(spans []Span, s Span) []Span {
	at := -1
	kept := spans[:0]
	for _, t := range spans {
		if t.End() <= s.Off || s.End() <= t.Off {
			kept = append(kept, t)
			continue
		}
		off := min(s.Off, t.Off)
		s = Span{off, max(s.End(), t.End()) - off}
		if at < 0 {
			at = len(kept)
			kept = append(kept, t) // its place; filled in below
		}
	}
	if at < 0 {
		return append(kept, s)
	}
	kept[at] = s
	return kept
}
