// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package idem

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// DefaultTTL is how long a record is kept where a service does not say.
const DefaultTTL = 24 * time.Hour

// MaxReplyBytes bounds the body of a reply that can be kept.
const MaxReplyBytes = store.MaxValueBytes / 2

// Config says where records are kept and for how long.
type Config struct {
	KV  store.KV
	TTL time.Duration    // 0: DefaultTTL
	Now func() time.Time // nil: time.Now
}

// Keeper knows the keys in use. One Keeper serves a whole node; views of it
// made by For share its state. It is safe for concurrent use.
type Keeper struct {
	*state
	ttl time.Duration
}

type state struct {
	kv  store.KV
	now func() time.Time

	mu      sync.Mutex
	running map[id]struct{} // guarded by mu; bounded by the calls in flight
}

// id is tenant and hash of (op, key): the fixed-width tail of a record's key.
type id [16 + sha256.Size]byte

// New returns a Keeper over cfg.KV.
func New(cfg Config) *Keeper {
	if cfg.TTL <= 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Keeper{
		state: &state{kv: cfg.KV, now: cfg.Now, running: make(map[id]struct{})},
		ttl:   cfg.TTL,
	}
}

// For returns a view of k that keeps records for ttl, for a route whose
// replay window differs.
func (k *Keeper) For(ttl time.Duration) *Keeper { return &Keeper{state: k.state, ttl: ttl} }

// Claim is one call's hold on its key. It belongs to the goroutine of the call.
type Claim struct {
	k       *Keeper
	id      id
	holding bool    // in the running set
	rec     *record // the first call's, where there was one
	fp      Fingerprint
	known   bool // fp is set
	kept    bool
}

// CheckKey reports whether key is 1 to 128 visible ASCII characters.
func CheckKey(key string) error {
	if key == "" || len(key) > macronode.MaxIdempotencyKeyBytes {
		return macronode.Errorf(macronode.Malformed, "Idempotency-Key is 1 to %d characters long", macronode.MaxIdempotencyKeyBytes)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return macronode.Errorf(macronode.Malformed, "Idempotency-Key holds visible ASCII characters alone")
		}
	}
	return nil
}

// Open claims the call's key. It returns nil and no error where the call has
// no key; IdempotencyRunning where another call holds the key; Malformed for a
// key that is none. Whatever it returned, Release must follow.
func (k *Keeper) Open(ctx context.Context, a *macronode.Admitted) (*Claim, error) {
	key := a.IdempotencyKey
	if key == "" {
		return nil, nil
	}
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	c := &Claim{k: k, id: makeID(a.Tenant.ID, a.Binding.Op, key)}
	if !k.hold(c.id) {
		return nil, macronode.Errorf(macronode.IdempotencyRunning, "a call with this Idempotency-Key has not ended yet")
	}
	c.holding = true
	// The record is read after the key is held: whoever held it before has
	// committed or given up by now.
	rec, err := k.lookup(ctx, c.id)
	if err != nil {
		c.Release()
		return nil, store.Refusal(err)
	}
	if rec != nil {
		c.rec = rec
		c.Release() // replays do not exclude each other
	}
	return c, nil
}

