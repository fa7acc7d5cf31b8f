// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/config/document"
)

// Limits on the two files of a bundle. A reader need not read further than one
// byte past them.
const (
	MaxTextBytes      = document.MaxTextBytes
	MaxSignatureBytes = 1 << 20
)

// Options is what the node knows when it judges a bundle.
type Options struct {
	// Trust is DIR/trust.json. A nil Trust trusts nobody.
	Trust *bundle.Trust
	// Applied is the last bundle that this node applied; zero on a new node.
	Applied Applied
	// AllowRollback is "VERSION@HASH" of one bundle that may be applied although
	// its version is not above the last applied one; "" for none.
	AllowRollback string
	// Features says what the binary was built with.
	Features Features
}

// Loaded is a bundle that was accepted.
type Loaded struct {
	Config  Config
	File    string        // as it was given to Load
	Version uint64        // meta.version
	Hash    bundle.Digest // meta.bundle_hash, equal to the document's
	// Signers are the anchors whose signatures verified; nil from [Check].
	Signers []bundle.Signed
	// RolledBack says that only AllowRollback let the bundle in, which is audited.
	RolledBack bool
	// Origins says where each value comes from, by path; see [Loaded.Values].
	Origins map[string]Origin
}

// Applied returns the state to keep once the bundle has been applied.
func (l *Loaded) Applied() Applied { return Applied{Version: l.Version, Hash: l.Hash} }

// Check judges keys and values alone: syntax, names, types, ranges, rules and
// features. It says nothing about who signed the document. The error is an
// [Error] with every problem, of class bad or feature.
func Check(text []byte, file string, features Features) (*Loaded, error) {
	l, _, err := check(text, file, features)
	return l, err
}

func check(text []byte, file string, features Features) (*Loaded, *document.Node, error) {
	ps := document.NewProblems(file)
	root := document.Read(text, ps)
	if root == nil {
		return nil, nil, ps.Err()
	}
	l := &Loaded{Config: Default(), File: file, Origins: map[string]Origin{}}
	places := decode(root, &l.Config, ps)
	v := &validator{Problems: ps, c: &l.Config, built: features, places: places}
	v.check()
	if err := ps.Err(); err != nil {
		return nil, nil, err
	}
	l.Version, l.Hash = uint64(l.Config.Meta.Version), l.Config.Meta.BundleHash
	for path, line := range places {
		l.Origins[path] = Origin{Kind: FromFile, Where: file + ":" + strconv.Itoa(line)}
	}
	return l, root, nil
}

// Load judges a whole bundle: keys and values first, all of them (class bad or
// feature), and only then its hash, its signature sig (the DSSE envelope beside
// the file; nil where there is none), its signer and its version (class trust).
// text and sig are from outside and bounded here. Load changes nothing: the
// caller keeps [Loaded.Applied] durably once it has applied the bundle.
func Load(text []byte, file string, sig []byte, o Options) (*Loaded, error) {
	l, root, err := check(text, file, o.Features)
	if err != nil {
		return nil, err
	}
	t := &truster{l: l}
	if err := t.hash(root); err != nil {
		return nil, err
	}
	if err := t.signature(text, sig, o.Trust); err != nil {
		return nil, err
	}
	if err := t.version(o); err != nil {
		return nil, err
	}
	return l, nil
}

// truster judges what stands in an accepted document against what the node knows.
type truster struct{ l *Loaded }

func (t *truster) refuse(key string, cause error, format string, args ...any) error {
	line := 0
	if o, ok := t.l.Origins[key]; ok {
		line, _ = strconv.Atoi(o.Where[strings.LastIndexByte(o.Where, ':')+1:])
	}
	return &Error{Class: ClassTrust, Err: cause, Problems: []Problem{{
		File: t.l.File, Line: line, Key: key, Text: fmt.Sprintf(format, args...), Class: ClassTrust,
	}}}
}

func (t *truster) hash(root *document.Node) error {
	got, err := document.Hash(root)
	if err != nil {
		return t.refuse("meta.bundle_hash", err, "the document has no hash: %v", err)
	}
	if got != t.l.Hash {
		return t.refuse("meta.bundle_hash", ErrHash, "wrong hash: it says %s, the document's is %s", t.l.Hash, got)
	}
	return nil
}

