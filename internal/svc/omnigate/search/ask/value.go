// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package ask

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

var (
	errType    = errors.New("a type is such as text/plain, text/*, or text")
	errSize    = errors.New("a size is a number of bytes, or with a unit: kB, MB, GB, KiB, MiB, GiB")
	errCreated = errors.New("a time is 2026, 2026-11, 2026-11-24, 2026-11-24T10:00:00Z, or unix milliseconds")
)

// ParseType reads a media type, or the beginning of one.
func ParseType(v string) (Node, error) {
	v = strings.ToLower(v)
	major, minor, found := strings.Cut(v, "/")
	if !token(major) || len(v) > 255 {
		return nil, errType
	}
	if !found || minor == "*" {
		return TypeIs{major + "/", true}, nil
	}
	if !token(minor) {
		return nil, errType
	}
	return TypeIs{v, false}, nil
}

func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$&-^_.+", c) >= 0) {
			return false
		}
	}
	return s != ""
}

var units = []struct {
	suffix string
	factor int64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"b", 1},
}

// ParseSize reads a number of bytes.
func ParseSize(v string) (int64, error) {
	s, factor := strings.ToLower(v), int64(1)
	for _, u := range units {
		if t, ok := strings.CutSuffix(s, u.suffix); ok {
			s, factor = t, u.factor
			break
		}
	}
	n, err := digits(s)
	if err != nil || n > math.MaxInt64/factor {
		return 0, errSize
	}
	return n * factor, nil
}

func digits(s string) (int64, error) {
	if s == "" || len(s) > maxNumeral || strings.TrimLeft(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 10, 64)
}

// Times lie within these unix milliseconds.
const maxTime = 1 << 52

// ParseTime reads a time and how long it is, in unix milliseconds: a day has
// a day's, a moment one.
func ParseTime(v string) (start, length int64, err error) {
	if len(v) > 5 {
		if n, err := digits(v); err == nil {
			if n > maxTime {
				return 0, 0, errCreated
			}
			return n, 1, nil
		}
	}
	for _, f := range []struct {
		layout              string
		years, months, days int
	}{{"2006", 1, 0, 0}, {"2006-01", 0, 1, 0}, {"2006-01-02", 0, 0, 1}} {
		if len(v) == len(f.layout) {
			if t, err := time.Parse(f.layout, v); err == nil {
				return t.UnixMilli(), t.AddDate(f.years, f.months, f.days).UnixMilli() - t.UnixMilli(), nil
			}
		}
	}
	if t, err := time.Parse(time.RFC3339, strings.ToUpper(v)); err == nil {
		return t.UnixMilli(), 1, nil
	}
	return 0, 0, errCreated
}

// compare reads ">10MiB", "<=2026", "5" and the like.
func compare(f Field, v string) (Range, error) {
	op := ""
	for _, o := range []string{">=", "<=", ">", "<", "="} {
		if s, ok := strings.CutPrefix(v, o); ok {
			op, v = o, s
			break
		}
	}
	start, length := int64(0), int64(1)
	var err error
	if f == Size {
		start, err = ParseSize(v)
	} else {
		start, length, err = ParseTime(v)
	}
	if err != nil {
		return Range{}, err
	}
	last := start + length - 1
	r := Range{f, math.MinInt64, math.MaxInt64}
	switch op {
	case ">":
		if last == math.MaxInt64 {
			return Range{f, math.MaxInt64, math.MinInt64}, nil // nothing
		}
		r.Min = last + 1
	case ">=":
		r.Min = start
	case "<":
		if start == math.MinInt64 {
			return Range{f, math.MaxInt64, math.MinInt64}, nil
		}
		r.Max = start - 1
	case "<=":
		r.Max = last
	default:
		r.Min, r.Max = start, last
	}
	return r, nil
}
