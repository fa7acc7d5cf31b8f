// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
	"lukechampine.com/blake3"
)

// Limits on a document that is hashed.
const (
	// MaxInteger is the greatest magnitude of an integer in a signed document:
	// 2^53-1, the largest that every JSON implementation keeps exact (RFC 7493).
	MaxInteger = 1<<53 - 1
	// MaxDepth is how deep tables and lists may nest.
	MaxDepth = 32
)

// Digest is a BLAKE3-256 hash of a document, written "blake3:" and 64 lower-case
// hex digits.
type Digest [32]byte

const digestPrefix = "blake3:"

// ParseDigest reads the one accepted form of a digest.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	h, ok := strings.CutPrefix(s, digestPrefix)
	if !ok || len(h) != 2*len(d) || strings.ToLower(h) != h {
		return d, malformed("digest: want blake3: and 64 lower-case hex digits")
	}
	if _, err := hex.Decode(d[:], []byte(h)); err != nil {
		return Digest{}, malformed("digest: want blake3: and 64 lower-case hex digits")
	}
	return d, nil
}

// String returns the digest's text.
func (d Digest) String() string { return digestPrefix + hex.EncodeToString(d[:]) }

// IsZero reports whether d was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText writes the digest's text; a zero digest is empty.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (d *Digest) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	*d, err = ParseDigest(string(b))
	return err
}

// Sum returns the BLAKE3-256 of bytes that are already canonical, such as the
// payload of a policy bundle.
func Sum(canonical []byte) Digest { return blake3.Sum256(canonical) }

// Hash returns BLAKE3-256 over the RFC 8785 canonical JSON of a decoded
// document. See [Canonical] for what a document may hold.
func Hash(doc any) (Digest, error) {
	b, err := Canonical(doc)
	if err != nil {
		return Digest{}, err
	}
	return Sum(b), nil
}

// Canonical returns the RFC 8785 canonical JSON of doc, made of map[string]any,
// []any, string, bool, int, int64, uint64, json.Number and nil. It refuses
// floats, integers beyond ±[MaxInteger], text that is not UTF-8 and nesting
// beyond [MaxDepth]: such documents have no canonical form that every
// implementation agrees on.
func Canonical(doc any) ([]byte, error) {
	if err := checkValue(doc, 0); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	b, err := jcs.Transform(buf.Bytes())
	if err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	return b, nil
}

// CanonicalJSON returns the canonical form of a JSON text, under the same rules
// as [Canonical]; duplicate members are refused.
func CanonicalJSON(text []byte) ([]byte, error) {
	if len(text) > MaxPayloadBytes {
		return nil, malformed("document: %d bytes, at most %d are accepted", len(text), MaxPayloadBytes)
	}
	if err := checkJSON(text, false); err != nil {
		return nil, malformed("document: %v", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return nil, malformed("document: not JSON")
	}
	return Canonical(doc)
}

func checkValue(v any, depth int) error {
	if depth > MaxDepth {
		return malformed("document: nested deeper than %d", MaxDepth)
	}
	switch v := v.(type) {
	case nil, bool:
		return nil
	case string:
		return checkText(v)
	case int:
		return checkInteger(int64(v))
	case int64:
		return checkInteger(v)
	case uint64:
		if v > MaxInteger {
			return malformed("document: integer beyond 2^53-1")
		}
		return nil
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			return malformed("document: a number that is no integer up to 2^53-1")
		}
		// "-0" parses, but has another canonical form than its text.
		if n == 0 && v != "0" {
			return malformed("document: negative zero")
		}
		return checkInteger(n)
	case []any:
		for _, e := range v {
			if err := checkValue(e, depth+1); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		for k, e := range v {
			if err := errors.Join(checkText(k), checkValue(e, depth+1)); err != nil {
				return err
			}
		}
		return nil
	}
	return malformed("document: a value of type %T has no canonical form here", v)
}

func checkText(s string) error {
	if !utf8.ValidString(s) {
		return malformed("document: text that is not UTF-8")
	}
	return nil
}

func checkInteger(n int64) error {
	if n > MaxInteger || n < -MaxInteger {
		return malformed("document: integer beyond 2^53-1")
	}
	return nil
}

// checkJSON refuses what encoding/json lets through and a signed document must
// not have: duplicate members, nesting beyond MaxDepth, text after the value and
// text that is not UTF-8. With fold, members that differ by case alone are
// duplicates too, because decoding into a struct would merge them.
func checkJSON(text []byte, fold bool) error {
	if !utf8.Valid(text) {
		return errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := checkTokens(dec, fold, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the end")
	}
	return nil
}

var errNotJSON = errors.New("not JSON")

func checkTokens(dec *json.Decoder, fold bool, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("nested deeper than %d", MaxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return errNotJSON
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if delim == '{' {
			name, err := dec.Token()
			if err != nil {
				return errNotJSON
			}
			key := name.(string)
			if fold {
				key = strings.ToLower(strings.ToUpper(key)) // long s and the Kelvin sign too
			}
			if seen[key] {
				return errors.New("duplicate member")
			}
			seen[key] = true
		}
		if err := checkTokens(dec, fold, depth+1); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return errNotJSON
	}
	return nil
}
