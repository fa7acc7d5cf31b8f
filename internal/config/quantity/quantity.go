// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package quantity reads and writes the quantities of a config bundle: sizes,
// durations and permits.
package quantity

import (
	"errors"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written "64KiB".
type Size int64

// Units of sizes.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// sizeUnit is one accepted suffix.
type sizeUnit struct {
	suffix string
	size   Size
}

// sizeUnits lists the suffixes, greatest first and "B" last, because every
// other suffix ends in it.
func sizeUnits() []sizeUnit {
	return []sizeUnit{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}
}

var errSize = errors.New(`want a size such as "64KiB" (B, KiB, MiB, GiB, TiB)`)

// ParseSize reads a whole number and a unit: B, KiB, MiB, GiB or TiB.
func ParseSize(s string) (Size, error) {
	for _, u := range sizeUnits() {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || digits[0] == '+' || n > uint64(1<<53-1)/uint64(u.size) {
			return 0, errSize
		}
		return Size(n) * u.size, nil
	}
	return 0, errSize
}

// String returns the size in the greatest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s != 0 && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.suffix
		}
	}
	return "0B"
}

var errDuration = errors.New(`want a duration such as "5s" (ms, s, m, h)`)

// ParseDuration reads a duration that is not negative, with a unit.
func ParseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || s[0] == '+' || s[0] == '-' || s == "0" {
		return 0, errDuration
	}
	return d, nil
}

// FormatDuration writes a duration without the zero parts that
// time.Duration.String adds: "5m", not "5m0s".
func FormatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// Permits is how many calls of a facet may run at a time.
type Permits struct {
	N      int64
	PerCPU bool // N times the processors
}

const (
	// MaxPermits is the greatest number in a Permits.
	MaxPermits = 1_000_000
	// PermitsText says what a Permits accepts.
	PermitsText = `a whole number from 1 to 1000000, or a text such as "4xCPU"`
	perCPU      = "xCPU"
)

// Count is the number of permits on this machine.
func (p Permits) Count() int64 {
	if p.PerCPU {
		return p.N * int64(runtime.GOMAXPROCS(0))
	}
	return p.N
}

func (p Permits) String() string {
	if p.PerCPU {
		return strconv.FormatInt(p.N, 10) + perCPU
	}
	return strconv.FormatInt(p.N, 10)
}

// ParsePermits reads a multiple of the processors, "4xCPU".
func ParsePermits(s string) (Permits, error) {
	digits, ok := strings.CutSuffix(s, perCPU)
	n, err := strconv.ParseInt(digits, 10, 32)
	if !ok || err != nil || n < 1 || n > MaxPermits || digits[0] == '+' {
		return Permits{}, errors.New("want " + PermitsText)
	}
	return Permits{N: n, PerCPU: true}, nil
}
