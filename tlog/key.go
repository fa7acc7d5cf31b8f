// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"golang.org/x/mod/sumdb/note"
)

// KeyType is how a key signs checkpoints: the signature types of C2SP signed-note
// and tlog-cosignature.
type KeyType byte

const (
	Ed25519    KeyType = 0x01 // a log's, over the note's text
	Ed25519Cos KeyType = 0x04 // a witness's, with a time
	MLDSA44    KeyType = 0x06 // a log's or a witness's, with a time
)

// String names the type.
func (t KeyType) String() string {
	switch t {
	case Ed25519:
		return "Ed25519"
	case Ed25519Cos:
		return "Ed25519 cosignature"
	case MLDSA44:
		return "ML-DSA-44"
	}
	return "type " + strconv.Itoa(int(t))
}

// ErrKey: text or bytes that are no verifier key.
var ErrKey = errors.New("tlog: not a verifier key")

// Key verifies signatures of checkpoints.
type Key struct {
	Name   string
	Type   KeyType
	Public []byte
}

// maxNameBytes bounds the names of keys and so origins: they are signed with a
// length of one byte.
const maxNameBytes = 255

// Check reports what is wrong with the key.
func (k Key) Check() error {
	switch {
	case k.Name == "" || len(k.Name) > maxNameBytes || !utf8.ValidString(k.Name) || strings.ContainsRune(k.Name, '+') ||
		strings.ContainsFunc(k.Name, func(r rune) bool { return unicode.IsSpace(r) || r < ' ' }):
		return fmt.Errorf("%w: name %.40q", ErrKey, k.Name)
	case (k.Type == Ed25519 || k.Type == Ed25519Cos) && len(k.Public) == ed25519.PublicKeySize:
		return nil
	case k.Type == MLDSA44 && len(k.Public) == mldsa44.PublicKeySize:
		return nil
	}
	return fmt.Errorf("%w: %d bytes of %s", ErrKey, len(k.Public), k.Type)
}

// ID is the short name of the key in a signature line.
func (k Key) ID() uint32 {
	h := sha256.New()
	h.Write([]byte(k.Name))
	h.Write([]byte{'\n', byte(k.Type)})
	h.Write(k.Public)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// String is the key in note form, NAME+ID+BASE64.
func (k Key) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.Name, k.ID(), base64.StdEncoding.EncodeToString(append([]byte{byte(k.Type)}, k.Public...)))
}

// ParseKey reads the note form.
func ParseKey(s string) (Key, error) {
	name, rest, ok1 := strings.Cut(strings.TrimSpace(s), "+")
	id, text, ok2 := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if !ok1 || !ok2 || err != nil || len(raw) < 2 {
		return Key{}, fmt.Errorf("%w: not NAME+ID+BASE64", ErrKey)
	}
	k := Key{name, KeyType(raw[0]), raw[1:]}
	if err := k.Check(); err != nil {
		return Key{}, err
	}
	if fmt.Sprintf("%08x", k.ID()) != id {
		return Key{}, fmt.Errorf("%w: its id is not %.20q", ErrKey, id)
	}
	return k, nil
}

func (k Key) same(o Key) bool {
	return k.Name == o.Name && k.Type == o.Type && bytes.Equal(k.Public, o.Public)
}

// Message is what the key signs for a checkpoint with this text, at a time in
// Unix seconds, which plain Ed25519 ignores. The time of a log's own signature
// may be 0: it says nothing about newer trees.
func (k Key) Message(text string, unix uint64) ([]byte, error) {
	switch k.Type {
	case Ed25519:
		return []byte(text), nil
	case Ed25519Cos:
		return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", unix, text), nil
	case MLDSA44:
		c, err := ParseCheckpoint(text)
		if err != nil {
			return nil, err
		}
		if len(c.Origin) > maxNameBytes || len(k.Name) > maxNameBytes {
			return nil, fmt.Errorf("%w: a name beyond %d bytes", ErrCheckpoint, maxNameBytes)
		}
		b := append([]byte("subtree/v1\n\x00"), byte(len(k.Name)))
		b = binary.BigEndian.AppendUint64(append(b, k.Name...), unix)
		b = append(append(b, byte(len(c.Origin))), c.Origin...)
		b = binary.BigEndian.AppendUint64(b, 0)
		b = binary.BigEndian.AppendUint64(b, c.Size)
		return append(b, c.Root[:]...), nil
	}
	return nil, fmt.Errorf("%w: %s", ErrKey, k.Type)
}

// Seal makes a line's signature of the raw one over Message.
func (k Key) Seal(raw []byte, unix uint64) []byte {
	if k.Type == Ed25519 {
		return raw
	}
	return append(binary.BigEndian.AppendUint64(nil, unix), raw...)
}

// Time is when a line's signature was made, in Unix seconds; 0 where it does
// not say.
func (k Key) Time(signature []byte) uint64 {
	if k.Type == Ed25519 || len(signature) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(signature)
}

// Verify reports whether a line's signature holds for the note's text.
func (k Key) Verify(text string, signature []byte) bool {
	if k.Check() != nil {
		return false
	}
	var unix uint64
	if k.Type != Ed25519 {
		if len(signature) < 8 {
			return false
		}
		unix, signature = binary.BigEndian.Uint64(signature), signature[8:]
		if unix > 1<<63-1 {
			return false
		}
	}
	msg, err := k.Message(text, unix)
	if err != nil {
		return false
	}
	if k.Type != MLDSA44 {
		return ed25519.Verify(k.Public, msg, signature)
	}
	var pub mldsa44.PublicKey
	return pub.UnmarshalBinary(k.Public) == nil && mldsa44.Verify(&pub, msg, nil, signature)
}

// verifier fits a Key to notes.
type verifier struct{ k Key }

var _ note.Verifier = verifier{}

func (v verifier) Name() string                { return v.k.Name }
func (v verifier) KeyHash() uint32             { return v.k.ID() }
func (v verifier) Verify(msg, sig []byte) bool { return v.k.Verify(string(msg), sig) }
