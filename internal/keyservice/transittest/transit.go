// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package transittest is a small server of Vault's transit calls with real
// AES-256-GCM, for tests. It is not Vault.
package transittest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
)

// Server answers the two transit calls for the key "node".
type Server struct {
	Token  string // the one that is good
	mu     sync.Mutex
	aead   cipher.AEAD
	status int // answered in place of a result; 0: none
	away   int // how many calls to answer with 503 first
	calls  int
}

// New makes a server with a new key and a token.
func New() *Server {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // of 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &Server{aead: aead, Token: "s.planted-token"}
}

// ServeHTTP implements http.Handler.
func (v *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls++
	switch {
	case v.away > 0:
		v.away--
		w.WriteHeader(503)
		return
	case v.status != 0:
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(v.status)
		_, _ = w.Write([]byte(`{"errors":["` + r.Header.Get("X-Vault-Token") + `"]}`))
		return
	case r.Header.Get("X-Vault-Token") != v.Token:
		w.WriteHeader(403)
		return
	}
	var in struct {
		Plaintext  []byte `json:"plaintext"`
		Ciphertext string `json:"ciphertext"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		w.WriteHeader(400)
		return
	}
	data := map[string]any{}
	switch r.URL.Path {
	case "/v1/transit/encrypt/node":
		nonce := make([]byte, 12)
		_, _ = rand.Read(nonce)
		data["ciphertext"] = "vault:v1:" + base64.StdEncoding.EncodeToString(v.aead.Seal(nonce, nonce, in.Plaintext, nil))
	case "/v1/transit/decrypt/node":
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(in.Ciphertext, "vault:v1:"))
		if err != nil || len(raw) < 12 {
			w.WriteHeader(400)
			return
		}
		plain, err := v.aead.Open(nil, raw[:12], raw[12:], nil)
		if err != nil {
			w.WriteHeader(400)
			return
		}
		data["plaintext"] = plain
	default:
		w.WriteHeader(404)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
}

// Set has the next away calls answered with 503, and all others with status where
// it is not 0; and counts calls anew.
func (v *Server) Set(away, status int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.away, v.status, v.calls = away, status, 0
}

// Calls is how many calls there were since Set.
func (v *Server) Calls() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls
}
