// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
)

// Entry is one link of the chain: a proposal that was committed.
type Entry struct {
	V int `json:"v"` // 1
	// Seq is the entry's place, from 0.
	Seq uint64 `json:"seq"`
	// Prev is the hash of the entry before; of the first one 64 zeros.
	Prev string `json:"prev"`
	// TSMS is when the writer committed it, in unix milliseconds; it never goes back.
	TSMS     int64    `json:"ts_ms"`
	Proposal Proposal `json:"proposal"`
	// Signatures are those that count, in the order of their key ids; none of the
	// first entry.
	Signatures []Signature `json:"signatures"`
	// State is the root of the state after the entry; see State.Root.
	State string `json:"state"`
}

// ParseEntry reads an entry in its canonical form. Errors wrap ErrMalformed.
func ParseEntry(text []byte) (*Entry, error) {
	var e Entry
	canonical, err := decode(text, MaxEntryBytes, "entry", &e)
	if err != nil {
		return nil, err
	}
	if string(canonical) != string(text) {
		return nil, malformed("entry: its JSON is not canonical")
	}
	if err := e.validate(); err != nil {
		return nil, err
	}
	return &e, nil
}

// Encode is the entry's canonical JSON, whose hash is its own.
func (e *Entry) Encode() ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	b, err := encode(e)
	if err == nil && len(b) > MaxEntryBytes {
		err = malformed("entry of %d bytes, at most %d are accepted", len(b), MaxEntryBytes)
	}
	return b, err
}

// Hash is the entry's hash.
func (e *Entry) Hash() (b3.Addr, error) {
	b, err := e.Encode()
	if err != nil {
		return b3.Addr{}, err
	}
	return b3.Sum(b), nil
}

func (e *Entry) validate() error {
	switch {
	case e.V != format:
		return malformed("entry: format %d, this version reads %d", e.V, format)
	case e.Seq >= MaxSize:
		return malformed("entry: a chain has at most %d entries", MaxSize)
	case e.TSMS < 0 || e.TSMS > bundle.MaxInteger:
		return malformed("entry: its time is out of range")
	case e.Signatures == nil:
		return malformed("entry: it has a list of signatures")
	case (e.Seq == 0) != (e.Proposal.Registry == ""):
		return malformed("entry: the first proposal names no registry, and all others do")
	}
	if _, err := addr("prev", e.Prev); err != nil {
		return err
	}
	if _, err := addr("state", e.State); err != nil {
		return err
	}
	if err := checkSignatures(e.Signatures); err != nil {
		return err
	}
	return e.Proposal.Validate()
}

// Genesis makes the first entry of a new registry: the set of signers and, where
// there are any, further descriptors. Its hash is the registry's id. nonce tells it
// from others that say the same.
func Genesis(nonce [nonceBytes]byte, tsMS int64, title string, first []Descriptor) (*Entry, error) {
	e := &Entry{V: format, Prev: b3.Addr{}.String(), TSMS: tsMS, Signatures: []Signature{}, State: b3.Addr{}.String(),
		Proposal: Proposal{V: format, Nonce: hexOf(nonce), Title: title, CreatedMS: tsMS, ExpiresMS: tsMS + MaxLifeMS}}
	for i := range first {
		e.Proposal.Changes = append(e.Proposal.Changes, Change{Op: OpPut, Descriptor: &first[i]})
	}
	s := &State{}
	next, err := s.apply(e)
	if err != nil {
		return nil, err
	}
	e.State = next.Root().String()
	return e, nil
}
