// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package nearest finds the known name that a wrong one was meant to be.
package nearest

import (
	"sort"
	"strings"

	"github.com/agext/levenshtein"
)

// maxCompared bounds the length of a name that is compared at all.
const maxCompared = 80

// Names returns the known names that are closest to a wrong one, several where
// they are equally close, none where nothing is alike. Two swapped neighbours
// count as one edit, since they are one slip of the hand.
func Names(wrong string, known []string) []string {
	if wrong == "" || len(wrong) > maxCompared {
		return nil
	}
	best, names := max(2, len(wrong)/2), []string(nil)
	for _, k := range known {
		d := Distance(strings.ToLower(wrong), k)
		switch {
		case d < best:
			best, names = d, []string{k}
		case d == best:
			names = append(names, k)
		}
	}
	sort.Strings(names)
	if len(names) > 3 {
		return nil
	}
	return names
}

// Distance is the number of edits between two names; two swapped neighbours are
// one.
func Distance(a, b string) int {
	if len(a) == len(b) {
		for i := 0; i+1 < len(a); i++ {
			if a[i] != b[i] {
				if a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:] {
					return 1
				}
				break
			}
		}
	}
	return levenshtein.Distance(a, b, nil)
}
