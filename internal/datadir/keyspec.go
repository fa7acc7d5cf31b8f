// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rustyonions/macronode/internal/svc/kms"
)

// KeyInfo describes a key without its secrets.
type KeyInfo = kms.KeyInfo

// KeyAlgorithms and KeyPurposes list what KeySpec accepts.
func KeyAlgorithms() string { return join(kms.Algorithms()) }

// KeyPurposes lists what a key can be for.
func KeyPurposes() string { return join(kms.Purposes()) }

func join[T ~string](items []T) string {
	texts := make([]string, len(items))
	for i, s := range items {
		texts[i] = string(s)
	}
	return strings.Join(texts, ", ")
}

// KeySpec reads the description of a key from a command line.
func KeySpec(name, alg, purpose string) (kms.Spec, error) {
	s := kms.Spec{Name: name, Alg: kms.Algorithm(alg), Purpose: kms.Purpose(purpose)}
	switch {
	case !kms.ValidName(name):
		return s, fmt.Errorf("key name %q: want 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit", name)
	case !slices.Contains(kms.Algorithms(), s.Alg):
		return s, fmt.Errorf("--alg %q: want one of %s", alg, KeyAlgorithms())
	case !slices.Contains(kms.Purposes(), s.Purpose):
		return s, fmt.Errorf("--purpose %q: want one of %s", purpose, KeyPurposes())
	case !s.Alg.Suits(s.Purpose):
		return s, fmt.Errorf("a key of algorithm %s cannot have purpose %s", alg, purpose)
	}
	return s, nil
}
