// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keyservice

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets/driver"
)

// maxAnswerBytes bounds what the service may answer.
const maxAnswerBytes = 64 << 10

// vault speaks the two calls of Vault's transit engine. (gocloud.dev's own driver
// brings Vault's whole client, which takes its token from the environment.)
type vault struct {
	addr, engine, namespace, key, token string
	hc                                  *http.Client
}

var _ driver.Keeper = (*vault)(nil)

func (v *vault) connect(conf *tls.Config) {
	v.hc = &http.Client{
		Transport: &http.Transport{TLSClientConfig: conf, Proxy: nil, DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSHandshakeTimeout: tryTimeout},
		// The token is for the address that the operator named, and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// vaultError is a failed call; its text holds neither token nor secret.
type vaultError struct {
	kind error // ErrAway or ErrRefused
	why  string
}

func (e *vaultError) Error() string { return e.kind.Error() + ": " + e.why }
func (e *vaultError) Unwrap() error { return e.kind }

// Encrypt implements driver.Keeper.
func (v *vault) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	var out struct {
		Ciphertext string `json:"ciphertext"`
	}
	err := v.call(ctx, "encrypt", map[string]any{"plaintext": plain}, &out)
	if err == nil && !strings.HasPrefix(out.Ciphertext, "vault:") {
		err = &vaultError{ErrRefused, "its answer holds no cipher text"}
	}
	return []byte(out.Ciphertext), err
}

// Decrypt implements driver.Keeper.
func (v *vault) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	var out struct {
		Plaintext []byte `json:"plaintext"`
	}
	err := v.call(ctx, "decrypt", map[string]any{"ciphertext": string(sealed)}, &out)
	if err == nil && len(out.Plaintext) == 0 {
		err = &vaultError{ErrRefused, "its answer holds no plain text"}
	}
	return out.Plaintext, err
}

func (v *vault) call(ctx context.Context, op string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	defer clear(body)
	target := v.addr + "/v1/" + v.engine + "/" + op + "/" + url.PathEscape(v.key)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return &vaultError{ErrRefused, "its address cannot be called"}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Vault-Token", v.token)
	req.Header.Set("X-Vault-Request", "true")
	if v.namespace != "" {
		req.Header.Set("X-Vault-Namespace", v.namespace)
	}
	resp, err := v.hc.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL
		}
		var cert *tls.CertificateVerificationError
		if errors.As(err, &cert) {
			return &vaultError{ErrRefused, "its certificate: " + cert.Err.Error()}
		}
		return &vaultError{ErrAway, err.Error()}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	defer clear(text)
	if err != nil {
		return &vaultError{ErrAway, "its answer broke off"}
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.StatusCode)
	}
	answer := struct {
		Data any `json:"data"`
	}{out}
	if json.Unmarshal(text, &answer) != nil {
		return &vaultError{ErrRefused, "its answer is not a key service's"}
	}
	return nil
}

// refusal says what a status means; the body may quote what was sent.
func refusal(status int) error {
	switch {
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return &vaultError{ErrRefused, "the token is not good for this key (403)"}
	case status == http.StatusNotFound:
		return &vaultError{ErrRefused, "there is no such key or engine (404)"}
	case status == http.StatusBadRequest:
		return &vaultError{ErrRefused, "no such key, or another one sealed what lies beside the keystore (400)"}
	case status >= 300 && status < 400:
		return &vaultError{ErrRefused, fmt.Sprintf("it redirects (%d): name the active node in addr", status)}
	case status == http.StatusTooManyRequests || status >= 500: // 503: sealed
		return &vaultError{ErrAway, fmt.Sprintf("it answers %d", status)}
	}
	return &vaultError{ErrRefused, fmt.Sprintf("it answers %d", status)}
}

// Close implements driver.Keeper.
func (v *vault) Close() error {
	v.hc.CloseIdleConnections()
	return nil
}

// ErrorAs implements driver.Keeper.
func (v *vault) ErrorAs(error, any) bool { return false }

// ErrorCode implements driver.Keeper.
func (v *vault) ErrorCode(err error) gcerrors.ErrorCode {
	if errors.Is(err, ErrAway) {
		return gcerrors.ResourceExhausted
	}
	return gcerrors.PermissionDenied
}
