// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package keyservice opens what a key service sealed: the root secret of a
// keystore whose kms.root is a URL. Services are gocloud.dev keepers:
//
//	hashivault://KEY?addr=https://HOST:PORT&token_file=PATH      Vault's transit engine, or a compatible one
//	base64key:///PATH                                            a local key in a file, in base64
//
// Options of hashivault: token_credential=NAME in place of token_file (systemd),
// ca_file=PATH, engine=PATH (transit), namespace=NAME. Tokens and keys come from
// files or credentials alone: a URL that holds one is refused.
package keyservice

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"gocloud.dev/secrets"
	"gocloud.dev/secrets/localsecrets"

	"github.com/rustyonions/macronode/internal/disk"
)

// The schemes.
const (
	schemeVault = "hashivault"
	schemeLocal = "base64key"
)

const (
	maxFileBytes = 64 << 10
	tryTimeout   = 5 * time.Second
	firstPause   = 200 * time.Millisecond
	maxPause     = 3 * time.Second
)

// Errors.
var (
	// ErrURL: the setting is no URL of a service that is known here.
	ErrURL = errors.New("not the URL of a key service: hashivault://KEY?addr=https://HOST:PORT&token_file=PATH or base64key:///PATH")
	// ErrAway: the service did not answer, or said that it cannot now.
	ErrAway = errors.New("the key service is away")
	// ErrRefused: the service answered no, or the file with the secret for it is
	// missing, open to others, or not what it should be.
	ErrRefused = errors.New("the key service refuses")
)

// Is reports whether a kms.root is for this package.
func Is(setting string) bool {
	scheme, _, ok := strings.Cut(setting, "://")
	return ok && (scheme == schemeVault || scheme == schemeLocal)
}

// Options of a Service.
type Options struct {
	FS             *disk.FS
	In             func(path string) string // resolves relative paths; nil: as they are
	CredentialsDir string                   // $CREDENTIALS_DIRECTORY
}

// Service is a key service, named and not yet asked.
type Service struct {
	u *url.URL
	o Options
}

