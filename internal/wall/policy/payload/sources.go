// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package payload

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/agext/levenshtein"
	"github.com/pelletier/go-toml/v2"

	"github.com/rustyonions/macronode"
)

// Names of the files a bundle is built from, beside the *.cedar files. Each may
// be missing: the schema is then the node's own, the rest empty.
const (
	SchemaFile     = "schema.cedarschema"
	SchemaJSONFile = "schema.cedarschema.json"
	EntitiesFile   = "entities.json"
	QuotasFile     = "quotas.toml"
	TestsFile      = "tests.toml"
)

// Meta is what a bundle says of itself.
type Meta struct {
	Version  int64     // 1 or more
	Issued   time.Time // cut to seconds
	Expires  time.Time // zero: never
	Previous string    // hash of the bundle before; "": none
}

// Sources are the files a bundle is built from, by name.
type Sources map[string][]byte

//go:embed defaults
var defaults embed.FS

// DefaultSchema is the node's own schema, in Cedar's syntax.
func DefaultSchema() string { return mustRead("schema.cedarschema") }

func mustRead(name string) string {
	b, err := defaults.ReadFile("defaults/" + name)
	if err != nil {
		panic(err) // embedded at build
	}
	return string(b)
}

// InitSources is the policy of a new production node: only the built-in tenant
// system gets in, to run the node; anybody may read the API documents. The
// tenants named, if any, may work with their own data.
func InitSources(tenants ...macronode.TenantID) Sources { return defaultSources(false, tenants) }

// DevSources is the policy of development mode: InitSources, and the tenant
// dev may do all that a tenant can, ledger and wallet too.
func DevSources(dev macronode.TenantID) Sources {
	return defaultSources(true, []macronode.TenantID{dev})
}

func defaultSources(econ bool, tenants []macronode.TenantID) Sources {
	tests := mustRead("operator-tests.toml")
	src := Sources{
		SchemaFile:       []byte(mustRead("schema.cedarschema")),
		EntitiesFile:     []byte("[]\n"),
		QuotasFile:       []byte("# [default] and [tenants.LABEL]: see the configuration reference. -1 is unlimited.\n"),
		"operator.cedar": []byte(mustRead("operator.cedar")),
	}
	for _, t := range tenants {
		fill := strings.NewReplacer("@TENANT@", t.String(), "@LOWER@", strings.ToLower(t.String()))
		rules := mustRead("tenant.cedar")
		tests += fill.Replace(mustRead("tenant-tests.toml"))
		if econ {
			rules += "\n" + mustRead("econ.cedar")
			tests += fill.Replace(mustRead("econ-tests.toml"))
		} else {
			tests += fill.Replace(mustRead("no-econ-tests.toml"))
		}
		src["tenant-"+strings.ToLower(t.String())+".cedar"] = []byte(fill.Replace(rules))
	}
	src[TestsFile] = []byte(tests)
	return src
}

// ReadDir takes the sources out of a directory: its *.cedar files and the ones
// named above. Other files of those kinds are refused, for they are likely
// misspelt; files of other kinds are passed over.
func ReadDir(fsys fs.FS) (Sources, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("policy directory: %w", err)
	}
	known := []string{SchemaFile, SchemaJSONFile, EntitiesFile, QuotasFile, TestsFile}
	src, total := Sources{}, 0
	for _, e := range entries {
		name := e.Name()
		ext := path.Ext(name)
		if e.IsDir() || strings.HasPrefix(name, ".") || !slices.Contains([]string{".cedar", ".toml", ".json", ".cedarschema"}, ext) {
			continue
		}
		if ext != ".cedar" && !slices.Contains(known, name) {
			hint := Nearest(name, known)
			if hint != "" {
				hint = ": did you mean " + hint + "?"
			}
			return nil, fmt.Errorf("%s is no part of a policy%s", name, hint)
		}
		b, err := readBounded(fsys, name, MaxBytes-total)
		if err != nil {
			return nil, err
		}
		total += len(b)
		src[name] = b
	}
	return src, nil
}

func readBounded(fsys fs.FS, name string, limit int) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%s: a policy's files are at most %d bytes together", name, MaxBytes)
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%s is not UTF-8", name)
	}
	return b, nil
}

