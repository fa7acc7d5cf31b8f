// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strconv"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// operatorOnly puts the operator's check and the actor's name before a handler.
func operatorOnly(h macronode.Handler) macronode.Handler {
	return func(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
		if err := operator(a); err != nil {
			return nil, err
		}
		return h(kms.WithActor(ctx, a.Actor()), a)
	}
}

const (
	defaultPage = 100
	maxPage     = 1000
)

// page cuts one page out of entries that ascend by key: those after the cursor.
// The cursor is the base64url of the last entry's key.
func page[T any](a *macronode.Admitted, entries []T, keyOf func(*T) string) ([]T, string, error) {
	limit := defaultPage
	if text := a.Arg("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return nil, "", macronode.Errorf(macronode.Malformed, "limit is 1 to %d", maxPage)
		}
		limit = n
	}
	if text := a.Arg("cursor"); text != "" {
		after, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(text) > 256 {
			return nil, "", macronode.Errorf(macronode.Malformed, "the cursor is not one of this list's")
		}
		i, found := slices.BinarySearchFunc(entries, string(after), func(e T, k string) int { return cmp.Compare(keyOf(&e), k) })
		if found {
			i++
		}
		entries = entries[i:]
	}
	if len(entries) <= limit {
		return entries, "", nil
	}
	entries = entries[:limit]
	return entries, base64.RawURLEncoding.EncodeToString([]byte(keyOf(&entries[limit-1]))), nil
}

type keyList struct {
	Keys   []kms.KeyInfo `json:"keys"`
	Cursor string        `json:"cursor"`
}

func (s *Service) listKeys(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	keys, err := s.store.List(ctx)
	if err != nil {
		return nil, err
	}
	out := keyList{}
	if out.Keys, out.Cursor, err = page(a, keys, func(k *kms.KeyInfo) string { return k.Name }); err != nil {
		return nil, err
	}
	return reply(200, out)
}

type createRequest struct {
	Name    string        `json:"name"`
	Alg     kms.Algorithm `json:"alg"`
	Purpose kms.Purpose   `json:"purpose"`
}

func (s *Service) createKey(ctx context.Context, a *macronode.Admitted, body []byte, _ *idem.Claim) (*macronode.Reply, error) {
	var q createRequest
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	p := kms.Spec{Name: q.Name, Alg: q.Alg, Purpose: q.Purpose, Replay: replayID(a)}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if q.Purpose != kms.PurposeApp && q.Purpose != kms.PurposeTLS {
		return nil, macronode.Errorf(macronode.Denied, "callers create keys of purpose %s or %s; others are made on the machine", kms.PurposeApp, kms.PurposeTLS)
	}
	info, made, err := s.store.Create(ctx, p)
	if err != nil {
		return nil, err
	}
	if made {
		return reply(201, info)
	}
	// A crash between the key and the record of its answer: the key itself
	// knows the request that made it.
	if first, ok := s.store.Made(q.Name, p.Replay); ok {
		out, err := reply(201, first)
		if err != nil {
			return nil, err
		}
		return replayed(*out), nil
	}
	return reply(200, info)
}

type rotateReply struct {
	Name      string          `json:"name"`
	Alg       kms.Algorithm   `json:"alg"`
	Purpose   kms.Purpose     `json:"purpose"`
	Version   uint64          `json:"version"`
	CreatedMS int64           `json:"created_ms"`
	Public    []kms.PublicKey `json:"public,omitempty"`
}

func (s *Service) rotateKey(ctx context.Context, a *macronode.Admitted, _ []byte, _ *idem.Claim) (*macronode.Reply, error) {
	name := a.Arg("key")
	k, err := s.store.Key(name)
	if err != nil {
		return nil, err
	}
	if k.Purpose == kms.PurposeNode {
		return nil, macronode.Errorf(macronode.Denied, "key %s is the node's identity; rotate it with the node stopped", name)
	}
	info, number, made, err := s.store.Rotate(ctx, kms.Spec{Name: name, Replay: replayID(a)})
	if err != nil {
		return nil, err
	}
	v := info.Find(number)
	out, err := reply(200, rotateReply{info.Name, info.Alg, info.Purpose, number, v.CreatedMS, v.Public})
	if err == nil && !made {
		out = replayed(*out)
	}
	return out, err
}

