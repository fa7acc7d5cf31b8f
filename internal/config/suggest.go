// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"sort"
	"strings"

	"github.com/agext/levenshtein"
)

// maxSuggested bounds the length of a name that is compared at all.
const maxSuggested = 80

// nearest returns the known names that are closest to a wrong one, several where
// they are equally close, none where nothing is alike. Two swapped neighbours
// count as one edit, since they are one slip of the hand.
func nearest(wrong string, known []string) []string {
	if wrong == "" || len(wrong) > maxSuggested {
		return nil
	}
	best, names := max(2, len(wrong)/2), []string(nil)
	for _, k := range known {
		d := distance(strings.ToLower(wrong), k)
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

func distance(a, b string) int {
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

// didYouMean is the end of an "unknown" text.
func didYouMean(wrong, path string, known []string) string {
	names := nearest(wrong, known)
	if len(names) == 0 {
		if path == "" {
			return "; known: " + strings.Join(known, ", ")
		}
		return "; known in [" + path + "]: " + strings.Join(known, ", ")
	}
	full := make([]string, 0, len(names))
	for _, n := range names {
		full = append(full, `"`+join(path, n)+`"`)
	}
	return "; did you mean " + strings.Join(full, " or ") + "?"
}
