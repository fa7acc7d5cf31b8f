// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package shares splits a root secret into n shares of which any m give it back,
// and fewer say nothing about it (Shamir, over the scalars of Ristretto255). The
// splitting commits to its polynomial (Feldman), so that each share is judged on
// its own when it comes: a wrong one is refused and named, instead of spoiling
// the whole.
package shares

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
	"github.com/rustyonions/macronode/internal/svc/kms/primitive"
)

// Limits of a set.
const (
	MinThreshold = 2
	MaxShares    = 32
	// MaxShareBytes bounds the text of one share, comments included.
	MaxShareBytes = 4096
	// MaxSetBytes bounds the text of a set.
	MaxSetBytes = 16 << 10
)

const (
	scalarBytes  = 32
	elementBytes = 32
	idBytes      = 16
	checkBytes   = 4
	rawBytes     = idBytes + 3 + scalarBytes

	prefix      = "ronshare1_"
	contextRoot = "macronode root by shares v1"
	setDomain   = "macronode/shares/v1\x00"
)

// Errors about shares. None tells anything of a share's content.
var (
	ErrSet       = errors.New("not a set of shares of this format")
	ErrShare     = errors.New("not a share: its text is cut, mistyped or of something else")
	ErrForeign   = errors.New("this share is of another set: of another keystore, or of an older splitting")
	ErrWrong     = errors.New("this share is wrong: it does not lie on the polynomial that the set commits to")
	ErrDuplicate = errors.New("this share was handed over already")
	ErrCounts    = fmt.Errorf("shares are %d to %d, and the threshold %d to their number", MinThreshold, MaxShares, MinThreshold)
)

// Set is what is public of a splitting. Its id is a hash of the rest.
type Set struct {
	Threshold  int // how many shares are needed
	Shares     int // how many there are
	commitment [][]byte
}

// document is a Set as it is written.
type document struct {
	V          int      `json:"v"` // 1
	Set        string   `json:"set"`
	Threshold  int      `json:"threshold"`
	Shares     int      `json:"shares"`
	Commitment [][]byte `json:"commitment"`
}

// ID names the set.
func (s *Set) ID() string { id := s.id(); return hex.EncodeToString(id[:]) }

func (s *Set) id() (id [idBytes]byte) {
	h := blake3.New(idBytes, nil)
	_, _ = h.Write([]byte(setDomain)) // a hash's Write does not fail
	_, _ = h.Write([]byte{byte(s.Threshold), byte(s.Shares)})
	for _, c := range s.commitment {
		_, _ = h.Write(c)
	}
	copy(id[:], h.Sum(nil))
	return id
}

// Encode is the set's text: JSON, a line. It holds no secret.
func (s *Set) Encode() ([]byte, error) {
	b, err := json.Marshal(document{1, s.ID(), s.Threshold, s.Shares, s.commitment})
	return append(b, '\n'), err
}

// ParseSet reads what Encode wrote; ErrSet.
func ParseSet(text []byte) (*Set, error) {
	if len(text) > MaxSetBytes {
		return nil, ErrSet
	}
	var d document
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, ErrSet
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, ErrSet
	}
	s := &Set{d.Threshold, d.Shares, d.Commitment}
	if d.V != 1 || !counts(s.Threshold, s.Shares) || len(s.commitment) != s.Threshold {
		return nil, ErrSet
	}
	if _, err := s.elements(); err != nil || s.ID() != d.Set {
		return nil, ErrSet
	}
	return s, nil
}

func counts(threshold, n int) bool {
	return threshold >= MinThreshold && threshold <= n && n <= MaxShares
}

func (s *Set) elements() (secretsharing.SecretCommitment, error) {
	out := make(secretsharing.SecretCommitment, len(s.commitment))
	for i, b := range s.commitment {
		out[i] = group.Ristretto255.NewElement()
		if len(b) != elementBytes || out[i].UnmarshalBinary(b) != nil {
			return nil, ErrSet
		}
	}
	return out, nil
}