func (s *Service) dropVersion(ctx context.Context, a *macronode.Admitted, _ []byte, _ *idem.Claim) (*macronode.Reply, error) {
	number, err := strconv.ParseUint(a.Arg("version"), 10, 64)
	if err != nil || number == 0 || number > kms.MaxVersion {
		return nil, macronode.Errorf(macronode.Malformed, "version is a number from 1")
	}
	info, err := s.store.DropVersion(ctx, a.Arg("key"), number)
	if err != nil {
		return nil, err
	}
	return reply(200, info)
}

type csrRequest struct {
	DNS        []string `json:"dns,omitempty"`
	IPs        []string `json:"ips,omitempty"`
	CommonName string   `json:"common_name,omitempty"`
	Version    uint64   `json:"version,omitempty"` // 0: the newest
}

type csrReply struct {
	Key string `json:"key"` // NAME#vN
	CSR string `json:"csr"` // PEM, PKCS #10
}

func (s *Service) csr(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	var q csrRequest
	name, err := request(a, &q)
	if err != nil {
		return nil, err
	}
	spec, err := kms.ParseCertNames(q.DNS, q.IPs, q.CommonName)
	if err != nil {
		return nil, err
	}
	text, version, err := s.store.CertRequest(ctx, kms.Ref{Kind: kms.RefKey, Name: name, Version: q.Version}, spec)
	if err != nil {
		return nil, err
	}
	return reply(200, csrReply{versionName(name, version), string(text)})
}

func (s *Service) publicKey(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	info, err := s.store.Key(a.Arg("key"))
	if err != nil {
		return nil, err
	}
	if !info.Alg.Signs() {
		return nil, macronode.Errorf(macronode.NotFound, "key %s has no public half", info.Name)
	}
	return reply(200, info)
}

type signRequest struct {
	Message []byte `json:"message"` // base64
}

type signReply struct {
	Key string        `json:"key"` // NAME#vN
	Alg kms.Algorithm `json:"alg"`
	// Signature is the whole signature, in the form that verify takes.
	Signature []byte `json:"signature"`
	// Signatures are its halves.
	Signatures []halfReply `json:"signatures"`
}

type halfReply struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

func versionName(name string, n uint64) string { return name + "#v" + strconv.FormatUint(n, 10) }

// request reads the body into v and returns the key's name.
func request(a *macronode.Admitted, v any) (string, error) {
	body, err := readBody(a)
	if err != nil {
		return "", err
	}
	defer clear(body) // it may hold what was wrapped
	return a.Arg("key"), decode(body, v)
}

// once reads the body into v and runs f for the key's name, or answers as it did
// for the same Idempotency-Key.
func (s *Service) once(a *macronode.Admitted, v any, f func(name string) (*macronode.Reply, error)) (*macronode.Reply, error) {
	body, err := readBody(a)
	if err != nil {
		return nil, err
	}
	defer clear(body) // it may hold what is to be wrapped
	name := a.Arg("key")
	if err := decode(body, v); err != nil {
		return nil, err
	}
	return s.replays.do(replayID(a), s.replays.request(name, body), func() (*macronode.Reply, error) { return f(name) })
}

func (s *Service) sign(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	var q signRequest
	return s.once(a, &q, func(name string) (*macronode.Reply, error) {
		sig, err := s.store.Sign(ctx, name, kms.PurposeApp, q.Message)
		if err != nil {
			return nil, err
		}
		k, err := s.store.Key(name)
		if err != nil {
			return nil, err
		}
		out := signReply{Key: versionName(name, sig.Version), Alg: k.Alg, Signature: sig.Bytes()}
		for _, h := range sig.Halves {
			out.Signatures = append(out.Signatures, halfReply{h.KeyID(name, sig.Version), h.Sig})
		}
		return reply(200, out)
	})
}