// Assemble makes the canonical payload of the sources. It checks their form
// alone. The same sources and meta give the same bytes.
func Assemble(src Sources, meta Meta) ([]byte, error) {
	p := &Doc{
		Version: meta.Version, IssuedAt: formatTime(meta.Issued), Cedar: map[string]string{},
		Entities: json.RawMessage("[]"),
	}
	if !meta.Expires.IsZero() {
		t := formatTime(meta.Expires)
		p.ExpiresAt = &t
	}
	if meta.Previous != "" {
		p.Previous = &meta.Previous
	}
	var err error
	if p.Schema, err = src.schema(); err != nil {
		return nil, err
	}
	if b, ok := src[EntitiesFile]; ok {
		if err := checkJSON(b); err != nil {
			return nil, fmt.Errorf("%s: %w", EntitiesFile, err)
		}
		p.Entities = b
	}
	if err := decodeTOML(QuotasFile, src[QuotasFile], &p.Quotas, quotaKeys); err != nil {
		return nil, err
	}
	if err := decodeTOML(TestsFile, src[TestsFile], &p.Tests, testKeys); err != nil {
		return nil, err
	}
	for name, b := range src {
		if path.Ext(name) == ".cedar" {
			p.Cedar[name] = string(b)
		}
	}
	return p.Encode()
}

// Reissue is the payload b with other words about itself: how older content comes
// back as a new version. The cedar, schema, entities, quotas and tests stay.
func Reissue(b []byte, meta Meta) ([]byte, error) {
	p, err := Decode(b)
	if err != nil {
		return nil, err
	}
	p.Version, p.IssuedAt, p.ExpiresAt, p.Previous = meta.Version, formatTime(meta.Issued), nil, nil
	if !meta.Expires.IsZero() {
		t := formatTime(meta.Expires)
		p.ExpiresAt = &t
	}
	if meta.Previous != "" {
		p.Previous = &meta.Previous
	}
	return p.Encode()
}

func (src Sources) schema() (json.RawMessage, error) {
	text, isText := src[SchemaFile]
	doc, isJSON := src[SchemaJSONFile]
	switch {
	case isText && isJSON:
		return nil, fmt.Errorf("both %s and %s are there", SchemaFile, SchemaJSONFile)
	case isJSON:
		if err := checkJSON(doc); err != nil {
			return nil, fmt.Errorf("%s: %w", SchemaJSONFile, err)
		}
		return doc, nil
	case !isText:
		text = []byte(DefaultSchema())
	}
	return json.Marshal(string(text))
}

func formatTime(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

var (
	quotaKeys = []string{
		"default", "tenants", "requests_per_s", "request_burst", "bytes_per_s", "byte_burst", "in_flight",
		"stored_bytes", "objects", "queue_depth", "weight",
	}
	testKeys = []string{
		"tenants", "test", "name", "expect", "reasons", "obligations", "principal", "tenant", "label", "root",
		"node", "action", "resource", "bytes", "ip", "tls", "mtls_subject", "path", "method", "hour", "service",
	}
)

// decodeTOML reads a file strictly: an unknown key is an error that names line,
// key and the nearest known key.
func decodeTOML(file string, b []byte, into any, keys []string) error {
	depth := 0
	for _, c := range b {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		}
		if depth > maxNesting {
			return fmt.Errorf("%s: brackets nested more than %d deep", file, maxNesting)
		}
	}
	err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(into)
	var strict *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &strict):
		e := strict.Errors[0]
		row, _ := e.Position()
		key := strings.Join(e.Key(), ".")
		hint := ""
		if k := e.Key(); len(k) > 0 {
			if near := Nearest(k[len(k)-1], keys); near != "" {
				hint = ": did you mean " + near + "?"
			}
		}
		return fmt.Errorf("%s:%d: unknown key %s%s", file, row, key, hint)
	case errors.As(err, &bad):
		row, col := bad.Position()
		return fmt.Errorf("%s:%d:%d: %w", file, row, col, bad)
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// Nearest is the entry of known closest to name, or "" where none is close.
func Nearest(name string, known []string) string {
	best, at := "", 1+max(2, len(name)/3)
	for _, k := range known {
		if d := levenshtein.Distance(name, k, nil); d < at {
			best, at = k, d
		}
	}
	return best
}