var segment = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,7}$`)

// Parse judges a URL without reading or asking anything. ErrURL.
func Parse(setting string, o Options) (*Service, error) {
	u, err := url.Parse(setting)
	if err != nil || len(setting) > 4096 || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return nil, ErrURL
	}
	if o.In == nil {
		o.In = func(p string) string { return p }
	}
	s := &Service{u, o}
	switch u.Scheme {
	case schemeLocal:
		if u.Host != "" || !path.IsAbs(u.Path) || u.RawQuery != "" {
			return nil, ErrURL
		}
		return s, nil
	case schemeVault:
		return s, s.judgeVault()
	}
	return nil, ErrURL
}

func (s *Service) judgeVault() error {
	q, err := url.ParseQuery(s.u.RawQuery)
	if err != nil || !segment.MatchString(s.u.Host) || s.u.Path != "" {
		return ErrURL
	}
	for name, values := range q {
		switch name {
		case "addr", "token_file", "token_credential", "ca_file", "engine", "namespace":
		default:
			return fmt.Errorf("%w: %s is no option of it", ErrURL, name)
		}
		if len(values) != 1 || values[0] == "" {
			return ErrURL
		}
	}
	if (q.Get("token_file") == "") == (q.Get("token_credential") == "") || strings.Contains(q.Get("token_credential"), "/") {
		return fmt.Errorf("%w: it takes token_file or token_credential", ErrURL)
	}
	for _, name := range []string{"engine", "namespace"} {
		if v := q.Get(name); v != "" && !segment.MatchString(v) {
			return ErrURL
		}
	}
	addr, err := url.Parse(q.Get("addr"))
	if err != nil || addr.Host == "" || addr.User != nil || addr.RawQuery != "" || addr.Fragment != "" || strings.Trim(addr.Path, "/") != "" {
		return fmt.Errorf("%w: addr is https://HOST:PORT", ErrURL)
	}
	ip, err := netip.ParseAddr(addr.Hostname())
	local := addr.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	if addr.Scheme != "https" && (addr.Scheme != "http" || !local) {
		return fmt.Errorf("%w: addr is https://HOST:PORT (http to this machine alone)", ErrURL)
	}
	return nil
}

// secretFile reads a file that others may not read.
func (s *Service) secretFile(p string) ([]byte, error) {
	fi, err := s.o.FS.Stat(p)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if s.o.FS.Real() && fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s must be 0600: others may read it", ErrRefused, p)
	}
	b, err := s.o.FS.ReadFile(p, maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return b, nil
}

// keeper reads what it takes to ask.
func (s *Service) keeper() (*secrets.Keeper, error) {
	if s.u.Scheme == schemeLocal {
		text, err := s.secretFile(s.u.Path)
		if err != nil {
			return nil, err
		}
		defer clear(text)
		key, err := localsecrets.Base64KeyStd(strings.TrimSpace(string(text)))
		if err != nil {
			return nil, fmt.Errorf("%w: %s does not hold 32 bytes in base64", ErrRefused, s.u.Path)
		}
		defer clear(key[:])
		return localsecrets.NewKeeper(key), nil
	}
	q := s.u.Query()
	file := s.o.In(q.Get("token_file"))
	var token []byte
	var err error
	if name := q.Get("token_credential"); name != "" {
		if s.o.CredentialsDir == "" {
			return nil, fmt.Errorf("%w: there is no credentials directory; is LoadCredential= set in the unit?", ErrRefused)
		}
		if token, err = s.o.FS.ReadFile(path.Join(s.o.CredentialsDir, name), maxFileBytes); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
	} else if token, err = s.secretFile(file); err != nil {
		return nil, err
	}
	defer clear(token)
	v := &vault{addr: strings.TrimRight(q.Get("addr"), "/"), engine: q.Get("engine"), namespace: q.Get("namespace"), key: s.u.Host,
		token: strings.TrimSpace(string(token))}
	if v.engine == "" {
		v.engine = "transit"
	}
	if !validToken(v.token) {
		return nil, fmt.Errorf("%w: the file does not hold a token", ErrRefused)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca := q.Get("ca_file"); ca != "" {
		pem, err := s.o.FS.ReadFile(s.o.In(ca), maxFileBytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s holds no certificate", ErrRefused, ca)
		}
	}
	v.connect(conf)
	return secrets.NewKeeper(v), nil
}

// validToken admits what may stand in a header.
func validToken(s string) bool {
	return s != "" && len(s) <= 8192 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// Seal has the service seal secret.
func (s *Service) Seal(ctx context.Context, secret []byte) ([]byte, error) {
	k, err := s.keeper()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	sealed, err := k.Encrypt(ctx, secret)
	return sealed, judge(err)
}

// Open has the service open what it sealed. While the service is away it is asked
// again, after pauses that double, until patience is over or ctx ends: then
// ErrAway. Each try reads token and key anew, so that they can be mended meanwhile.
func (s *Service) Open(ctx context.Context, sealed []byte, patience time.Duration, tell func(error)) ([]byte, error) {
	end := time.Now().Add(patience)
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		plain, err := s.try(ctx, sealed)
		if err == nil || !errors.Is(err, ErrAway) {
			return plain, err
		}
		wait := pause/2 + rand.N(pause/2+1)
		if time.Now().Add(wait).After(end) {
			return nil, fmt.Errorf("%w, and did not come back in %v", err, patience)
		}
		if tell != nil {
			tell(err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		case <-timer.C:
		}
	}
}

func (s *Service) try(ctx context.Context, sealed []byte) ([]byte, error) {
	k, err := s.keeper()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	try, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	plain, err := k.Decrypt(try, sealed)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return plain, judge(err)
}

// judge keeps what this package says of an error, and calls any other a refusal.
func judge(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrAway):
		return awayOf(err)
	}
	var e *vaultError
	if errors.As(err, &e) {
		return e
	}
	return fmt.Errorf("%w: it does not open what lies beside the keystore: another key sealed it", ErrRefused)
}

// awayOf strips a keeper's decoration from an error that is ErrAway.
func awayOf(err error) error {
	var e *vaultError
	if errors.As(err, &e) {
		return e
	}
	return ErrAway
}
