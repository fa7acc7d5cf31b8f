// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms/locked"
	"github.com/rustyonions/macronode/internal/svc/kms/primitive"
)

// Options of Open; the zero value serves.
type Options struct {
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: nobody
	Metrics *Metrics         // nil: nothing is counted
}

// Store is the node's keys and objects, unsealed. Its methods may be called from
// any goroutine. Errors are *macronode.Error: NotFound, Conflict, Invalid, Denied
// (another purpose or algorithm than the use asks for), Integrity (the record is
// damaged), Unavailable (closed).
//
// Private keys never leave it: what callers get is signatures, and for minting
// keys a callback that sees the bytes while it runs.
type Store struct {
	vault   Vault
	now     func() time.Time
	log     *slog.Logger
	metrics *Metrics

	// change is held by one changer at a time, over its disk writes. It is
	// taken before use.
	change sync.Mutex

	// use is held shared while secrets are read, and alone while what is below
	// changes or secrets are wiped. No disk write happens under it.
	use         sync.RWMutex
	closed      bool
	auditor     macronode.Auditor
	chains      func() map[string]string // see GuardChains
	keys        map[string]*key
	objects     map[string][]*objectVersion // by name, ascending
	damaged     map[string]string           // record name to what is wrong
	publicStale bool
}

// key is a name with its versions. It is not changed once it is in the map;
// a change puts another in its place.
type key struct {
	name     string
	alg      Algorithm
	purpose  Purpose
	versions []*version // ascending
}

func (k *key) newest() *version { return k.versions[len(k.versions)-1] }