type verifyRequest struct {
	Message   []byte `json:"message"`   // base64
	Signature []byte `json:"signature"` // base64, as sign gave it
}

type verifyReply struct {
	Valid bool `json:"valid"`
}

func (s *Service) verify(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	var q verifyRequest
	name, err := request(a, &q)
	if err != nil {
		return nil, err
	}
	sig, err := kms.ParseSignature(q.Signature)
	if err != nil {
		return nil, macronode.Errorf(macronode.Malformed, "signature is not in the form that sign returns")
	}
	ok, err := s.store.Verify(ctx, name, kms.PurposeApp, q.Message, sig)
	if err != nil {
		return nil, err
	}
	return reply(200, verifyReply{ok})
}

type wrapRequest struct {
	Plaintext []byte `json:"plaintext"` // base64
	AAD       []byte `json:"aad,omitempty"`
}

type wrapReply struct {
	Wrapped []byte `json:"wrapped"`
}

func (s *Service) wrap(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	var q wrapRequest
	defer func() { clear(q.Plaintext) }()
	return s.once(a, &q, func(name string) (*macronode.Reply, error) {
		wrapped, err := s.store.Wrap(ctx, name, kms.PurposeApp, q.Plaintext, q.AAD)
		if err != nil {
			return nil, err
		}
		return reply(200, wrapReply{wrapped})
	})
}

type unwrapRequest struct {
	Wrapped []byte `json:"wrapped"` // base64
	AAD     []byte `json:"aad,omitempty"`
}

type unwrapReply struct {
	Plaintext []byte `json:"plaintext"`
}

func (s *Service) unwrap(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	var q unwrapRequest
	name, err := request(a, &q)
	if err != nil {
		return nil, err
	}
	plain, err := s.store.Unwrap(ctx, name, kms.PurposeApp, q.Wrapped, q.AAD)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return reply(200, unwrapReply{plain})
}

func (s *Service) putObject(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	name, want := a.Arg("object"), a.Arg("version")
	if kms.Reserved(name) {
		return nil, macronode.Errorf(macronode.Denied, "object %s is the node's own", name)
	}
	var version uint64
	if want != "" {
		n, err := strconv.ParseUint(want, 10, 64)
		if err != nil || n == 0 || n > kms.MaxVersion {
			return nil, macronode.Errorf(macronode.Malformed, "version is a number from 1")
		}
		version = n
	}
	if a.Length > kms.MaxObjectBytes {
		return nil, macronode.Errorf(macronode.TooLarge, "an object is at most %d bytes", kms.MaxObjectBytes)
	}
	body, err := readBody(a)
	if err != nil {
		return nil, err
	}
	return s.replays.do(replayID(a), s.replays.request(name+"\x00"+want, body), func() (*macronode.Reply, error) {
		if version != 0 {
			if err := s.next(name, version); err != nil {
				return nil, err
			}
		}
		info, made, err := s.store.PutObject(ctx, name, version, body)
		if err != nil {
			return nil, err
		}
		if made {
			return reply(201, info)
		}
		return reply(200, info)
	})
}

// next refuses a version that leaves a gap. (On the machine one may: a bundle
// names the version it is going to pin.)
func (s *Service) next(name string, version uint64) error {
	newest, err := s.store.NewestVersion(name)
	if err != nil {
		return err
	}
	if version > newest+1 {
		return macronode.Errorf(macronode.Conflict, "the next version of object %s is %d", name, newest+1)
	}
	return nil
}

type objectList struct {
	Objects []kms.ObjectInfo `json:"objects"`
	Cursor  string           `json:"cursor"`
}

func (s *Service) listObjects(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	objects, err := s.store.Objects()
	if err != nil {
		return nil, err
	}
	out := objectList{}
	// The key sorts as the list does: by name, then by version as a number.
	out.Objects, out.Cursor, err = page(a, objects, func(o *kms.ObjectInfo) string {
		n := strconv.FormatUint(o.Version, 10)
		return o.Name + "\x00" + string(rune('a'+len(n))) + n
	})
	if err != nil {
		return nil, err
	}
	return reply(200, out)
}
