// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package docs carries the runbook inside the binary, so that it can be read
// where a node is in trouble and the network with it.
package docs

import (
	_ "embed"
	"regexp"
	"strings"
	"unicode"
)

//go:embed runbook.md
var runbook string

// Section is a part of the runbook under one heading.
type Section struct {
	Title  string `json:"title"`
	Anchor string `json:"anchor"` // as in a link to it
	Text   string `json:"text"`   // with its heading and those below it
	level  int
}

// Alert is a row of the runbook's table of alerts.
type Alert struct {
	Name     string `json:"alert"`
	Severity string `json:"severity"` // "SEV-1" to "SEV-3"
	First    string `json:"first"`    // what to do first
	Anchor   string `json:"anchor"`   // of the section that goes on
}

// Runbook is the whole text.
func Runbook() string { return runbook }

// Sections returns the headings of a text and what stands under them, in order.
// Lines in code blocks are no headings.
func Sections(text string) []Section {
	var list []Section
	var starts []int
	code, at := false, 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		title := strings.TrimLeft(line, "#")
		if level := len(line) - len(title); !code && level > 0 && level <= 6 && strings.HasPrefix(title, " ") {
			title = strings.TrimSpace(title)
			list = append(list, Section{Title: title, Anchor: Anchor(title), level: level})
			starts = append(starts, at)
		}
		at += len(line)
	}
	for i := range list {
		end := len(text)
		for j := i + 1; j < len(list); j++ {
			if list[j].level <= list[i].level {
				end = starts[j]
				break
			}
		}
		list[i].Text = text[starts[i]:end]
	}
	return list
}

// Anchor is how a heading is linked to: lower case, spaces as "-", and no
// punctuation but "-" and "_".
func Anchor(title string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Alerts returns the rows of a text's table of alerts, in order: name, severity,
// what to do first, and a link to a section.
func Alerts(text string) []Alert {
	row := regexp.MustCompile("(?m)^\\| `(Macronode[A-Za-z0-9]+)` \\| (SEV-[123]) \\| (.+) \\| \\[.+\\]\\(#(\\S+)\\) \\|$")
	var list []Alert
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		list = append(list, Alert{Name: m[1], Severity: m[2], First: m[3], Anchor: m[4]})
	}
	return list
}
