// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package receipt makes and reads receipts: what a receiver shows to acknowledge
// what it was given. A receipt names a message and the lease under which it was
// delivered, and carries a tag that only this mailbox can make, over tenant and
// topic too. So nobody can guess a receipt, and one of another topic or tenant
// is as good as none. Whether the lease still holds is the topic's to say.
//
// The form is base64url without padding of
//
//	version (1) | message id (16) | sequence number (8) | lease (8) | tag (16)
//
// numbers big-endian. The tag is the first half of keyed BLAKE3-256 over tenant
// (16), length of the topic's name (1), the name, and all before the tag.
package receipt

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"lukechampine.com/blake3/guts"

	"github.com/rustyonions/macronode/b3/block"
)

// Sizes.
const (
	SecretBytes = 32
	// TextBytes is the length of every receipt.
	TextBytes = (rawBytes*8 + 5) / 6

	version  = 1
	tagBytes = 16
	bodyAt   = 1 + 16 + 8 + 8
	rawBytes = bodyAt + tagBytes
	// maxTopicBytes is what the length of a topic's name has room for.
	maxTopicBytes = 255
)

// Errors of Parse. Both say that this was never a receipt of the topic.
var (
	ErrForm = errors.New("receipt: malformed")
	ErrTag  = errors.New("receipt: not one of this topic")
)

var encoding = base64.RawURLEncoding.Strict()

// Receipt is what a receipt says.
type Receipt struct {
	ID    [16]byte // of the message
	Seq   uint64   // of the message in its topic
	Lease uint64   // fencing token
}

// Maker makes and reads the receipts of one mailbox. It is safe for concurrent use.
type Maker struct {
	key [8]uint32
}

// New returns a Maker with the mailbox's secret.
func New(secret [SecretBytes]byte) *Maker {
	m := &Maker{}
	for i := range m.key {
		m.key[i] = binary.LittleEndian.Uint32(secret[4*i:])
	}
	return m
}

// tag is of one chunk: what it hashes is never longer.
func (m *Maker) tag(tenant [16]byte, topic string, body []byte) (tag [tagBytes]byte) {
	var buf [16 + 1 + maxTopicBytes + bodyAt]byte
	b := append(buf[:0], tenant[:]...)
	b = append(b, byte(min(len(topic), maxTopicBytes)))
	b = append(b, topic...)
	b = append(b, body...)
	sum := block.Sum(&m.key, guts.FlagKeyedHash, b)
	for i := range tagBytes / 4 {
		binary.LittleEndian.PutUint32(tag[4*i:], sum[i])
	}
	return tag
}

// Append appends the receipt of r in a topic of a tenant. The name is at most 255
// bytes long.
func (m *Maker) Append(b []byte, tenant [16]byte, topic string, r Receipt) []byte {
	var raw [rawBytes]byte
	raw[0] = version
	copy(raw[1:], r.ID[:])
	binary.BigEndian.PutUint64(raw[17:], r.Seq)
	binary.BigEndian.PutUint64(raw[25:], r.Lease)
	tag := m.tag(tenant, topic, raw[:bodyAt])
	copy(raw[bodyAt:], tag[:])
	return encoding.AppendEncode(b, raw[:])
}

// Make is Append to nothing.
func (m *Maker) Make(tenant [16]byte, topic string, r Receipt) string {
	var text [TextBytes]byte
	return string(m.Append(text[:0], tenant, topic, r))
}

// Parse reads a receipt that Make made for this topic of this tenant. ErrForm:
// not a receipt at all. ErrTag: one of something else, or forged; which, it does
// not tell.
func (m *Maker) Parse(tenant [16]byte, topic, text string) (Receipt, error) {
	if len(text) != TextBytes {
		return Receipt{}, ErrForm
	}
	var raw [rawBytes]byte
	var given [TextBytes]byte
	copy(given[:], text)
	if _, err := encoding.Decode(raw[:], given[:]); err != nil || raw[0] != version {
		return Receipt{}, ErrForm
	}
	tag := m.tag(tenant, topic, raw[:bodyAt])
	if subtle.ConstantTimeCompare(tag[:], raw[bodyAt:]) != 1 {
		return Receipt{}, ErrTag
	}
	r := Receipt{Seq: binary.BigEndian.Uint64(raw[17:]), Lease: binary.BigEndian.Uint64(raw[25:])}
	copy(r.ID[:], raw[1:])
	return r, nil
}