// find returns the version; 0 is the newest; nil where there is none.
func (k *key) find(n uint64) *version {
	if n == 0 {
		return k.newest()
	}
	i, ok := slices.BinarySearchFunc(k.versions, n, func(v *version, n uint64) int {
		switch {
		case v.number < n:
			return -1
		case v.number > n:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return k.versions[i]
}

// version is one generation of a key. Its fields do not change, but that wipe
// ends it.
type version struct {
	number  uint64
	created time.Time
	replay  [replayBytes]byte
	secret  *locked.Secret
	halves  []*primitive.Key
	wiped   bool // under Store.use
}

// newVersion takes secret over.
func newVersion(a *locked.Arena, alg Algorithm, number uint64, created time.Time, replay [replayBytes]byte, secret *locked.Secret) (*version, error) {
	v := &version{number: number, created: created, replay: replay, secret: secret}
	comps := algorithms[alg].components
	if secret.Len() != primitive.SeedBytes*len(comps) {
		secret.Wipe()
		return nil, primitive.ErrSecret
	}
	for i, c := range comps {
		h, err := primitive.New(c, a, secret.Bytes()[i*primitive.SeedBytes:(i+1)*primitive.SeedBytes])
		if err != nil {
			v.wipe()
			return nil, err
		}
		v.halves = append(v.halves, h)
	}
	return v, nil
}

func (v *version) wipe() {
	for _, h := range v.halves {
		h.Wipe()
	}
	v.secret.Wipe()
	v.wiped = true
}

func (v *version) raw() rawVersion {
	return rawVersion{version: v.number, created: v.created, replay: v.replay, secret: v.secret.Bytes()}
}

const (
	keyPrefix    = RefKey + "/"
	objectPrefix = RefObject + "/"
)

func objectRecord(name string, n uint64) string {
	return objectPrefix + name + "@v" + strconv.FormatUint(n, 10)
}

// Open reads every key out of v, which is the Store's from now on, also where
// Open fails. A damaged record is logged, told by Damaged, and refused when it
// is asked for; the others work.
func Open(v Vault, o Options) (*Store, error) {
	s := &Store{
		vault: v, now: o.Now, log: o.Log, metrics: o.Metrics,
		keys: make(map[string]*key), objects: make(map[string][]*objectVersion), damaged: make(map[string]string),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, record := range v.Names() {
		if err := s.read(record); err != nil {
			return nil, errors.Join(err, v.Close())
		}
	}
	for _, list := range s.objects {
		slices.SortFunc(list, func(a, b *objectVersion) int { return int(int64(a.number) - int64(b.number)) })
	}
	s.publish()
	return s, nil
}

// read takes one record in.
func (s *Store) read(record string) error {
	if rest, ok := strings.CutPrefix(record, objectPrefix); ok {
		ref, err := ParseRef("KMS:" + objectPrefix + rest)
		if err != nil || ref.Version == 0 {
			s.damage(record, "its name is not an object's")
			return nil
		}
		// Its bytes are read when they are asked for.
		s.objects[ref.Name] = append(s.objects[ref.Name], &objectVersion{number: ref.Version})
		return nil
	}
	name, ok := strings.CutPrefix(record, keyPrefix)
	if !ok || !ValidName(name) {
		s.damage(record, "its name is not a key's")
		return nil
	}
	err := s.vault.Load(record, func(plain []byte) error {
		k, err := s.unpack(name, plain)
		if err == nil {
			s.keys[name] = k
		}
		return err
	})
	var d *DamagedError
	switch {
	case errors.As(err, &d):
		s.damage(record, d.Why)
	case errors.Is(err, errRecord), errors.Is(err, primitive.ErrSecret):
		s.damage(record, errRecord.Error())
	case err != nil:
		return fmt.Errorf("kms: record %s: %w", record, err)
	}
	return nil
}

// unpack makes a key of its record.
func (s *Store) unpack(name string, plain []byte) (*key, error) {
	alg, purpose, raws, err := decodeKey(plain)
	if err != nil {
		return nil, err
	}
	k := &key{name: name, alg: alg, purpose: purpose}
	for i := range raws {
		r := &raws[i]
		v, err := newVersion(s.vault.Arena(), alg, r.version, r.created, r.replay, s.vault.Arena().Copy(r.secret))
		if err != nil {
			for _, v := range k.versions {
				v.wipe()
			}
			return nil, err
		}
		k.versions = append(k.versions, v)
	}
	return k, nil
}

// damage notes a record that cannot be used. It runs in Open, or under use.
func (s *Store) damage(record, why string) {
	s.damaged[record] = why
	s.log.Error("a record of the keystore is damaged", "event", "kms_damaged", "record", record, "reason", why)
}

// Damaged lists the records that cannot be used, with what is wrong with each.
func (s *Store) Damaged() map[string]string {
	s.use.RLock()
	defer s.use.RUnlock()
	return maps.Clone(s.damaged)
}

// Epoch counts the changes kept; see Vault.
func (s *Store) Epoch() uint64 { return s.vault.Epoch() }

// SetAuditor gives the store its auditor, which starts after it. Before that,
// and with nil, what happens is only logged.
func (s *Store) SetAuditor(a macronode.Auditor) {
	s.use.Lock()
	defer s.use.Unlock()
	s.auditor = a
}

// Close waits for uses to end, then wipes every secret. Everything after it
// fails with Unavailable.
func (s *Store) Close() error {
	s.change.Lock()
	defer s.change.Unlock()
	s.use.Lock()
	defer s.use.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	for _, k := range s.keys {
		for _, v := range k.versions {
			v.wipe()
		}
	}
	return s.vault.Close()
}

// Ready returns nil while the store is open, else Unavailable. Damaged records do
// not concern it: the others work.
func (s *Store) Ready() error {
	s.use.RLock()
	defer s.use.RUnlock()
	return s.ready()
}

// ready returns nil while the store is open. It needs s.use.
func (s *Store) ready() error {
	if s.closed {
		return macronode.Errorf(macronode.Unavailable, "the keystore is closed")
	}
	return nil
}

// lookup finds a key and checks its purpose; anyPurpose is every purpose. It needs s.use.
func (s *Store) lookup(name string, want Purpose) (*key, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	k, ok := s.keys[name]
	if !ok {
		if why, bad := s.damaged[keyPrefix+name]; bad {
			return nil, macronode.Wrap(macronode.Integrity, "the record of key "+name+" is damaged",
				&DamagedError{Name: keyPrefix + name, Why: why})
		}
		if !ValidName(name) {
			return nil, macronode.Errorf(macronode.Malformed, "a key's name is 1 to 64 of a-z, 0-9, dot, underscore and hyphen")
		}
		return nil, macronode.Errorf(macronode.NotFound, "there is no key %s", name)
	}
	if want != anyPurpose && k.purpose != want {
		return nil, macronode.Errorf(macronode.Denied, "key %s has purpose %s, which is not for this", name, k.purpose)
	}
	return k, nil
}

// anyPurpose, as a wanted purpose, is every one.
const anyPurpose Purpose = ""

// versionOf finds a version of k that is not wiped; 0 is the newest.
func (k *key) versionOf(n uint64) (*version, error) {
	v := k.find(n)
	if v == nil || v.wiped {
		return nil, macronode.Errorf(macronode.NotFound, "key %s has no version %d", k.name, n)
	}
	return v, nil
}

// actorKey is the context key of the acting principal.
type actorKey struct{}

// WithActor says in whose name the store is used, in the audit form ("cap:…").
// Without it the actor is "node".
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// event describes one use of a key or object for audit. The stream is the node's:
// keys are the operator's.
func (s *Store) event(ctx context.Context, o op, name string, attrs map[string]any) macronode.AuditEvent {
	actor, _ := ctx.Value(actorKey{}).(string)
	if actor == "" {
		actor = "node"
	}
	return macronode.AuditEvent{
		Stream: "node", Kind: "kms." + o.String(), Actor: actor,
		Subject: macronode.Resource{Kind: macronode.KeyResource, ID: name}.String(), Attrs: attrs,
	}
}

// before makes e durable before the change it speaks of; where that fails the
// change must not happen.
func (s *Store) before(ctx context.Context, e macronode.AuditEvent) error {
	s.use.RLock()
	a := s.auditor
	s.use.RUnlock()
	if a == nil {
		s.log.Info("kms", "event", e.Kind, "actor", e.Actor, "subject", e.Subject)
		return nil
	}
	if err := a.Append(ctx, e); err != nil {
		return macronode.Wrap(macronode.Unavailable, "the audit record could not be kept, so nothing was done", err)
	}
	return nil
}

// used makes the record of a key's use durable, and counts it. Where it fails, as err
// did, nobody may have what the key made.
func (s *Store) used(ctx context.Context, err error, o op, name string, alg Algorithm, version uint64) error {
	if err == nil {
		err = s.before(ctx, s.event(ctx, o, name, attrs(alg, version)))
	}
	s.metrics.count(o, alg, err)
	return err
}

// after records a question through the bounded queue. More are pairs of further attributes.
func (s *Store) after(ctx context.Context, o op, name string, alg Algorithm, version uint64, more ...string) {
	s.use.RLock()
	a := s.auditor
	s.use.RUnlock()
	if a == nil {
		return
	}
	m := attrs(alg, version)
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	a.Record(s.event(ctx, o, name, m))
}
