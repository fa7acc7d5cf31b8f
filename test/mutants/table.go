// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutant is one entry of a table. In a file it reads:
//
//	mutant disk-replace-unsynced
//	why    a crash may leave the new name with none of its bytes
//	file   internal/disk/disk.go
//	test   ./internal/disk -run TestReplaceFile
//	fails  TestReplaceFileCrash
//	find
//		return w.Sync()
//	with
//		return nil
//	end
//
// find and with are whole lines, or the part of one between its first and last
// character that is no white space. "fails" may be missing: then any failing
// test will do. Empty lines, and between entries lines that begin with "#", are
// skipped.
type mutant struct {
	name, why, file string
	test            []string
	fails           string
	find, with      string

	mutated string // of apply
}

// readTables reads every .txt of a folder, in their order.
func readTables(dir string) ([]*mutant, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var all []*mutant
	seen := map[string]bool{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		list, err := parseTable(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
		for _, m := range list {
			if seen[m.name] {
				return nil, fmt.Errorf("%s: there are two mutants %s", filepath.Base(name), m.name)
			}
			seen[m.name] = true
		}
		all = append(all, list...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no mutants in %s", dir)
	}
	return all, nil
}

var mutantName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// parseTable reads the entries of one file.
func parseTable(text string) ([]*mutant, error) {
	lines := strings.Split(text, "\n")
	var all []*mutant
	var m *mutant
	for i := 0; i < len(lines); i++ {
		bad := func(format string, args ...any) error {
			return fmt.Errorf("line %d: %s", i+1, fmt.Sprintf(format, args...))
		}
		line := strings.TrimSpace(lines[i])
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch {
		case line == "" || m == nil && line[0] == '#':
		case m == nil && word == "mutant" && mutantName.MatchString(rest):
			m = &mutant{name: rest}
		case m == nil:
			return nil, bad("want: mutant NAME, in lower-case words with dashes between them")
		case line == "find":
			find, next, ok := block(lines, i+1, "with")
			if !ok {
				return nil, bad("%s: find without with", m.name)
			}
			with, end, ok := block(lines, next+1, "end")
			if !ok {
				return nil, bad("%s: with without end", m.name)
			}
			m.find, m.with = find, with
			if err := m.complete(); err != nil {
				return nil, bad("%v", err)
			}
			all, m, i = append(all, m), nil, end
		default:
			if err := m.set(word, rest); err != nil {
				return nil, bad("%v", err)
			}
		}
	}
	if m != nil {
		return nil, fmt.Errorf("%s has no find", m.name)
	}
	return all, nil
}

// set takes one field of the head of an entry.
func (m *mutant) set(word, rest string) error {
	one := func(to *string) error {
		if *to != "" || rest == "" {
			return fmt.Errorf("%s: %s is said twice, or is empty", m.name, word)
		}
		*to = rest
		return nil
	}
	switch word {
	case "why":
		return one(&m.why)
	case "file":
		return one(&m.file)
	case "fails":
		return one(&m.fails)
	case "test":
		if m.test != nil {
			return fmt.Errorf("%s: test is said twice", m.name)
		}
		m.test = strings.Fields(rest)
		return nil
	}
	return fmt.Errorf("%s: %q is none of why, file, test, fails, find", m.name, word)
}

// block joins the lines up to the one that reads end. An entry that begins
// before says that end was forgotten.
func block(lines []string, from int, end string) (text string, at int, ok bool) {
	for at = from; at < len(lines) && !strings.HasPrefix(lines[at], "mutant "); at++ {
		if strings.TrimSpace(lines[at]) == end {
			return strings.Trim(strings.Join(lines[from:at], "\n"), " \t\n"), at, true
		}
	}
	return "", at, false
}

func (m *mutant) complete() error {
	var missing []string
	for name, value := range map[string]bool{"why": m.why != "", "file": m.file != "", "test": len(m.test) > 0, "find": m.find != ""} {
		if !value {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	switch {
	case len(missing) > 0:
		return fmt.Errorf("%s has no %s", m.name, strings.Join(missing, ", no "))
	case m.find == m.with:
		return fmt.Errorf("%s changes nothing", m.name)
	case !filepath.IsLocal(m.file) || strings.HasSuffix(m.file, "_test.go") || !strings.HasSuffix(m.file, ".go"):
		return fmt.Errorf("%s: %q is no Go file of this module that is not a test", m.name, m.file)
	}
	return nil
}

// apply makes the mutated text. The snippet must occur once: where it does not,
// the code has moved on from the table.
func (m *mutant) apply(root string) error {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	switch n := strings.Count(string(text), m.find); n {
	case 1:
		m.mutated = strings.Replace(string(text), m.find, m.with, 1)
		return nil
	case 0:
		return fmt.Errorf("%s: what it looks for is not in %s", m.name, m.file)
	default:
		return fmt.Errorf("%s: what it looks for is %d times in %s", m.name, n, m.file)
	}
}

// overlay writes the mutated file and returns what to give to go test -overlay.
func (m *mutant) overlay(root, dir string) (string, error) {
	mutated, config := filepath.Join(dir, m.name+".go"), filepath.Join(dir, m.name+".json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, filepath.FromSlash(m.file)): mutated}})
	if err != nil {
		return "", err
	}
	return config, errors.Join(os.WriteFile(mutated, []byte(m.mutated), 0o600), os.WriteFile(config, replace, 0o600))
}