// Split makes a new random root secret, 32 bytes in locked memory, and n shares
// of it, of which any threshold give it back. The shares are their texts, lines
// with a comment before them; they are secrets, and the caller's to wipe.
func Split(a *locked.Arena, n, threshold int) (*Set, *locked.Secret, [][]byte, error) {
	if !counts(threshold, n) {
		return nil, nil, nil, ErrCounts
	}
	g := group.Ristretto255
	secret := g.RandomNonZeroScalar(rand.Reader)
	defer locked.Erase(secret)
	sharing := secretsharing.New(rand.Reader, uint(threshold-1), secret)
	set := &Set{Threshold: threshold, Shares: n}
	for _, e := range sharing.CommitSecret() {
		b, err := e.MarshalBinaryCompress()
		if err != nil {
			return nil, nil, nil, err
		}
		set.commitment = append(set.commitment, b)
	}
	root, err := rootOf(a, secret)
	if err != nil {
		return nil, nil, nil, err
	}
	var texts [][]byte
	for i, sh := range sharing.Share(uint(n)) {
		text, err := set.encode(i+1, sh.Value)
		locked.Erase(sh.Value)
		if err != nil {
			root.Wipe()
			return nil, nil, nil, err
		}
		texts = append(texts, text)
	}
	return set, root, texts, nil
}

// rootOf is the root secret of a scalar.
func rootOf(a *locked.Arena, secret group.Scalar) (*locked.Secret, error) {
	b, err := secret.MarshalBinary()
	if err != nil {
		return nil, err
	}
	defer clear(b)
	root := a.Make(primitive.SeedBytes)
	primitive.Derive(root.Bytes(), contextRoot, b)
	return root, nil
}

// encode is the text of a share: comments, then one line, "ronshare1_" and the
// base64url without padding of set id (16 bytes), threshold, number of shares and
// index (a byte each), scalar (32), and the first 4 bytes of the BLAKE3 of those.
func (s *Set) encode(index int, value group.Scalar) ([]byte, error) {
	scalar, err := value.MarshalBinary()
	if err != nil {
		return nil, err
	}
	defer clear(scalar)
	id := s.id()
	raw := make([]byte, 0, rawBytes+checkBytes)
	defer func() { clear(raw[:cap(raw)]) }()
	raw = append(raw, id[:]...)
	raw = append(raw, byte(s.Threshold), byte(s.Shares), byte(index))
	raw = append(raw, scalar...)
	sum := blake3.Sum256(raw)
	raw = append(raw, sum[:checkBytes]...)
	head := fmt.Sprintf("# Share %d of %d of the root of a macronode keystore; any %d open it. Set %s.\n"+
		"# Who has %d of them and a copy of the keystore has every key in it: keep them apart.\n"+
		"# Hand it over with: macronode kms unseal --data DIR < this file\n%s",
		index, s.Shares, s.Threshold, s.ID(), s.Threshold, prefix)
	text := append(make([]byte, 0, len(head)+base64.RawURLEncoding.EncodedLen(len(raw))+1), head...)
	return append(base64.RawURLEncoding.AppendEncode(text, raw), '\n'), nil
}

// decode reads the text of a share of s. The scalar is the caller's to erase.
func (s *Set) decode(text []byte) (index int, value group.Scalar, err error) {
	if len(text) > MaxShareBytes {
		return 0, nil, ErrShare
	}
	line, ok := bytes.CutPrefix(lastLine(text), []byte(prefix))
	if !ok {
		return 0, nil, ErrShare
	}
	raw := make([]byte, base64.RawURLEncoding.DecodedLen(len(line)))
	defer clear(raw)
	n, err := base64.RawURLEncoding.Strict().Decode(raw, line)
	if err != nil || n != rawBytes+checkBytes {
		return 0, nil, ErrShare
	}
	sum := blake3.Sum256(raw[:rawBytes])
	if !bytes.Equal(sum[:checkBytes], raw[rawBytes:]) {
		return 0, nil, ErrShare
	}
	id := s.id()
	if !bytes.Equal(raw[:idBytes], id[:]) {
		return 0, nil, ErrForeign
	}
	threshold, count, at := int(raw[idBytes]), int(raw[idBytes+1]), int(raw[idBytes+2])
	if threshold != s.Threshold || count != s.Shares || at < 1 || at > s.Shares {
		return 0, nil, ErrWrong
	}
	value = group.Ristretto255.NewScalar()
	if value.UnmarshalBinary(raw[idBytes+3:rawBytes]) != nil {
		return 0, nil, ErrWrong
	}
	return at, value, nil
}

// lastLine is the last line that is neither empty nor a comment.
func lastLine(text []byte) (last []byte) {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			last = line
		}
	}
	return last
}
