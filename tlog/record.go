// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package tlog is what an auditor needs to read a node's audit log offline:
// the record, its one canonical form, and the hash chain that links the records
// of a stream.
//
// A record is RFC 8785 JSON without floats, at most MaxRecordBytes long. Its
// hash is the BLAKE3 of that JSON without the hash member; its prev is the hash
// of the record before it in the same stream. The bytes of an entry are the
// canonical JSON of the full record, so two programs that agree on a record
// agree on every byte, and an entry that is not canonical is no entry.
package tlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

const (
	// Version is the record format written, and the only one read.
	Version = 1
	// MaxRecordBytes bounds an entry.
	MaxRecordBytes = macronode.MaxAuditRecordBytes
	// MaxInteger is the largest magnitude of an integer, 2^53-1: what every
	// JSON reader keeps exactly.
	MaxInteger = 1<<53 - 1
)

// Errors of this package; they are wrapped with what exactly is wrong.
var (
	ErrTooLarge = errors.New("tlog: the record is larger than 4096 bytes")
	ErrInvalid  = errors.New("tlog: not a valid record")
	// ErrCanonical: the bytes hold a record, but are not its canonical form.
	ErrCanonical = errors.New("tlog: not canonical")
	// ErrHash: the record does not match its own hash.
	ErrHash = errors.New("tlog: the hash does not match")
	// ErrChain: the record does not follow the one before it.
	ErrChain = errors.New("tlog: the chain is broken")
)

// Genesis is the prev of a stream's first record: 64 zeros.
var Genesis b3.Addr

// Record is one thing that happened. Text is valid UTF-8.
type Record struct {
	V       uint64  `json:"v"`
	TSMilli int64   `json:"ts_ms"`  // unix milliseconds, UTC
	Writer  string  `json:"writer"` // node_id
	Seq     uint64  `json:"seq"`    // index in the writer's log
	Stream  string  `json:"stream"`
	Kind    string  `json:"kind"`
	Actor   string  `json:"actor"`
	Subject string  `json:"subject"`
	Reason  string  `json:"reason"`
	Attrs   Attrs   `json:"attrs"`
	Prev    b3.Addr `json:"prev"`
	Hash    b3.Addr `json:"hash"`
}

// Attrs are further facts: text to text or int64. Nil and empty are the same.
type Attrs map[string]any

// UnmarshalJSON reads texts and integers and nothing else.
func (a *Attrs) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return err
	}
	for k, v := range m {
		switch v := v.(type) {
		case string:
		case json.Number:
			n, err := strconv.ParseInt(v.String(), 10, 64)
			if err != nil {
				return fmt.Errorf("attribute %q is no integer", k)
			}
			m[k] = n
		default:
			return fmt.Errorf("attribute %q is neither text nor integer", k)
		}
	}
	*a = m
	return nil
}

// Seal links r to the record before it, computes its hash, and returns the
// entry. It fails with ErrTooLarge or ErrInvalid, and r must then not be used.
func (r *Record) Seal(prev b3.Addr) ([]byte, error) {
	r.Prev = prev
	head, tail, err := r.parts(nil)
	if err != nil {
		return nil, err
	}
	r.Hash = hash(head, tail)
	return r.join(head, tail), nil
}

// Entry returns the canonical JSON of r as it is, hash included.
func (r *Record) Entry() ([]byte, error) {
	head, tail, err := r.parts(nil)
	if err != nil {
		return nil, err
	}
	return r.join(head, tail), nil
}

// Check reports whether the record's hash is its own.
func (r *Record) Check() error {
	head, tail, err := r.parts(nil)
	if err != nil {
		return err
	}
	if hash(head, tail) != r.Hash {
		return fmt.Errorf("%w: seq %d of stream %q", ErrHash, r.Seq, r.Stream)
	}
	return nil
}

// Parse reads an entry: canonical bytes, a hash that matches, no member missing
// or unknown. It does not look at the chain.
func Parse(entry []byte) (*Record, error) {
	if len(entry) > MaxRecordBytes {
		return nil, ErrTooLarge
	}
	if r, ok := scan(entry); ok {
		return r, nil
	}
	return parse(entry)
}

// parse is Parse for what scan does not take, to say what is wrong with it.
func parse(entry []byte) (*Record, error) {
	d := json.NewDecoder(bytes.NewReader(entry))
	d.DisallowUnknownFields()
	var r Record
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: bytes after the record", ErrInvalid)
	}
	head, tail, err := r.parts(make([]byte, 0, len(entry)))
	if err != nil {
		return nil, err
	}
	// Writing the record again gives the same bytes only where every member
	// was there once, in order and in canonical form.
	if !bytes.Equal(r.join(head, tail), entry) {
		return nil, ErrCanonical
	}
	if hash(head, tail) != r.Hash {
		return nil, fmt.Errorf("%w: seq %d of stream %q", ErrHash, r.Seq, r.Stream)
	}
	return &r, nil
}

