// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"io/fs"

	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

// BuildDir builds a bundle's payload from a directory. See Build.
func BuildDir(fsys fs.FS, meta payload.Meta) (b []byte, rep Report, err error) {
	src, err := payload.ReadDir(fsys)
	if err != nil {
		return nil, Report{}, err
	}
	return Build(src, meta)
}

// Build makes the canonical payload of a bundle. It refuses what Load refuses;
// where only the bundle's own tests fail, the error is ErrTests and the report
// says which. The same sources and meta give the same bytes.
func Build(src payload.Sources, meta payload.Meta) (b []byte, rep Report, err error) {
	if b, err = payload.Assemble(src, meta); err != nil {
		return nil, Report{}, err
	}
	_, rep, err = load(b)
	if err == nil {
		err = rep.Err()
	}
	if err != nil {
		return nil, rep, err
	}
	return b, rep, nil
}