func (t *truster) signature(text, sig []byte, trust *bundle.Trust) error {
	if trust == nil {
		return t.refuse("", bundle.ErrUnknownSigner, "no trust anchors: nobody may sign for this node")
	}
	if len(sig) == 0 {
		return t.refuse("", bundle.ErrMalformed, "no signature: %s.sig is missing or empty", t.l.File)
	}
	if len(sig) > MaxSignatureBytes {
		return t.refuse("", bundle.ErrMalformed, "signature: %d bytes, at most %d are accepted", len(sig), MaxSignatureBytes)
	}
	env, err := bundle.Decode(sig)
	if err != nil {
		return t.refuse("", err, "signature: %v", err)
	}
	if !bytes.Equal(env.Payload, text) {
		return t.refuse("", bundle.ErrBadSignature, "the signature is for other bytes than the file's")
	}
	signed, err := bundle.Verify(env, bundle.ConfigType, trust)
	if err != nil {
		return t.refuse("", err, "signature: %v", err)
	}
	signer := t.l.Config.Meta.Signer
	for _, s := range signed {
		if s.Name == signer.Name && (signer.Version == 0 || signer.Version == s.Version) {
			t.l.Signers = signed
			return nil
		}
	}
	return t.refuse("meta.signer", bundle.ErrUnknownSigner, "%s did not sign; %s did", signer, signedBy(signed))
}

func signedBy(signed []bundle.Signed) string {
	names := make([]string, 0, len(signed))
	for _, s := range signed {
		names = append(names, s.String())
	}
	return strings.Join(names, ", ")
}

// version refuses a step back, unless exactly this bundle is allowed.
func (t *truster) version(o Options) error {
	var text string
	switch l, a := t.l, o.Applied; {
	case a.IsZero() || l.Version > a.Version || (l.Version == a.Version && l.Hash == a.Hash):
		return nil
	case l.Version < a.Version:
		text = fmt.Sprintf("version %d is below the last applied, %d", l.Version, a.Version)
	default:
		text = fmt.Sprintf("version %d was applied with another hash, %s", l.Version, a.Hash)
	}
	if o.AllowRollback != "" {
		allowed, err := ParseRollback(o.AllowRollback)
		if err != nil {
			return t.refuse("meta.version", ErrVersion, "%s; --allow-rollback: %v", text, err)
		}
		if allowed == t.l.Applied() {
			t.l.RolledBack = true
			return nil
		}
		text += "; --allow-rollback names another bundle"
	}
	return t.refuse("meta.version", ErrVersion, "%s; sign the old content again with macronode bundle sign --bump, or allow it with --allow-rollback %d@%s",
		text, t.l.Version, t.l.Hash)
}

// Applied is the last bundle that a node applied. The node keeps it durably, so
// that an old bundle is not taken for a new one.
type Applied struct {
	Version uint64        `json:"version"`
	Hash    bundle.Digest `json:"bundle_hash"`
}

// IsZero reports whether nothing was ever applied.
func (a Applied) IsZero() bool { return a == Applied{} }

// String returns "VERSION@HASH", the form that --allow-rollback takes.
func (a Applied) String() string { return strconv.FormatUint(a.Version, 10) + "@" + a.Hash.String() }

// maxAppliedBytes bounds the state document.
const maxAppliedBytes = 4096

// Encode returns the state document, ending in a newline.
func (a Applied) Encode() ([]byte, error) {
	if a.Version == 0 || a.Hash.IsZero() {
		return nil, errors.New("applied bundle: nothing to keep")
	}
	b, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// DecodeApplied reads what Encode wrote. Damage is an error, never "nothing
// applied": that would let an old bundle in.
func DecodeApplied(text []byte) (Applied, error) {
	if len(text) > maxAppliedBytes {
		return Applied{}, fmt.Errorf("applied bundle: %d bytes, at most %d are accepted", len(text), maxAppliedBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var a Applied
	if err := dec.Decode(&a); err != nil {
		return Applied{}, fmt.Errorf("applied bundle: %w", err)
	}
	if dec.More() || a.Version == 0 || a.Version > bundle.MaxInteger || a.Hash.IsZero() {
		return Applied{}, errors.New("applied bundle: not of the form {\"version\":N,\"bundle_hash\":\"blake3:…\"}")
	}
	return a, nil
}

// ParseRollback reads "VERSION@HASH", with or without "blake3:" before the hash.
func ParseRollback(s string) (Applied, error) {
	version, hash, ok := strings.Cut(s, "@")
	n, err := strconv.ParseUint(version, 10, 64)
	if !ok || err != nil || n == 0 {
		return Applied{}, errors.New("want VERSION@HASH, such as 12@blake3:…")
	}
	if !strings.HasPrefix(hash, "blake3:") {
		hash = "blake3:" + hash
	}
	d, err := bundle.ParseDigest(hash)
	if err != nil {
		return Applied{}, errors.New("want VERSION@HASH, such as 12@blake3:…")
	}
	return Applied{Version: n, Hash: d}, nil
}
