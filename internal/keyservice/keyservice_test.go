// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keyservice

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/keyservice/transittest"
)

// serve starts v and returns the URL of its key.
func serve(t *testing.T, v *transittest.Server) string {
	t.Helper()
	srv := httptest.NewTLSServer(v)
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})), 0o644)
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, v.Token+"\n", 0o600)
	return "hashivault://node?addr=" + url.QueryEscape(srv.URL) + "&token_file=" + token + "&ca_file=" + ca
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func parse(t *testing.T, setting string) *Service {
	t.Helper()
	s, err := Parse(setting, Options{FS: disk.Real()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var secret = []byte("0123456789abcdef0123456789ABCDEF")

func TestSealAndOpen(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	write(t, key, base64.StdEncoding.EncodeToString(secret)+"\n", 0o600)
	otherKey := filepath.Join(t.TempDir(), "key")
	write(t, otherKey, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32)), 0o600)
	for setting, other := range map[string]string{serve(t, transittest.New()): serve(t, transittest.New()), "base64key://" + key: "base64key://" + otherKey} {
		s := parse(t, setting)
		sealed, err := s.Seal(t.Context(), secret)
		if err != nil || bytes.Contains(sealed, secret[:16]) {
			t.Fatalf("%s: %v", s.u.Scheme, err)
		}
		plain, err := s.Open(t.Context(), sealed, 0, nil)
		if err != nil || !bytes.Equal(plain, secret) {
			t.Fatalf("%s: %v", s.u.Scheme, err)
		}
		if _, err := parse(t, other).Open(t.Context(), sealed, time.Minute, nil); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: another key: %v", s.u.Scheme, err)
		}
		bad := bytes.Clone(sealed)
		bad[len(bad)-6] ^= 1
		if _, err := s.Open(t.Context(), bad, time.Minute, nil); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: an edited blob: %v", s.u.Scheme, err)
		}
	}
}

// A service that is away is asked again until it is back, and not for ever.
func TestAway(t *testing.T) {
	v := transittest.New()
	s := parse(t, serve(t, v))
	sealed, err := s.Seal(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	v.Set(2, 0)
	told := 0
	plain, err := s.Open(t.Context(), sealed, time.Minute, func(error) { told++ })
	if err != nil || !bytes.Equal(plain, secret) || told != 2 || v.Calls() != 3 {
		t.Fatalf("%d told, %d calls: %v", told, v.Calls(), err)
	}
	v.Set(1000, 0)
	if _, err := s.Open(t.Context(), sealed, time.Second, nil); !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "503") {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	mine := errors.New("told to stop")
	if _, err := s.Open(ctx, sealed, time.Hour, func(error) { cancel(mine) }); !errors.Is(err, mine) {
		t.Fatal(err)
	}
	dead := httptest.NewServer(http.NotFoundHandler())
	addr := dead.URL
	dead.Close()
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, "t", 0o600)
	if _, err := parse(t, "hashivault://node?addr="+addr+"&token_file="+token).Open(t.Context(), sealed, 0, nil); !errors.Is(err, ErrAway) {
		t.Fatal(err)
	}
}

// A no is told at once, with the reason, and never with the token.
func TestRefused(t *testing.T) {
	v := transittest.New()
	setting := serve(t, v)
	s := parse(t, setting)
	sealed, err := s.Seal(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{400, 401, 403, 404, 302, 307, 418} {
		v.Set(0, status)
		_, err := s.Open(t.Context(), sealed, 3*time.Second, nil)
		if !errors.Is(err, ErrRefused) || v.Calls() != 1 || strings.Contains(err.Error(), "planted") {
			t.Errorf("%d: %d calls, %v", status, v.Calls(), err)
		}
	}
	v.Set(0, 0)
	for name, edit := range map[string]func(string) string{
		"another key": func(u string) string { return strings.Replace(u, "//node", "//other", 1) },
		"no token":    func(u string) string { return strings.Replace(u, "token_file=", "token_file=/none", 1) },
		"no ca":       func(u string) string { return u[:strings.Index(u, "&ca_file")] },
	} {
		if _, err := parse(t, edit(setting)).Open(t.Context(), sealed, time.Hour, nil); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	loose := filepath.Join(t.TempDir(), "token")
	write(t, loose, v.Token, 0o644)
	u, _ := url.Parse(setting)
	q := u.Query()
	q.Set("token_file", loose)
	u.RawQuery = q.Encode()
	if _, err := parse(t, u.String()).Open(t.Context(), sealed, time.Hour, nil); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a token that others may read: %v", err)
	}
}

func TestURLs(t *testing.T) {
	const good = "hashivault://k?addr=https://v:8200&token_file=t"
	for _, s := range []string{good, good + "&engine=kv/transit&namespace=a/b&ca_file=c", "hashivault://k?addr=http://127.0.0.1:8200&token_file=t",
		"hashivault://k?addr=http://localhost:8200&token_credential=vault", "base64key:///a/key"} {
		if _, err := Parse(s, Options{}); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"", "https://v", "hashivault://", "hashivault://k", "hashivault://k?addr=https://v", "hashivault://k?token_file=t",
		"hashivault://k?addr=http://v:8200&token_file=t", good + "&token_credential=c", good + "&token=s.x", good + "&addr=https://w", good + "#f",
		"hashivault://u:p@k?addr=https://v&token_file=t", "hashivault://k?addr=https://u:p@v&token_file=t", "hashivault://k?addr=https://v/x&token_file=t",
		"hashivault://k/..?addr=https://v&token_file=t", good + "&engine=../sys", "hashivault://k?addr=https://v&token_credential=a/b",
		"base64key://smGbjm71Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4=", "base64key:///k?x=1", "base64key://h/k"} {
		if _, err := Parse(s, Options{}); !errors.Is(err, ErrURL) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("hashivault://k?addr=https://v:8200&token_file=t")
	f.Add("base64key:///k")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text, Options{})
		if err == nil && (s.u.User != nil || !Is(text)) {
			t.Fatalf("%q is taken", text)
		}
	})
}
