// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/locked"
	"github.com/rustyonions/macronode/internal/svc/kms/primitive"
)

const (
	magic         = "RONKSTOR"
	formatVersion = 1

	kindRoot     = 1
	kindManifest = 2
	kindRecord   = 3

	suiteXChaCha = 1
	suiteAge     = 2

	idBytes      = 16
	sumBytes     = 32
	maxNameBytes = 128
	fixedBytes   = len(magic) + 3 + idBytes + 8 + 2
	overhead     = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

	// maxEnvelopeBytes bounds any file of the store.
	maxEnvelopeBytes int64 = maxManifestBytes + 1024
)

// errDamaged says that bytes are not an envelope this package wrote whole.
var errDamaged = errors.New("damaged")

// errSeal says that an envelope is whole, but not sealed by this key.
var errSeal = errors.New("the seal does not open")

// header is what an envelope says in the clear and binds.
type header struct {
	kind, suite uint8
	id          [idBytes]byte
	generation  uint64
	name        string
}

// bytes is the encoded header: the associated data of the body.
func (h *header) bytes() []byte {
	b := make([]byte, 0, fixedBytes+len(h.name))
	b = append(b, magic...)
	b = append(b, formatVersion, h.kind, h.suite)
	b = append(b, h.id[:]...)
	b = binary.BigEndian.AppendUint64(b, h.generation)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.name)))
	return append(b, h.name...)
}

// envelope joins a header and its body.
func envelope(h *header, body []byte) []byte {
	b := h.bytes()
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, body...)
	sum := blake3.Sum256(b)
	return append(b, sum[:]...)
}

// errNewer says that a newer program wrote the store.
var errNewer = errors.New("keystore: its format is newer than this program knows")

// parseEnvelope takes an envelope apart; the body is a part of b. Errors wrap
// errDamaged, or are errNewer.
func parseEnvelope(b []byte) (header, []byte, error) {
	var h header
	fail := func(why string) (header, []byte, error) {
		return header{}, nil, fmt.Errorf("%w: %s", errDamaged, why)
	}
	if len(b) < fixedBytes+4+sumBytes || int64(len(b)) > maxEnvelopeBytes {
		return fail("wrong length")
	}
	if string(b[:len(magic)]) != magic {
		return fail("not a keystore file")
	}
	sum := blake3.Sum256(b[:len(b)-sumBytes])
	if !bytes.Equal(sum[:], b[len(b)-sumBytes:]) {
		return fail("its checksum does not match")
	}
	b = b[:len(b)-sumBytes]
	p := b[len(magic):]
	if p[0] > formatVersion {
		return header{}, nil, errNewer
	}
	if p[0] != formatVersion {
		return fail("unknown format")
	}
	h.kind, h.suite = p[1], p[2]
	copy(h.id[:], p[3:])
	p = p[3+idBytes:]
	h.generation = binary.BigEndian.Uint64(p)
	n := int(binary.BigEndian.Uint16(p[8:]))
	p = p[10:]
	if n > maxNameBytes || len(p) < n+4 {
		return fail("wrong length")
	}
	h.name = string(p[:n])
	p = p[n:]
	if uint64(binary.BigEndian.Uint32(p)) != uint64(len(p)-4) {
		return fail("wrong length")
	}
	return h, p[4:], nil
}

// seal encrypts plain under key and returns the whole envelope.
func seal(key []byte, h *header, plain []byte) ([]byte, error) {
	body, err := sealBody(key, h.bytes(), plain)
	if err != nil {
		return nil, err
	}
	return envelope(h, body), nil
}

func sealBody(key, ad, plain []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	defer locked.Erase(aead)
	body := make([]byte, chacha20poly1305.NonceSizeX, overhead+len(plain))
	if _, err := rand.Read(body); err != nil {
		return nil, err
	}
	locked.Scrub(func() { body = aead.Seal(body, body, plain, ad) })
	return body, nil
}

// openBody decrypts body into the arena; nil where the plain text is empty. The
// error is errSeal.
func openBody(a *locked.Arena, key, ad, body []byte) (*locked.Secret, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	defer locked.Erase(aead)
	if len(body) <= overhead || len(body) > locked.MaxBytes {
		return nil, errSeal
	}
	s := a.Make(len(body) - overhead)
	nonce, ct := body[:chacha20poly1305.NonceSizeX], body[chacha20poly1305.NonceSizeX:]
	locked.Scrub(func() { _, err = aead.Open(s.Bytes()[:0], nonce, ct, ad) })
	if err != nil {
		s.Wipe()
		return nil, errSeal
	}
	return s, nil
}

// subkey derives the key for one use from the data key.
func subkey(a *locked.Arena, context string, dataKey *locked.Secret) *locked.Secret {
	s := a.Make(keyBytes)
	primitive.Derive(s.Bytes(), context, dataKey.Bytes())
	return s
}

var _ kms.Vault = (*Store)(nil)
