// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package payload is the document of a policy bundle: its canonical form and
// hash, the files it is built from, and the node's own default policies. It
// checks form alone; whether the rules in it hold water is for package rules.
package payload

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gowebpki/jcs"
	"lukechampine.com/blake3"
)

// Type is the DSSE payload type of a policy bundle.
const Type = "application/vnd.macronode.policy+json"

// Limits of a bundle, checked before anything is parsed.
const (
	MaxBytes         = 1 << 20
	MaxEnvelopeBytes = 2 << 20  // base64 of the payload, and signatures
	maxPolicyBytes   = 16 << 10 // one rule: what parser and validator recurse over
	maxNesting       = 64       // brackets within brackets, in any of the languages
	maxFiles         = 256
	maxInt           = 1<<53 - 1 // what RFC 8785 can carry
)

// Doc is the decoded document of a policy bundle. Its canonical encoding
// is what is hashed, pinned and signed.
type Doc struct {
	Version   int64             `json:"version"`    // 1 or more; grows with each bundle
	IssuedAt  string            `json:"issued_at"`  // RFC 3339, UTC, whole seconds
	ExpiresAt *string           `json:"expires_at"` // the same; null: never
	Previous  *string           `json:"previous"`   // hash of the bundle this one follows
	Cedar     map[string]string `json:"cedar"`      // file name to text
	Schema    json.RawMessage   `json:"schema"`     // a string in Cedar's syntax, or Cedar's JSON form
	Entities  json.RawMessage   `json:"entities"`   // Cedar's JSON form
	Quotas    QuotaDoc          `json:"quotas"`
	Tests     TestDoc           `json:"tests"`
}

var (
	hashForm = regexp.MustCompile(`^blake3:[0-9a-f]{64}$`)
	fileForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.cedar$`)
)

// IsHash reports whether s has the form of a payload's hash.
func IsHash(s string) bool { return hashForm.MatchString(s) }

// Hash is the form in which a payload is pinned: "blake3:" and 64 hex digits.
func Hash(payload []byte) string {
	sum := blake3.Sum256(payload)
	return "blake3:" + hex.EncodeToString(sum[:])
}

// Encode writes p in canonical form.
func (p *Doc) Encode() ([]byte, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("policy payload: %w", err)
	}
	out, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("policy payload: %w", err)
	}
	return out, nil
}

// Decode reads a payload and refuses every other encoding of it than the
// canonical one: another order or spacing, unknown or repeated members.
func Decode(b []byte) (*Doc, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("policy payload is over %d bytes", MaxBytes)
	}
	if err := checkJSON(b); err != nil {
		return nil, fmt.Errorf("policy payload: %w", err)
	}
	p := new(Doc)
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("policy payload: %w", err)
	}
	canonical, err := p.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(canonical, b) {
		return nil, errors.New("policy payload is not in its canonical form (RFC 8785)")
	}
	return p, p.check()
}

// check tests the members that need no Cedar.
func (p *Doc) check() error {
	if p.Version < 1 || p.Version > maxInt {
		return fmt.Errorf("policy version must be from 1 to 2^53-1, is %d", p.Version)
	}
	issued, err := ParseTime(p.IssuedAt)
	if err != nil {
		return fmt.Errorf("issued_at: %w", err)
	}
	if p.ExpiresAt != nil {
		expires, err := ParseTime(*p.ExpiresAt)
		if err != nil {
			return fmt.Errorf("expires_at: %w", err)
		}
		if !expires.After(issued) {
			return errors.New("expires_at is not after issued_at")
		}
	}
	if p.Previous != nil && !IsHash(*p.Previous) {
		return errors.New("previous is no hash (blake3:HEX)")
	}
	if p.Cedar == nil {
		return errors.New("cedar is missing")
	}
	if len(p.Cedar) > maxFiles {
		return fmt.Errorf("more than %d policy files", maxFiles)
	}
	for name, text := range p.Cedar {
		if !fileForm.MatchString(name) {
			return fmt.Errorf("policy file name %q is not of the form NAME.cedar", name)
		}
		if err := CheckText(text, PolicyBrackets); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return p.Quotas.check()
}

// ParseTime reads the one accepted form of a time.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.UTC().Format(time.RFC3339) != s {
		return time.Time{}, fmt.Errorf("%q is not a time such as 2026-01-31T12:00:00Z", s)
	}
	return t, nil
}

// checkJSON refuses documents nested too deep for the recursive parsers behind
// it, and numbers that RFC 8785 would change.
func checkJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	depth := 0
	for {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch v := t.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
			if depth > maxNesting {
				return fmt.Errorf("nested more than %d deep", maxNesting)
			}
		case json.Number:
			n, err := strconv.ParseInt(v.String(), 10, 64)
			if err != nil || n > maxInt || n < -maxInt {
				return fmt.Errorf("number %.40s: only integers up to 2^53-1", v)
			}
		}
	}
}

// Brackets that nest in Cedar's two languages. "<" is an operator in the first.
const (
	PolicyBrackets = "([{)]}"
	SchemaBrackets = "([{<)]}>"
)

// CheckText bounds what Cedar's parsers, which recurse, will be given: the
// nesting of brackets and the length of one statement.
func CheckText(text, brackets string) error {
	depth, start := 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '/':
			if i+1 < len(text) && text[i+1] == '/' {
				for i < len(text) && text[i] != '\n' {
					i++
				}
			}
		case ';':
			start = i + 1
		default:
			switch k := strings.IndexByte(brackets, c); {
			case k >= len(brackets)/2:
				depth = max(0, depth-1)
			case k >= 0:
				if depth++; depth > maxNesting {
					return fmt.Errorf("brackets nested more than %d deep", maxNesting)
				}
			}
		}
		if i-start > maxPolicyBytes {
			return fmt.Errorf("a statement is over %d bytes", maxPolicyBytes)
		}
	}
	return nil
}
