// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package store states what services may expect of the places that keep
// bytes. Drivers live below it (pebblekv, fileobj, mem); every driver and every
// wrapper passes the suites of storetest.
package store

import (
	"context"
	"errors"
	"io"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// Errors of all stores. Drivers wrap them; callers use errors.Is.
var (
	ErrNotFound = errors.New("store: not found")
	// ErrCorrupt: bytes came back that the store did not write. Of metadata or
	// a log it is fatal to the service that meets it; an object's damage is
	// confined to that object.
	ErrCorrupt = errors.New("store: corrupt")
	// ErrFull: no space beyond the reserve. Reads and deletes go on.
	ErrFull   = errors.New("store: disk full")
	ErrClosed = errors.New("store: closed")
	// ErrTooLarge: a key or value beyond the limits below, or an empty key.
	ErrTooLarge = errors.New("store: key or value too large")
	// ErrRange: an offset or length outside the object; nothing was written.
	ErrRange = errors.New("store: range outside the object")
)

// Refusal gives a store's error the kind that a caller of the node sees, with the
// cause hidden; an error that has a kind already is returned as it is.
func Refusal(err error) error {
	if _, ok := errors.AsType[*macronode.Error](err); ok || err == nil {
		return err
	}
	kind := macronode.Internal
	switch {
	case errors.Is(err, ErrFull):
		kind = macronode.DiskFull
	case errors.Is(err, ErrClosed), errors.Is(err, ErrCorrupt):
		kind = macronode.Unavailable
	case errors.Is(err, context.DeadlineExceeded):
		kind = macronode.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		kind = macronode.ClientGone
	}
	return macronode.Wrap(kind, "", err)
}

// Limits of keys and values, set so that every planned driver can hold them.
const (
	MaxKeyBytes   = 1024
	MaxValueBytes = 1 << 20
)

// Reader reads metadata at one moment. Keys sort bytewise on every driver.
type Reader interface {
	// Get returns the value, which the caller may keep and change, or ErrNotFound.
	Get(key []byte) ([]byte, error)
	// Scan calls f for each key in [lo, hi) in order until f returns false. A
	// nil lo is the start, a nil hi the end. Neither slice may be kept or
	// changed after f returns. In a Tx, a scan sees what was written before it
	// began; f may write.
	Scan(lo, hi []byte, f func(key, value []byte) bool) error
	// ScanDesc is Scan from the other end.
	ScanDesc(lo, hi []byte, f func(key, value []byte) bool) error
}

// Tx reads its own writes.
type Tx interface {
	Reader
	Set(key, value []byte) error
	// Delete of a missing key is no error.
	Delete(key []byte) error
}

// KV is ordered metadata with serializable transactions. Readers and
// transactions end with the closure they were given to: kept longer, they answer
// ErrClosed. An error from a closure comes back as it is. A closure must not
// call Update or Reclaim of the same KV: the one writer would wait for itself.
type KV interface {
	// View runs f on one consistent moment, which holds every Update that has
	// returned. What f has read is durable when View returns, so an answer may
	// be built on it; the same holds of an Update that failed or wrote nothing.
	View(ctx context.Context, f func(Reader) error) error
	// Update runs f and commits what it wrote, all or nothing. It returns once
	// the commit is durable: it survives kill -9 and power loss. Where f or
	// the commit fails nothing is kept. f may run more than once, so it has no
	// effect outside the Tx, does no I/O and is short: writers run one at a
	// time, while waits for the disk are shared. On ErrFull from Update the
	// store goes on reading, and deleting with Reclaim. The context ends the
	// wait for the writer's turn, not a commit that has begun. An error from a
	// commit whose fsync failed leaves the outcome unknown until the next
	// start, and Check failing.
	Update(ctx context.Context, f func(Tx) error) error
	// Reclaim is Update for transactions that free space; it may use the
	// reserve that Update leaves alone.
	Reclaim(ctx context.Context, f func(Tx) error) error
	// Check returns nil while the store can serve; it is cheap.
	Check(ctx context.Context) error
	Close() error
}

// Loc is a driver's own name for stored object bytes, opaque to callers, who
// keep it in their metadata. It is at most 64 bytes.
type Loc string

type reserveKey struct{}

// WithReserve returns a context with which Create makes a writer that may use
// the reserve: for copies that let other bytes be removed.
func WithReserve(ctx context.Context) context.Context {
	return context.WithValue(ctx, reserveKey{}, true)
}

// MayUseReserve reports whether ctx came from WithReserve.
func MayUseReserve(ctx context.Context) bool { return ctx.Value(reserveKey{}) != nil }

// Volume says of a place where objects are kept together (a pack of small ones,
// a directory of large ones) what is known without reading it through.
type Volume struct {
	// ID names it for WalkVolume and Settle: at most 40 printable ASCII bytes, never used again.
	ID string
	// Sealed: nothing is added any more, also after a restart.
	Sealed bool
	// Settled: Settle was called for it.
	Settled bool
	// Live and Dead are bytes on disk: of objects, and of removed objects that
	// still take room. They are the best that is known, -1 where nothing is;
	// of a Movable one they are exact after WalkVolume.
	Live, Dead int64
	// Movable: its dead bytes can be had back by storing the live objects
	// again elsewhere and removing them here; the volume goes with the last.
	Movable bool
}

// Objects keeps the bytes of objects. It knows addresses to verify, not tenants:
// two commits of the same bytes are two Locs.
type Objects interface {
	// Create starts a new object. sizeHint is the expected length, -1 unknown.
	Create(ctx context.Context, sizeHint int64) (ObjectWriter, error)
	// Open returns the object at loc, whose address and size the caller
	// expects; ErrNotFound, or ErrCorrupt where its frame is damaged.
	Open(ctx context.Context, loc Loc, addr b3.Addr, size int64) (Object, error)
	// Remove frees the places. A missing one is no error. All are durably gone
	// when it returns nil, with one sync for those that are kept together;
	// after an error any of them may be gone.
	Remove(ctx context.Context, locs ...Loc) error
	// Volumes lists where objects are, in no order. It reads at most a header of each.
	Volumes(ctx context.Context) ([]Volume, error)
	// WalkVolume calls f for each live object (committed and not removed) of
	// the volume until f returns false; f may remove. Objects committed or
	// removed meanwhile may be missed. One that is found damaged comes with
	// the zero address and size -1. A volume that is gone has none.
	WalkVolume(ctx context.Context, id string, f func(loc Loc, addr b3.Addr, size int64) bool) error
	// Settle records durably that the caller knows every live object of a
	// sealed volume: from then on it holds none that is nobody's, whatever
	// crashes. ErrRange where the volume is open, nil where it is gone.
	Settle(ctx context.Context, id string) error
	Check(ctx context.Context) error
	Close() error
}

// Walk is WalkVolume of every volume.
func Walk(ctx context.Context, o Objects, f func(loc Loc, addr b3.Addr, size int64) bool) error {
	volumes, err := o.Volumes(ctx)
	if err != nil {
		return err
	}
	more := true
	for _, v := range volumes {
		err := o.WalkVolume(ctx, v.ID, func(loc Loc, addr b3.Addr, size int64) bool {
			more = f(loc, addr, size)
			return more
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// ObjectWriter takes an object's bytes. Memory use does not grow with size.
type ObjectWriter interface {
	io.Writer
	// Commit returns once the bytes are durable under the returned Loc. The
	// object is not reachable until the caller keeps the Loc; a crash before
	// that leaves bytes which WalkVolume finds and the owner removes.
	Commit() (Loc, b3.Addr, int64, error)
	// Abort drops what was written. After Commit it does nothing.
	Abort()
}

// Object is stored bytes that are verified as they are read: bytes that do not
// belong to the address are never returned, ErrCorrupt is.
type Object interface {
	Size() int64
	// ReadAt fills p from off, as io.ReaderAt. Each call verifies every
	// 16 KiB group that it touches; aligned reads waste nothing.
	io.ReaderAt
	// WriteRange verifies and writes [off, off+n) to w in large pieces. ErrRange
	// where that is not inside the object. w must not keep or change a piece.
	WriteRange(w io.Writer, off, n int64) (int64, error)
	// Parent returns the verified parent above the m groups, m >= 2, from group
	// s, which must be a node of the object's tree: what a slice is made of.
	// ErrRange where m is less.
	Parent(s, m int64) ([b3.ParentBytes]byte, error)
	io.Closer
}
