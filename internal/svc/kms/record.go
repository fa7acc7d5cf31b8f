// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
	"github.com/rustyonions/macronode/internal/svc/kms/primitive"
)

const (
	recordFormat = 1
	// MaxKeyVersions bounds how often one key can be rotated.
	MaxKeyVersions = 1024

	recordHead   = 1 + 1 + 1 + 2
	versionHead  = 8 + 8 + replayBytes + 2
	objectHead   = 1 + 8
	maxSeedBytes = 2 * primitive.SeedBytes
	replayBytes  = 32
)

// errRecord says that a record is not one that encodeKey or encodeObject made.
var errRecord = errors.New("its content is not well-formed")

// rawVersion is one version of a key as it stands in a record. Its secret is a
// part of the record's plain text.
type rawVersion struct {
	version uint64
	created time.Time
	// replay names the request that made the version; zero: none.
	replay [replayBytes]byte
	secret []byte
}

// encodeKey writes a key's record into the arena, integers big-endian:
//
//	format u8 = 1 | algorithm u8 | purpose u8 | versions u16 | per version:
//	number u64, created u64 (unix ms), replay 32 bytes, length u16, secret
//
// The secret is the 32-byte seed (Ed25519, ML-DSA), scalar (P-256) or key; a
// hybrid's are joined, Ed25519 first. Versions ascend.
func encodeKey(a *locked.Arena, alg Algorithm, p Purpose, versions []rawVersion) *locked.Secret {
	n := recordHead
	for i := range versions {
		n += versionHead + len(versions[i].secret)
	}
	s := a.Make(n)
	b := append(s.Bytes()[:0], recordFormat, algorithms[alg].id, purposeIDs[p])
	b = binary.BigEndian.AppendUint16(b, uint16(len(versions)))
	for i := range versions {
		v := &versions[i]
		b = binary.BigEndian.AppendUint64(b, v.version)
		b = binary.BigEndian.AppendUint64(b, uint64(v.created.UnixMilli()))
		b = append(b, v.replay[:]...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(v.secret)))
		b = append(b, v.secret...)
	}
	return s
}

// decodeKey accepts only what encodeKey writes. Secrets are parts of b.
func decodeKey(b []byte) (Algorithm, Purpose, []rawVersion, error) {
	fail := func() (Algorithm, Purpose, []rawVersion, error) { return "", "", nil, errRecord }
	if len(b) < recordHead || b[0] != recordFormat {
		return fail()
	}
	alg, okA := algByID(b[1])
	purpose, okP := purposeByID(b[2])
	n := int(binary.BigEndian.Uint16(b[3:]))
	if !okA || !okP || !alg.Suits(purpose) || n == 0 || n > MaxKeyVersions {
		return fail()
	}
	want := primitive.SeedBytes * len(algorithms[alg].components)
	b = b[recordHead:]
	if len(b) != n*(versionHead+want) {
		return fail()
	}
	out := make([]rawVersion, n)
	last := uint64(0)
	for i := range out {
		v := &out[i]
		v.version = binary.BigEndian.Uint64(b)
		ms := binary.BigEndian.Uint64(b[8:])
		copy(v.replay[:], b[16:])
		if int(binary.BigEndian.Uint16(b[versionHead-2:])) != want || v.version <= last || v.version > MaxVersion || ms > MaxVersion {
			return fail()
		}
		v.created = time.UnixMilli(int64(ms)).UTC()
		v.secret = b[versionHead : versionHead+want]
		b = b[versionHead+want:]
		last = v.version
	}
	return alg, purpose, out, nil
}

// MaxVersion bounds versions and times: the largest integer JSON keeps exactly.
const MaxVersion = 1<<53 - 1

// encodeObject writes an object version's record: format u8 = 1, created u64
// (unix ms), then the bytes.
func encodeObject(a *locked.Arena, created time.Time, data []byte) *locked.Secret {
	s := a.Make(objectHead + len(data))
	b := append(s.Bytes()[:0], recordFormat)
	b = binary.BigEndian.AppendUint64(b, uint64(created.UnixMilli()))
	_ = append(b, data...)
	return s
}

// decodeObject returns parts of b.
func decodeObject(b []byte) (time.Time, []byte, error) {
	if len(b) < objectHead || b[0] != recordFormat {
		return time.Time{}, nil, errRecord
	}
	ms := binary.BigEndian.Uint64(b[1:])
	if ms > MaxVersion {
		return time.Time{}, nil, errRecord
	}
	return time.UnixMilli(int64(ms)).UTC(), b[objectHead:], nil
}
