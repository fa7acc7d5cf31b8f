// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package witnesstest is a witness for tests (C2SP tlog-witness): it checks what a witness
// must check, and misbehaves where it is told to.
package witnesstest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rustyonions/macronode/tlog"
)

// Witness answers add-checkpoint for one log.
type Witness struct {
	log    []tlog.Key
	key    tlog.Key
	secret ed25519.PrivateKey

	mu     sync.Mutex
	last   tlog.Checkpoint
	signed int
	before func(w http.ResponseWriter, r *http.Request) bool
}

// New returns a witness of this name for the log of these keys.
func New(name string, log ...tlog.Key) *Witness {
	seed := sha256.Sum256([]byte(name))
	secret := ed25519.NewKeyFromSeed(seed[:])
	return &Witness{log: log, secret: secret, last: tlog.Checkpoint{Root: tlog.EmptyRoot},
		key: tlog.Key{Name: name, Type: tlog.Ed25519Cos, Public: secret.Public().(ed25519.PublicKey)}}
}

// Key verifies its cosignatures.
func (w *Witness) Key() tlog.Key { return w.key }

// Signed is how many checkpoints it signed, and the newest.
func (w *Witness) Signed() (int, tlog.Checkpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.signed, w.last
}

// Force makes it believe that it signed c.
func (w *Witness) Force(c tlog.Checkpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = c
}

// Before makes f answer, where it returns true; nil: nobody does.
func (w *Witness) Before(f func(w http.ResponseWriter, r *http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before = f
}

// ServeHTTP implements http.Handler.
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	before := w.before
	w.mu.Unlock()
	if before != nil && before(rw, r) {
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/add-checkpoint" {
		http.NotFound(rw, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	head, note, ok := strings.Cut(string(body), "\n\n")
	lines := strings.Split(head, "\n")
	size, hasOld := strings.CutPrefix(lines[0], "old ")
	old, err2 := strconv.ParseUint(size, 10, 64)
	if err != nil || err2 != nil || !ok || !hasOld || len(lines) > 64 {
		http.Error(rw, "malformed", http.StatusBadRequest)
		return
	}
	s, err := tlog.Open([]byte(note), w.log...)
	if err != nil {
		http.Error(rw, "no trusted signature", http.StatusForbidden)
		return
	}
	if s.Origin != w.log[0].Name {
		http.Error(rw, "no such log", http.StatusNotFound)
		return
	}
	p := tlog.Consistency{Old: old, New: s.Size, Path: tlog.Path{}}
	for _, line := range lines[1:] {
		raw, err := base64.StdEncoding.DecodeString(line)
		var h tlog.Hash
		if err != nil || copy(h[:], raw) != len(h) {
			http.Error(rw, "malformed", http.StatusBadRequest)
			return
		}
		p.Path = append(p.Path, h)
	}
	status, text := w.judge(s.Checkpoint, p)
	if status == http.StatusConflict && text != "" {
		rw.Header().Set("Content-Type", "text/x.tlog.size")
	}
	rw.WriteHeader(status)
	_, _ = io.WriteString(rw, text)
}

// judge compares with what was signed before, and signs.
func (w *Witness) judge(c tlog.Checkpoint, p tlog.Consistency) (int, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case p.Old > c.Size:
		return http.StatusBadRequest, ""
	case p.Old != w.last.Size:
		return http.StatusConflict, fmt.Sprintf("%d\n", w.last.Size)
	case p.Old == c.Size && c.Root != w.last.Root:
		return http.StatusConflict, ""
	}
	last := w.last
	if p.Check(last, c) != nil {
		return http.StatusUnprocessableEntity, ""
	}
	unix := uint64(time.Now().Unix()) //nolint:gosec // after 1970
	msg, err := w.key.Message(c.Text(), unix)
	if err != nil {
		return http.StatusInternalServerError, ""
	}
	w.last = c
	w.signed++
	return http.StatusOK, tlog.Line(w.key, w.key.Seal(ed25519.Sign(w.secret, msg), unix))
}
