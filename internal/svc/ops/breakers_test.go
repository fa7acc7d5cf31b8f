// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
)

func (f *fake) spare() *idem.Keeper { return idem.New(idem.Config{KV: mem.NewKV(mem.KVConfig{})}) }

func (f *fake) Breakers() []BreakerStatus {
	return []BreakerStatus{{Name: "metadata", State: "closed", Mode: "auto", Required: true}}
}

func (f *fake) Force(_ context.Context, actor string, b BreakerForce) (BreakerStatus, error) {
	if b.Name != "metadata" {
		return BreakerStatus{}, macronode.Errorf(macronode.NotFound, "no such breaker")
	}
	f.forced = append(f.forced, fmt.Sprint(actor, " ", b))
	return BreakerStatus{Name: b.Name, State: "open", Mode: b.State}, nil
}

func TestBreakers(t *testing.T) {
	w := newWorld(t, nil)
	w.want(t, "GET", "/v1/admin/breakers", "", 200, `{"breakers":[{"name":"metadata","state":"closed","mode":"auto","required":true`)
	w.want(t, "GET", "/v1/admin/breakers?x=1", "", 400, "unknown argument")
	w.want(t, "POST", "/v1/admin/breakers/metadata", `{"state":"open","for_ms":1500,"reason":"a test"}`, 200, `"mode":"open"`)
	if want := "cap:00000000000000000000000000000000 {metadata open a test 1.5s}"; len(w.forced) != 1 || w.forced[0] != want {
		t.Errorf("%q, want %q", w.forced, want)
	}
	w.want(t, "POST", "/v1/admin/breakers/none", `{"state":"open"}`, 404, "")
	for _, body := range []string{`{"state":"open","for_ms":-1}`, `{"state":"open","for_ms":86400001}`,
		`{"state":"open","reason":"` + strings.Repeat("x", maxForceReason+1) + `"}`} {
		w.want(t, "POST", "/v1/admin/breakers/metadata", body, 422, "")
	}
	w.want(t, "POST", "/v1/admin/breakers/metadata", `{"state":"open","forms":1}`, 400, "")
	if len(w.forced) != 1 {
		t.Errorf("a refused request forces: %q", w.forced)
	}
}

// awayKV is metadata that is not there.
type awayKV struct{ store.KV }

var errAway = macronode.Errorf(macronode.Unavailable, "metadata is unavailable")

func (awayKV) View(context.Context, func(store.Reader) error) error { return errAway }
func (awayKV) Update(context.Context, func(store.Tx) error) error   { return errAway }

// While metadata is away operators still act, with an Idempotency-Key too, and a
// breaker's route never asks for metadata.
func TestKeysWithoutMetadata(t *testing.T) {
	w := newWorld(t, idem.New(idem.Config{KV: awayKV{}}))
	post := func(path, body, key string) (*macronode.Reply, error) {
		return w.call(t.Context(), "POST", path, body, macronode.Header{"Idempotency-Key": {key}})
	}
	if _, err := post("/v1/admin/reload", "", "a"); !errors.Is(err, errAway) || w.reloads != 0 {
		t.Fatalf("%v, %d reloads: while nobody knows that metadata is away, nothing is done", err, w.reloads)
	}
	force := func() *macronode.Reply {
		t.Helper()
		r, err := post("/v1/admin/breakers/metadata", `{"state":"open"}`, "b")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first, second := force(), force()
	if len(w.forced) != 1 || string(first.Body) != string(second.Body) || second.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("forced %d times; %v", len(w.forced), second.Header)
	}
	if _, err := post("/v1/admin/breakers/metadata", `{"state":"auto"}`, "b"); macronode.KindOf(err) != macronode.IdempotencyMismatch {
		t.Error(err)
	}
	w.away = true
	for range 2 {
		if _, err := post("/v1/admin/reload", "", "c"); err != nil || w.reloads != 1 {
			t.Fatalf("%v, %d reloads", err, w.reloads)
		}
	}
}

func (f *fake) Why(corrID string) (any, error) {
	if corrID != "a1" {
		return nil, macronode.Errorf(macronode.NotFound, "there are none from then to now")
	}
	return map[string]any{"refusals": []string{corrID}}, nil
}

func (f *fake) Answer() any { return map[string]any{} }

func TestWhy(t *testing.T) {
	w := newWorld(t, nil)
	w.want(t, "GET", "/v1/admin/why/a1", "", 200, `{"refusals":["a1"]}`)
	w.want(t, "GET", "/v1/admin/why/a2", "", 404, "from then to now")
	w.want(t, "GET", "/v1/admin/why/a1?x=1", "", 400, "unknown argument")
}
