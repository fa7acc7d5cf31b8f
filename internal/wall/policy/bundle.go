// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"io/fs"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
)

// What commands and the node need of the packages below, under one roof.
type (
	// Meta is what a bundle says of itself.
	Meta = payload.Meta
	// Sources are the files a bundle is built from, by name.
	Sources = payload.Sources
	// Request is a question to a policy as people write it.
	Request = payload.Request
	// Quotas is what a bundle says of quotas.
	Quotas = payload.Quotas
	// Report is how a bundle's own tests went; Result is one test's.
	Report = rules.Report
	// Result is one test's outcome.
	Result = rules.Result
	// Finding is something that Lint found.
	Finding = rules.Finding
	// Coverage says which policies a bundle's tests put to the proof.
	Coverage = rules.Coverage
	// Explanation says which policies decided a request, and what came close.
	Explanation = rules.Explanation
)

// Names and limits of a bundle.
const (
	PayloadType      = payload.Type
	MaxPayloadBytes  = payload.MaxBytes
	MaxEnvelopeBytes = payload.MaxEnvelopeBytes
)

// ErrTests says that a bundle fails its own tests.
var ErrTests = rules.ErrTests

// Hash is the form in which a payload is pinned: "blake3:" and 64 hex digits.
func Hash(b []byte) string { return payload.Hash(b) }

// Load checks a payload as far as it can be checked without its pin and
// signature: canonical form, syntax, strict validation, and its own tests.
func Load(b []byte) (*Set, error) {
	s, err := rules.Load(b)
	if err != nil {
		return nil, err
	}
	return &Set{Set: s}, nil
}

// Build makes the canonical payload of a bundle. It refuses what Load refuses;
// where only the bundle's own tests fail, the error is ErrTests and the report
// says which. The same sources and meta give the same bytes.
func Build(src Sources, meta Meta) ([]byte, Report, error) { return rules.Build(src, meta) }

// BuildDir is Build with the sources of a directory.
func BuildDir(fsys fs.FS, meta Meta) ([]byte, Report, error) { return rules.BuildDir(fsys, meta) }

// AssembleDir makes the payload of a directory's sources for looking at: their
// form is checked, and neither rules nor tests.
func AssembleDir(fsys fs.FS, meta Meta) ([]byte, error) {
	src, err := payload.ReadDir(fsys)
	if err != nil {
		return nil, err
	}
	return payload.Assemble(src, meta)
}

// Reissue is a payload with other words about itself, checked as Build checks:
// how older content comes back as a new version.
func Reissue(b []byte, meta Meta) ([]byte, Report, error) {
	again, err := payload.Reissue(b, meta)
	if err != nil {
		return nil, Report{}, err
	}
	rep, err := rules.Test(again)
	if err == nil {
		err = rep.Err()
	}
	if err != nil {
		return nil, rep, err
	}
	return again, rep, nil
}

// Test loads a payload and runs its own tests. The error is of loading alone.
func Test(b []byte) (Report, error) { return rules.Test(b) }

// Cover is Test, and which policies the tests that passed put to the proof.
func Cover(b []byte) (Report, Coverage, error) { return rules.Cover(b) }

// Lint loads a payload and looks for what is legal but odd.
func Lint(b []byte) ([]Finding, error) { return rules.Lint(b) }

// Explain loads a payload and explains its decision on a request.
func Explain(b []byte, r Request) (Explanation, error) { return rules.Explain(b, r) }

// InitSources is the policy of a new production node: only the built-in tenant
// system gets in, to run the node; anybody may read the API documents. The
// tenants named, if any, may work with their own data.
func InitSources(tenants ...macronode.TenantID) Sources { return payload.InitSources(tenants...) }

// DevSources is the policy of development mode: InitSources, and the tenant
// dev may do all that a tenant can, ledger and wallet too.
func DevSources(dev macronode.TenantID) Sources { return payload.DevSources(dev) }

// DefaultSchema is the node's own schema, in Cedar's syntax.
func DefaultSchema() string { return payload.DefaultSchema() }
