// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
)

// Limits. All are checked before a document is decoded, or as soon as its parts are
// known.
const (
	MaxDescriptorBytes = 160 << 10 // a set of 32 hybrid signers has about 90 KiB
	MaxProposalBytes   = 256 << 10
	MaxEntryBytes      = 512 << 10
	MaxChanges         = 64   // of a proposal
	MaxDescriptors     = 4096 // of a registry
	MaxSigners         = 32
	MaxRevoked         = 4096 // node ids
	MaxRetired         = 4096 // keys that were signers'
	MaxSize            = 1 << 20
	MaxLabels          = 16
	MaxTextBytes       = 256 // a label's value, a title
	MaxReasonBytes     = 1024
	MaxLifeMS          = 30 * 24 * 3600 * 1000 // of a proposal

	// MaxSignaturesBytes bounds the JSON of signatures that come together.
	MaxSignaturesBytes = 320 << 10

	format     = 1
	nonceBytes = 16
)

// ErrMalformed says that bytes are not a document of the registry in its one form.
var ErrMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// encode is the canonical JSON of a document.
func encode(doc any) ([]byte, error) {
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return bundle.CanonicalJSON(text)
}

// decode reads a document of at most limit bytes and returns its canonical form,
// which is the same as that of doc: nothing in text was passed over.
func decode(text []byte, limit int, what string, doc any) ([]byte, error) {
	if len(text) > limit {
		return nil, malformed("%s of %d bytes, at most %d are accepted", what, len(text), limit)
	}
	canonical, err := bundle.CanonicalJSON(text)
	if err != nil {
		return nil, malformed("%s: %v", what, err)
	}
	dec := json.NewDecoder(bytes.NewReader(canonical))
	dec.DisallowUnknownFields()
	if err := dec.Decode(doc); err != nil {
		return nil, malformed("%s: %s", what, plain(err))
	}
	again, err := encode(doc)
	if err != nil || !bytes.Equal(again, canonical) {
		return nil, malformed("%s: a member says nothing, stands twice or is written in another form than the one accepted", what)
	}
	return canonical, nil
}

// plain says what is wrong without repeating what was sent.
func plain(err error) string {
	if bad, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("%s must not be a JSON %s", bad.Field, bad.Value)
	}
	return "it is not of its form, or has unknown members"
}

// ValidName reports whether s can name a descriptor: 1 to 64 of a-z, 0-9, ".", "_"
// and "-", the first a letter or digit.
func ValidName(s string) bool { return bundle.ValidName(s) }

// text refuses what is too long, is not UTF-8 or would not stand on one line.
func text(what, s string, most int) error {
	if len(s) > most {
		return malformed("%s has %d bytes, at most %d are accepted", what, len(s), most)
	}
	if !utf8.ValidString(s) {
		return malformed("%s is not UTF-8", what)
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return malformed("%s has control characters", what)
		}
	}
	return nil
}

// addr reads an address that must be there.
func addr(what, s string) (b3.Addr, error) {
	a, err := b3.Parse(s)
	if err != nil {
		return a, malformed("%s is b3: and 64 lower-case hex digits", what)
	}
	return a, nil
}
