// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"strconv"
	"strings"
)

// Signature algorithms, as they stand at the end of a key id.
const (
	AlgEd25519 = "ed25519"
	AlgMLDSA65 = "ml-dsa-65" // FIPS 204, pure, empty context string
)

const (
	maxNameBytes  = 64
	maxKeyIDBytes = 128
)

// KeyID names one public key: key NAME, its version, and the algorithm of this
// half, since a hybrid key signs twice. Its text is "NAME#vN/ALG".
type KeyID struct {
	Name    string
	Version uint64
	Alg     string
}

// String returns the key id's text.
func (k KeyID) String() string {
	return k.Name + "#v" + strconv.FormatUint(k.Version, 10) + "/" + k.Alg
}

// ParseKeyID reads the one accepted form of a key id; every other error wraps
// [ErrMalformed].
func ParseKeyID(s string) (KeyID, error) {
	name, rest, ok := strings.Cut(s, "#v")
	version, alg, ok2 := strings.Cut(rest, "/")
	n, okN := parseVersion(version)
	if !ok || !ok2 || !okN || !ValidName(name) || (alg != AlgEd25519 && alg != AlgMLDSA65) {
		return KeyID{}, malformed("key id: want NAME#vN/ed25519 or NAME#vN/ml-dsa-65")
	}
	return KeyID{Name: name, Version: n, Alg: alg}, nil
}

// ValidName reports whether s may name a key or object of the KMS: 1 to 64
// bytes of [a-z0-9._-], the first a letter or digit.
func ValidName(s string) bool {
	if s == "" || len(s) > maxNameBytes || !alnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alnum(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func alnum(c byte) bool { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') }

// parseVersion reads a positive decimal without sign or leading zero.
func parseVersion(s string) (uint64, bool) {
	if s == "" || s[0] < '1' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= MaxInteger
}

// Ref is a reference into the KMS: "KMS:key/NAME" or "KMS:obj/NAME", with "@vN"
// where one version is meant. Without it the newest is. The zero Ref refers to
// nothing and has the empty text.
type Ref struct {
	Kind    string // RefKey or RefObject
	Name    string
	Version uint64 // 0: the newest
}

// The kinds of reference.
const (
	RefKey    = "key"
	RefObject = "obj"
)

// ParseRef reads a reference; errors wrap [ErrMalformed].
func ParseRef(s string) (Ref, error) {
	rest, ok := strings.CutPrefix(s, "KMS:")
	kind, rest, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 || (kind != RefKey && kind != RefObject) {
		return Ref{}, malformed("reference: want KMS:key/NAME or KMS:obj/NAME, with @vN for one version")
	}
	r := Ref{Kind: kind}
	name, version, pinned := strings.Cut(rest, "@v")
	if pinned {
		if r.Version, ok = parseVersion(version); !ok {
			return Ref{}, malformed("reference: want a version like @v1 at the end")
		}
	}
	if !ValidName(name) {
		return Ref{}, malformed("reference: a name is 1 to 64 of a-z, 0-9, dot, underscore and hyphen")
	}
	r.Name = name
	return r, nil
}

// String returns the reference's text; empty for the zero Ref.
func (r Ref) String() string {
	if r.IsZero() {
		return ""
	}
	s := "KMS:" + r.Kind + "/" + r.Name
	if r.Version != 0 {
		s += "@v" + strconv.FormatUint(r.Version, 10)
	}
	return s
}

// IsZero reports whether r refers to nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// MarshalText writes the reference's text.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *Ref) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*r = Ref{}
		return nil
	}
	*r, err = ParseRef(string(b))
	return err
}
