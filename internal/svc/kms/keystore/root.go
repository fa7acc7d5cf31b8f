// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"filippo.io/age"
	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms/locked"
	"github.com/rustyonions/macronode/internal/svc/kms/shares"
)

const (
	keyBytes = 32
	// rootFileBytes bounds key files, passphrase files and credentials.
	rootFileBytes = 4096
	checkBytes    = 4

	rootKeyPrefix  = "ronroot1_"
	recoveryPrefix = "ronrecovery1_"

	contextRoot     = "macronode keystore root v1"
	contextManifest = "macronode keystore manifest v1"
	contextRecord   = "macronode keystore record v1"
)

// Errors about roots.
var (
	// ErrWrongRoot: the keystore is whole, but this root does not open it.
	ErrWrongRoot = errors.New("keystore: this root does not open the keystore (another key file or passphrase made it)")
	// ErrRootKind: the keystore was sealed by another kind of root.
	ErrRootKind = errors.New("keystore: it was sealed by another kind of root")
	// ErrRootMode: a root secret that others may read.
	ErrRootMode = errors.New("keystore: the root's file must be 0600 (or 0400): others may read it")
	// ErrRootAbsent: this build has no client for key services.
	ErrRootAbsent = errors.New("keystore: a key service as root is not available in this build; use keyfile:PATH, passphrase-file:PATH or systemd:NAME")
	// ErrRootSpec: the text is none of the known forms.
	ErrRootSpec = errors.New("keystore: a root is keyfile:PATH, passphrase-file:PATH, systemd:NAME, shares:PATH or a URL")
	// ErrSealed: the root is in shares, and nobody here gathers them.
	ErrSealed = errors.New("keystore: it is sealed: its root is in shares, which are handed to a node that starts")
)

// Root is a source of the root secret: where it lies and how it seals. Nothing
// is read before Open, Create or Reseal.
type Root struct {
	Kind RootKind
	Path string // of the file; for systemd, the credential's name
	// CredentialsDir is $CREDENTIALS_DIRECTORY, for systemd.
	CredentialsDir string
	// ScryptLogN is the work factor for sealing by passphrase; 0: 18, about a
	// second and 256 MiB.
	ScryptLogN int
	// Gather returns the root secret of a set, in the arena, once enough shares
	// came; it may wait for long. Nil: ErrSealed.
	Gather func(*shares.Set, *locked.Arena) (*locked.Secret, error)
	// Fetch returns the root secret, in the arena, that the key service of kind
	// Service opens; nil: ErrSealed.
	Fetch func(*locked.Arena) (*locked.Secret, error)
	// Secret, where there is one, is the root secret of kind Shares or Service,
	// known already; it stays its owner's.
	Secret *locked.Secret
}

// RootKind is the sort of root.
type RootKind string

// The kinds of root. A systemd credential holds the text of a key file, so the
// two open each other's stores.
const (
	KeyFile        RootKind = "keyfile"
	PassphraseFile RootKind = "passphrase-file"
	Systemd        RootKind = "systemd"
	// Shares: the file at Path is a shares.Set.
	Shares RootKind = "shares"
	// Service: a key service opens the root secret; Path is its URL.
	Service RootKind = "service"
)

const defaultLogN = 18

// maxLogN bounds the work that a root file can ask for: 4 GiB, some 20 s.
const maxLogN = 22

// ParseRoot reads the [kms] root setting. A relative path is the caller's to
// resolve. Errors: ErrRootSpec, ErrRootAbsent.
func ParseRoot(spec string) (Root, error) {
	kind, rest, ok := strings.Cut(spec, ":")
	if !ok || rest == "" || strings.ContainsRune(rest, 0) {
		return Root{}, ErrRootSpec
	}
	if strings.HasPrefix(rest, "//") {
		if kind == string(KeyFile) || kind == string(PassphraseFile) || kind == string(Shares) {
			return Root{Kind: RootKind(kind), Path: rest}, nil
		}
		return Root{}, ErrRootAbsent
	}
	switch RootKind(kind) {
	case KeyFile, PassphraseFile, Shares:
		return Root{Kind: RootKind(kind), Path: rest}, nil
	case Systemd:
		if strings.ContainsAny(rest, "/") || rest == "." || rest == ".." {
			return Root{}, ErrRootSpec
		}
		return Root{Kind: Systemd, Path: rest}, nil
	}
	return Root{}, ErrRootSpec
}