// Begin is Open and Match for a call whose request is known from the start. A
// reply is the replay of the first answer.
func (k *Keeper) Begin(ctx context.Context, a *macronode.Admitted, fp Fingerprint) (*Claim, *macronode.Reply, error) {
	c, err := k.Open(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	r, err := c.Match(fp)
	if err != nil || r != nil {
		c.Release()
		return nil, r, err
	}
	return c, nil, nil
}

// Recorded reports whether the key has its answer already, so that the call
// can only be a replay or a mismatch and must change nothing.
func (c *Claim) Recorded() bool { return c != nil && c.rec != nil }

// Match says what the call's request is. It returns the first answer where the
// key has one for the same request, IdempotencyMismatch where it has one for
// another, and neither where this is the first call.
func (c *Claim) Match(fp Fingerprint) (*macronode.Reply, error) {
	if c == nil {
		return nil, nil
	}
	if c.rec != nil {
		if c.rec.fp != fp {
			return nil, Mismatch()
		}
		return c.rec.replay(), nil
	}
	c.fp, c.known = fp, true
	return nil, nil
}

// Mismatch is the refusal of a key that was used for another request.
func Mismatch() error {
	return macronode.Errorf(macronode.IdempotencyMismatch, "this Idempotency-Key was used for another request")
}

// errUnmatched is a bug of the caller, not of the request.
var errUnmatched = errors.New("idem: a reply was kept before the request was known")

// errStream says that a reply cannot be kept.
var errStream = errors.New("idem: a reply with a stream, or too large a body, cannot be kept")

// Keep writes r as the answer of this key into tx, the transaction of the
// change itself. It may be called again in a transaction that runs again. It
// keeps nothing of a 5xx reply. It fails with IdempotencyRunning where another
// process of a shared store was faster: the transaction must then fail too.
func (c *Claim) Keep(tx store.Tx, r *macronode.Reply) error {
	if c == nil || r.Status >= 500 {
		return nil
	}
	if !c.known {
		return errUnmatched
	}
	if r.Stream != nil || len(r.Body) > MaxReplyBytes {
		return errStream
	}
	now := c.k.now()
	old, err := get(tx, c.id)
	if err != nil {
		return err
	}
	if old != nil && !old.expired(now) {
		return macronode.Errorf(macronode.IdempotencyRunning, "another call with this Idempotency-Key ended meanwhile")
	}
	rec := record{expires: now.Add(c.k.ttl).UnixMilli(), fp: c.fp, status: r.Status, ctype: r.ContentType, header: r.Header, body: r.Body}
	if err := tx.Set(recordKey(c.id), rec.encode()); err != nil {
		return err
	}
	if err := tx.Set(expiryKey(rec.expires, c.id), nil); err != nil {
		return err
	}
	c.kept = true
	return nil
}

// Fail keeps cause as the answer of this key where it is [Final], in a
// transaction of its own, and returns it; where it cannot be kept, the store's
// error is returned instead, since the promise would be broken.
func (c *Claim) Fail(ctx context.Context, a *macronode.Admitted, cause error) error {
	e := macronode.AsError(cause)
	if c == nil || !c.known || c.rec != nil || !Final(e.Kind) {
		return cause
	}
	r, err := errorReply(e, a.CorrID)
	if err != nil {
		return macronode.Wrap(macronode.Internal, "", err)
	}
	err = c.k.kv.Update(context.WithoutCancel(ctx), func(tx store.Tx) error { return c.Keep(tx, r) })
	if err != nil {
		return store.Refusal(err)
	}
	return cause
}

// Release ends the claim. It may be called more than once.
func (c *Claim) Release() {
	if c == nil || !c.holding {
		return
	}
	c.holding = false
	c.k.mu.Lock()
	delete(c.k.running, c.id)
	c.k.mu.Unlock()
}

// Final reports whether a refusal of kind k, made by a handler, is kept: the
// ones that speak of the request and the state it met, and that a client must
// answer with a new request. Refusals that pass (quota, load, time) or that
// stop a request before its end (too large) are not.
func Final(k macronode.Kind) bool {
	switch k {
	case macronode.NotFound, macronode.Conflict, macronode.LeaseLost, macronode.PreconditionFailed,
		macronode.BadDigest, macronode.Invalid:
		return true
	default:
		return false
	}
}

func (s *state) hold(i id) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.running[i]; ok {
		return false
	}
	s.running[i] = struct{}{}
	return true
}

// lookup returns the live record of i, or nil.
func (s *state) lookup(ctx context.Context, i id) (rec *record, err error) {
	err = s.kv.View(ctx, func(r store.Reader) error {
		rec, err = get(r, i)
		return err
	})
	if err != nil || rec == nil || rec.expired(s.now()) {
		return nil, err
	}
	return rec, nil
}

func get(r store.Reader, i id) (*record, error) {
	v, err := r.Get(recordKey(i))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeRecord(v)
}

func makeID(t macronode.TenantID, op macronode.Op, key string) id {
	// Neither an op nor a key holds a NUL, so the pair is unambiguous.
	b := make([]byte, 0, 256)
	b = append(b, op...)
	b = append(b, 0)
	b = append(b, key...)
	h := sha256.Sum256(b)
	var i id
	copy(i[:16], t[:])
	copy(i[16:], h[:])
	return i
}

const (
	recordPrefix = "idem/r/"
	expiryPrefix = "idem/t/"
)

func recordKey(i id) []byte { return append([]byte(recordPrefix), i[:]...) }

func expiryKey(ms int64, i id) []byte {
	b := binary.BigEndian.AppendUint64([]byte(expiryPrefix), uint64(ms))
	return append(b, i[:]...)
}
