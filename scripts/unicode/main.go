// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Command unicode makes name/tables.go from Unicode's own data, of one pinned
// version: which characters a name may have (IdentifierStatus), in which scripts
// they are used (Scripts, ScriptExtensions), and which of them look like ASCII
// letters (confusables). It writes to standard output:
//
//	go generate ./name
//
// The files come from unicode.org, or with -from DIR from a copy of its folder
// Public. Each must have the digest that is pinned here, so the same version always
// makes the same table. To move to another version, change the version and the
// digests together with the version of Go and golang.org/x/net, whose own tables
// (Unicode 15.0.0 up to Go 1.26) should be of the same one.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"go/format"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// version is the version of Unicode that is pinned.
const version = "15.0.0"

// base is where Unicode publishes its data.
const base = "https://www.unicode.org/Public/"

// maxFileBytes bounds one file; the largest has 700 KB.
const maxFileBytes = 16 << 20

// files are what is read, below Public, with their SHA-256.
var files = map[string]struct{ path, sum string }{
	"status":      {"security/" + version + "/IdentifierStatus.txt", "fd5c5e510914a2018e092bc51ea653bd2bfcf7daa116a346f09179a0f74704b0"},
	"confusables": {"security/" + version + "/confusables.txt", "2b10130885c3370b101c52d7baedc452ab7f0e257b86c1e52ee657ecfc29ce64"},
	"scripts":     {version + "/ucd/Scripts.txt", "cca85d830f46aece2e7c1459ef1249993dca8f2e46d51e869255be140d7ea4b0"},
	"extensions":  {version + "/ucd/ScriptExtensions.txt", "7e07313d9d0bee42220c476b64485995130ae30917bbcf7780b602d677d7e33f"},
	"aliases":     {version + "/ucd/PropertyValueAliases.txt", "13a7666843abea5c6b7eb8c057c57ab9bb2ba96cfc936e204224dd67d71cafad"},
}

func main() {
	from := flag.String("from", "", "a copy of unicode.org's folder Public; empty: unicode.org itself")
	flag.Parse()
	if err := run(*from, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "unicode:", err)
		os.Exit(1)
	}
}

