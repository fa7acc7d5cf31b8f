// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package field reads the header fields that mean the same on both wires.
package field

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"

	"github.com/rustyonions/macronode"
)

// Names of the fields, in canonical form.
const (
	CorrIDName    = "X-Corr-Id"
	DischargeName = "X-Ron-Discharge"
)

// MaxDischarges bounds the tokens in X-Ron-Discharge.
const MaxDischarges = 16

// maxCorrID bounds a correlation id that a client chose.
const maxCorrID = 64

// Discharges splits the values of X-Ron-Discharge, which are lists.
func Discharges(lists []string) (tokens []string, err *macronode.Error) {
	for _, list := range lists {
		for d := range strings.SplitSeq(list, ",") {
			if d = strings.Trim(d, " \t"); d != "" {
				tokens = append(tokens, d)
			}
			if len(tokens) > MaxDischarges {
				return nil, macronode.Errorf(macronode.Malformed, "more than %d discharges", MaxDischarges)
			}
		}
	}
	return tokens, nil
}

// CorrID returns the client's correlation id if it is one, else a new one.
func CorrID(v []string) string {
	if len(v) == 1 && validCorrID(v[0]) {
		return v[0]
	}
	// It correlates and protects nothing, so a fast generator will do.
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], rand.Uint64())
	var text [32]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

func validCorrID(s string) bool {
	if s == "" || len(s) > maxCorrID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// TraceParent returns a well-formed W3C traceparent, or "".
func TraceParent(v []string) string {
	if len(v) != 1 || len(v[0]) < 55 {
		return ""
	}
	s := v[0]
	version := s[:2]
	if s[2] != '-' || s[35] != '-' || s[52] != '-' || !lowerHex(version) || version == "ff" ||
		!lowerHex(s[3:35]) || !lowerHex(s[36:52]) || !lowerHex(s[53:55]) ||
		strings.Trim(s[3:35], "0") == "" || strings.Trim(s[36:52], "0") == "" {
		return ""
	}
	// Later versions may go on after a dash; of them too the first part counts.
	if len(s) > 55 && (version == "00" || s[55] != '-') {
		return ""
	}
	return s[:55]
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