// parts returns the canonical JSON before and after the hash member. Members
// are in the order of their names: actor, attrs, [hash,] kind, prev, reason,
// seq, stream, subject, ts_ms, v, writer.
func (r *Record) parts(buf []byte) (head, tail []byte, err error) {
	if r.V != Version {
		return nil, nil, fmt.Errorf("%w: version %d", ErrInvalid, r.V)
	}
	if r.Seq > MaxInteger || !safe(r.TSMilli) {
		return nil, nil, fmt.Errorf("%w: an integer beyond 2^53-1", ErrInvalid)
	}
	e := encoder{b: buf}
	e.raw(`{"actor":`)
	e.text(r.Actor)
	e.raw(`,"attrs":`)
	e.attrs(r.Attrs)
	e.raw(`,`)
	cut := len(e.b)
	e.raw(`"kind":`)
	e.text(r.Kind)
	e.raw(`,"prev":`)
	e.text(r.Prev.String())
	e.raw(`,"reason":`)
	e.text(r.Reason)
	e.raw(`,"seq":`)
	e.b = strconv.AppendUint(e.b, r.Seq, 10)
	e.raw(`,"stream":`)
	e.text(r.Stream)
	e.raw(`,"subject":`)
	e.text(r.Subject)
	e.raw(`,"ts_ms":`)
	e.b = strconv.AppendInt(e.b, r.TSMilli, 10)
	e.raw(`,"v":`)
	e.b = strconv.AppendUint(e.b, r.V, 10)
	e.raw(`,"writer":`)
	e.text(r.Writer)
	e.raw(`}`)
	if e.err != nil {
		return nil, nil, e.err
	}
	if n := len(e.b) + hashMember; n > MaxRecordBytes {
		return nil, nil, fmt.Errorf("%w: %d", ErrTooLarge, n)
	}
	return e.b[:cut], e.b[cut:], nil
}

// hash is of the record without its hash member. head and tail are adjacent in
// memory: that is exactly the JSON without the member.
func hash(head, tail []byte) b3.Addr { return blake3.Sum256(head[:len(head)+len(tail)]) }

const (
	hashOpen, hashShut = `"hash":"`, `",`
	hashMember         = len(hashOpen) + b3.TextLen + len(hashShut)
)

func (r *Record) join(head, tail []byte) []byte {
	out := make([]byte, 0, len(head)+hashMember+len(tail))
	out = append(append(append(out, head...), hashOpen...), r.Hash.String()...)
	return append(append(out, hashShut...), tail...)
}

func safe(n int64) bool { return n <= MaxInteger && n >= -MaxInteger }

// encoder writes RFC 8785 JSON. It stops growing soon after the record limit.
type encoder struct {
	b   []byte
	err error
}

func (e *encoder) raw(s string) { e.b = append(e.b, s...) }

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
}

const hexDigits = "0123456789abcdef"

// text writes s with the only escapes that RFC 8785 has.
func (e *encoder) text(s string) {
	switch {
	case e.err != nil:
		return
	case len(s)+len(e.b) > MaxRecordBytes:
		e.err = ErrTooLarge
		return
	case !utf8.ValidString(s):
		e.fail("text is not UTF-8")
		return
	}
	e.b = append(e.b, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			e.b = append(e.b, '\\', c)
		case '\b':
			e.raw(`\b`)
		case '\t':
			e.raw(`\t`)
		case '\n':
			e.raw(`\n`)
		case '\f':
			e.raw(`\f`)
		case '\r':
			e.raw(`\r`)
		default:
			if c < ' ' {
				e.raw(`\u00`)
				e.b = append(e.b, hexDigits[c>>4], hexDigits[c&15])
			} else {
				e.b = append(e.b, c)
			}
		}
	}
	e.b = append(e.b, '"')
}

// attrs writes the map with its keys in the order of their UTF-16 code units.
func (e *encoder) attrs(m Attrs) {
	if len(m) > MaxRecordBytes/len(`"":0,`) {
		e.err = ErrTooLarge
		return
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareUTF16)
	e.b = append(e.b, '{')
	for i, k := range keys {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.text(k)
		e.b = append(e.b, ':')
		switch v := m[k].(type) {
		case string:
			e.text(v)
		case int64:
			e.integer(k, v)
		case int:
			e.integer(k, int64(v))
		case uint64:
			e.integer(k, int64(min(v, math.MaxInt64)))
		default:
			e.fail("attribute %q is neither text nor integer", k)
		}
	}
	e.b = append(e.b, '}')
}

func (e *encoder) integer(key string, n int64) {
	if !safe(n) {
		e.fail("attribute %q is beyond 2^53-1", key)
		return
	}
	e.b = strconv.AppendInt(e.b, n, 10)
}

// compareUTF16 orders as RFC 8785 does. It differs from byte order only where
// a character beyond the basic plane meets one of U+E000 to U+FFFF.
func compareUTF16(a, b string) int {
	for a != "" && b != "" {
		ra, na := utf8.DecodeRuneInString(a)
		rb, nb := utf8.DecodeRuneInString(b)
		if ra != rb {
			if ua, ub := unit(ra), unit(rb); ua != ub {
				return int(ua - ub)
			}
			return int(ra - rb) // both beyond the basic plane, first units equal
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) - len(b)
}

// unit is the first UTF-16 code unit of r.
func unit(r rune) rune {
	if r < 0x10000 {
		return r
	}
	hi, _ := utf16.EncodeRune(r)
	return hi
}