func run(from string, out io.Writer) error {
	read := map[string][]line{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		text, err := fetch(from, f.path)
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != f.sum {
			return fmt.Errorf("%s is not the file that is pinned: its SHA-256 is %x", f.path, sum)
		}
		if read[name], err = parse(text); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	d, err := digest(read)
	if err != nil {
		return err
	}
	return d.write(out)
}

func fetch(from, path string) ([]byte, error) {
	if from != "" {
		return os.ReadFile(filepath.Join(from, filepath.FromSlash(path)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxFileBytes))
}

// line is one of a data file: its fields, and the code points of the first where
// that is what it holds.
type line struct {
	lo, hi rune
	fields []string
}

func parse(text []byte) (all []line, err error) {
	scan := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	for scan.Scan() {
		body, _, _ := strings.Cut(scan.Text(), "#")
		if strings.TrimSpace(body) == "" {
			continue
		}
		l := line{lo: -1}
		for f := range strings.SplitSeq(body, ";") {
			l.fields = append(l.fields, strings.TrimSpace(f))
		}
		lo, hi, found := strings.Cut(l.fields[0], "..")
		if !found {
			hi = lo
		}
		if a, err := strconv.ParseUint(lo, 16, 32); err == nil {
			b, err := strconv.ParseUint(hi, 16, 32)
			if err != nil || b < a || b > unicode.MaxRune {
				return nil, fmt.Errorf("the range %q", l.fields[0])
			}
			l.lo, l.hi = rune(a), rune(b)
		}
		all = append(all, l)
	}
	return all, scan.Err()
}

// data is what the table is made of.
type data struct {
	codes      []string        // scripts, by the number of their bit
	bits       map[string]uint // by short name
	of         map[rune]uint64 // scripts of each character that may be used
	lookalikes []rune
}

// everywhere is the set of what is used in all scripts.
const everywhere = ^uint64(0)

// joined are the sets of scripts that are written together; each is one more script
// of those that it has, as UTS 39 augments them.
var joined = map[string][]string{
	"Hani": {"Hanb", "Jpan", "Kore"}, "Hira": {"Jpan"}, "Kana": {"Jpan"}, "Hang": {"Kore"}, "Bopo": {"Hanb"},
}

func digest(read map[string][]line) (*data, error) {
	short := map[string]string{} // by long name
	for _, l := range read["aliases"] {
		if l.fields[0] == "sc" {
			short[l.fields[2]] = l.fields[1]
		}
	}
	scripts := map[rune][]string{}
	for _, l := range read["scripts"] {
		code, ok := short[l.fields[1]]
		if !ok {
			return nil, fmt.Errorf("the script %q has no short name", l.fields[1])
		}
		for r := l.lo; r <= l.hi; r++ {
			scripts[r] = []string{code}
		}
	}
	for _, l := range read["extensions"] {
		for r := l.lo; r <= l.hi; r++ {
			scripts[r] = strings.Fields(l.fields[1])
		}
	}
	d := &data{bits: map[string]uint{}, of: map[rune]uint64{}}
	for _, l := range read["status"] {
		if l.fields[1] != "Allowed" {
			continue
		}
		for r := l.lo; r <= l.hi; r++ {
			if !nameable(r) {
				continue
			}
			set, err := d.set(scripts[r])
			if err != nil {
				return nil, err
			}
			d.of[r] = set
		}
	}
	// Joiners are invisible, so UTS 39 leaves them to whoever checks what is around
	// them, as IDNA 2008 does.
	d.of[0x200c], d.of[0x200d] = everywhere, everywhere
	if len(d.of) < 10_000 {
		return nil, errors.New("almost nothing is allowed: the data is not what it should be")
	}
	return d, d.findLookalikes(read["confusables"], scripts)
}

// nameable reports whether IDNA 2008 lets r into a label at all (RFC 5892): letters
// that have no other form, marks, decimal digits, and what needs a context.
func nameable(r rune) bool {
	switch r {
	case '-', 0xb7, 0x375, 0x5f3, 0x5f4, 0x30fb, 0x200c, 0x200d:
		return true
	}
	return unicode.In(r, unicode.Ll, unicode.Lo, unicode.Lm, unicode.Mn, unicode.Mc, unicode.Nd)
}

func (d *data) set(codes []string) (uint64, error) {
	var set uint64
	add := func(code string) error {
		bit, ok := d.bits[code]
		if !ok {
			bit = uint(len(d.codes))
			d.bits[code], d.codes = bit, append(d.codes, code)
		}
		if bit >= 64 {
			return errors.New("there are more than 64 scripts")
		}
		set |= 1 << bit
		return nil
	}
	for _, code := range codes {
		if code == "Zyyy" || code == "Zinh" {
			return everywhere, nil
		}
		for _, c := range append([]string{code}, joined[code]...) {
			if err := add(c); err != nil {
				return 0, err
			}
		}
	}
	return set, nil
}

// findLookalikes finds the characters of other scripts that look like ASCII
// letters.
func (d *data) findLookalikes(confusables []line, scripts map[rune][]string) error {
	skeleton := map[rune]string{}
	for _, l := range confusables {
		var to []rune
		for hex := range strings.FieldsSeq(l.fields[1]) {
			n, err := strconv.ParseUint(hex, 16, 32)
			if err != nil {
				return err
			}
			to = append(to, rune(n))
		}
		skeleton[l.lo] = string(to)
	}
	like := func(r rune) string {
		if s, ok := skeleton[r]; ok {
			return s
		}
		return string(r)
	}
	ascii := map[rune]bool{}
	for r := rune('a'); r <= 'z'; r++ {
		for _, t := range like(r) {
			ascii[t] = true
		}
	}
	for r, set := range d.of {
		if r < 0x80 || set == everywhere || slices.Contains(scripts[r], "Latn") || unicode.Is(unicode.Mn, r) {
			continue
		}
		if to := like(r); to != "" && strings.IndexFunc(to, func(t rune) bool { return !ascii[t] }) < 0 {
			d.lookalikes = append(d.lookalikes, r)
		}
	}
	slices.Sort(d.lookalikes)
	return nil
}

func (d *data) write(out io.Writer) error {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("// Code generated by scripts/unicode; DO NOT EDIT.\n\n")
	p("package name\n\n// UnicodeVersion is the version of Unicode whose data the tables below are made of.\nconst UnicodeVersion = %q\n\n", version)
	p("// Scripts that names are judged by, each a bit of a set.\nconst (\n")
	for _, code := range []string{"Grek", "Hani", "Hebr", "Hira", "Kana", "Latn", "Hanb", "Jpan", "Kore"} {
		bit, ok := d.bits[code]
		if !ok {
			return fmt.Errorf("no character is of the script %s", code)
		}
		p("\tscript%s scripts = 1 << %d\n", code, bit)
	}
	p(")\n\n// everywhere is of characters that all scripts use.\nconst everywhere scripts = 1<<64 - 1\n\n")
	p("// allowed are the characters that a name may have, with the scripts that use them.\nvar allowed = [...]span{\n")
	runes := slices.Sorted(maps.Keys(d.of))
	for i := 0; i < len(runes); {
		j := i
		for j+1 < len(runes) && runes[j+1] == runes[j]+1 && d.of[runes[j+1]] == d.of[runes[i]] {
			j++
		}
		set := "everywhere"
		if s := d.of[runes[i]]; s != everywhere {
			set = fmt.Sprintf("%#x", s)
		}
		p("\t{%#x, %#x, %s},\n", runes[i], runes[j], set)
		i = j + 1
	}
	p("}\n\n// lookalikes are characters of other scripts that look like ASCII letters.\nvar lookalikes = [...]rune{")
	for i, r := range d.lookalikes {
		if i%12 == 0 {
			p("\n\t")
		}
		p("%#x, ", r)
	}
	p("\n}\n")
	text, err := format.Source(b.Bytes())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0\n\n%s", text)
	return err
}
