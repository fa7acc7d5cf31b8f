// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package scrape reads numbers out of an exposition of metrics.
package scrape

import (
	"fmt"
	"strconv"
	"strings"
)

// Sum adds the series of the metric that have all these labels, each as NAME="VALUE".
// That there is none is an error.
func Sum(text, name string, labels ...string) (sum float64, err error) {
	found := false
lines:
	for line := range strings.Lines(text) {
		at := strings.LastIndexByte(strings.TrimSpace(line), ' ')
		if at < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		series := line[:at]
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(series, l) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s with %q", name, labels)
	}
	return sum, nil
}