// String is the setting's form; it holds no secret.
func (r Root) String() string {
	if r.Kind == Service {
		return r.Path
	}
	return string(r.Kind) + ":" + r.Path
}

// WriteKeyFile makes a new random key file of mode 0600 at p. It refuses to
// replace anything. The text is "ronroot1_" and the base64url, without padding,
// of 32 random bytes and the first 4 bytes of their BLAKE3, which tells a
// mistyped key from a wrong one.
func WriteKeyFile(f *disk.FS, p string) error {
	if _, err := f.Stat(p); err == nil {
		return fmt.Errorf("keystore: %s is there already", p)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key := make([]byte, keyBytes)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	text := encodeKey(rootKeyPrefix, key)
	defer clear(text)
	return f.ReplaceFile(p, text, 0o600)
}

// encodeKey is the text form of key, a line: prefix, then base64url of key and
// check. No buffer grows on the way: what it grew out of would keep the key.
func encodeKey(prefix string, key []byte) []byte {
	sum := blake3.Sum256(key)
	raw := append(append(make([]byte, 0, len(key)+checkBytes), key...), sum[:checkBytes]...)
	defer clear(raw)
	n := base64.RawURLEncoding.EncodedLen(len(raw))
	text := append(make([]byte, 0, len(prefix)+n+1), prefix...)
	return append(base64.RawURLEncoding.AppendEncode(text, raw), '\n')
}

// decodeKey reads encodeKey's text, surrounding white space aside. n is the
// key's length.
func decodeKey(prefix string, text []byte, n int) ([]byte, error) {
	text, ok := bytes.CutPrefix(bytes.TrimSpace(text), []byte(prefix))
	if !ok {
		return nil, fmt.Errorf("keystore: not a key: its text begins with %s", prefix)
	}
	raw := make([]byte, base64.RawURLEncoding.DecodedLen(len(text)))
	m, err := base64.RawURLEncoding.Strict().Decode(raw, text)
	if err != nil || m != n+checkBytes {
		clear(raw)
		return nil, errors.New("keystore: the key's text is cut or mistyped")
	}
	sum := blake3.Sum256(raw[:n])
	if !bytes.Equal(sum[:checkBytes], raw[n:]) {
		clear(raw)
		return nil, errors.New("keystore: the key's text is mistyped: its check does not match")
	}
	return raw[:n], nil
}

// secret is a root's content, read.
type secret struct {
	kind RootKind // any but Systemd
	data *locked.Secret
	logN int
}

func (s *secret) wipe() { s.data.Wipe() }

// read fetches the root's secret. Errors name the file, never its content.
func (r Root) read(f *disk.FS, a *locked.Arena) (*secret, error) {
	p := r.Path
	switch r.Kind {
	case KeyFile, PassphraseFile:
	case Shares, Service:
		if r.Secret != nil {
			return &secret{kind: r.Kind, data: a.Copy(r.Secret.Bytes())}, nil
		}
		if r.Kind == Shares {
			return r.gathered(f, a)
		}
		if r.Fetch == nil {
			return nil, ErrSealed
		}
		data, err := r.Fetch(a)
		if err != nil {
			return nil, err
		}
		if data.Len() != keyBytes {
			data.Wipe()
			return nil, ErrWrongRoot
		}
		return &secret{kind: Service, data: data}, nil
	case Systemd:
		if r.CredentialsDir == "" {
			return nil, fmt.Errorf("keystore: root %s: there is no credentials directory; is LoadCredential= set in the unit?", r)
		}
		p = path.Join(r.CredentialsDir, r.Path)
	default:
		return nil, ErrRootSpec
	}
	fi, err := f.Stat(p)
	if err != nil {
		return nil, fmt.Errorf("keystore: root %s: %w", r, err)
	}
	if fi.IsDir() {
		return nil, fmt.Errorf("keystore: root %s: it is a directory", r)
	}
	// systemd makes credentials 0440 or 0400 in a directory of its own, which
	// keeps others out.
	if f.Real() && r.Kind != Systemd && fi.Mode().Perm()&0o177 != 0 {
		return nil, fmt.Errorf("%w: %s is %#o", ErrRootMode, p, fi.Mode().Perm())
	}
	text, err := f.ReadFile(p, rootFileBytes)
	if err != nil {
		return nil, fmt.Errorf("keystore: root %s: %w", r, err)
	}
	defer clear(text)
	if r.Kind == PassphraseFile {
		pass := bytes.TrimRight(text, "\r\n")
		if len(pass) == 0 {
			return nil, fmt.Errorf("keystore: root %s: the passphrase is empty", r)
		}
		return &secret{kind: PassphraseFile, data: a.Copy(pass), logN: r.ScryptLogN}, nil
	}
	key, err := decodeKey(rootKeyPrefix, text, keyBytes)
	if err != nil {
		return nil, fmt.Errorf("root %s: %w", r, err)
	}
	return &secret{kind: KeyFile, data: a.Take(key)}, nil
}

// gathered is the secret of a root in shares.
func (r Root) gathered(f *disk.FS, a *locked.Arena) (*secret, error) {
	text, err := f.ReadFile(r.Path, shares.MaxSetBytes)
	if err != nil {
		return nil, fmt.Errorf("keystore: root %s: %w", r, err)
	}
	set, err := shares.ParseSet(text)
	if err != nil {
		return nil, fmt.Errorf("keystore: root %s: %w", r, err)
	}
	if r.Gather == nil {
		return nil, ErrSealed
	}
	data, err := r.Gather(set, a)
	if err != nil {
		return nil, err
	}
	return &secret{kind: Shares, data: data}, nil
}

func (s *secret) suite() uint8 {
	if s.kind == PassphraseFile {
		return suiteAge
	}
	return suiteXChaCha
}

// sealKey returns the body of a root envelope with the associated data ad.
func (s *secret) sealKey(a *locked.Arena, ad []byte, dataKey *locked.Secret) ([]byte, error) {
	if s.kind != PassphraseFile {
		k := subkey(a, contextRoot, s.data)
		defer k.Wipe()
		return sealBody(k.Bytes(), ad, dataKey.Bytes())
	}
	// age takes its passphrase as a string, which cannot be wiped: it lives on
	// the heap until it is collected.
	r, err := age.NewScryptRecipient(string(s.data.Bytes()))
	if err != nil {
		return nil, err
	}
	logN := s.logN
	if logN == 0 {
		logN = defaultLogN
	}
	r.SetWorkFactor(logN)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		return nil, err
	}
	// age has no associated data, so its hash goes inside.
	bind := blake3.Sum256(ad)
	if _, err := w.Write(dataKey.Bytes()); err != nil {
		return nil, err
	}
	if _, err := w.Write(bind[:]); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// openKey is the inverse of sealKey. The error is ErrWrongRoot.
func (s *secret) openKey(a *locked.Arena, ad, body []byte) (*locked.Secret, error) {
	if s.kind != PassphraseFile {
		k := subkey(a, contextRoot, s.data)
		defer k.Wipe()
		dataKey, err := openBody(a, k.Bytes(), ad, body)
		if err != nil {
			return nil, ErrWrongRoot
		}
		if dataKey.Len() != keyBytes {
			dataKey.Wipe()
			return nil, ErrWrongRoot
		}
		return dataKey, nil
	}
	id, err := age.NewScryptIdentity(string(s.data.Bytes()))
	if err != nil {
		return nil, ErrWrongRoot
	}
	id.SetMaxWorkFactor(maxLogN)
	r, err := age.Decrypt(bytes.NewReader(body), id)
	if err != nil {
		return nil, ErrWrongRoot
	}
	plain := make([]byte, keyBytes+sumBytes+1)
	defer clear(plain)
	n, err := io.ReadFull(r, plain)
	bind := blake3.Sum256(ad)
	if !errors.Is(err, io.ErrUnexpectedEOF) || n != keyBytes+sumBytes || !bytes.Equal(plain[keyBytes:n], bind[:]) {
		return nil, ErrWrongRoot
	}
	return a.Copy(plain[:keyBytes]), nil
}
