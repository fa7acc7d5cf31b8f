// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package media

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/memo"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate"
	"github.com/rustyonions/macronode/internal/svc/omnigate/media/picture"
	"github.com/rustyonions/macronode/internal/svc/omnigate/media/sniff"
)

// Name is the facet's.
const Name = "media"

// Object is a tenant's object, to be read at any place; every byte is verified before
// ReadAt returns it.
type Object interface {
	io.ReaderAt
	io.Closer
	Size() int64
	ContentType() string
}

// Objects are the tenants' objects.
type Objects interface {
	// Get and Stat answer a call with an argument addr as svc-storage does.
	Get(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error)
	Stat(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error)
	// Open opens the object; NotFound where the tenant has none. ctx lasts as long as
	// it is read.
	Open(ctx context.Context, tenant macronode.TenantID, addr b3.Addr) (Object, error)
}

// Bounds of work and memory.
const (
	// DefaultMemory is what all decoding at a time may take, in bytes.
	DefaultMemory = 320 << 20
	// DefaultTime is how long one image may take.
	DefaultTime = 4 * time.Second
	// DefaultWait is how long a call waits for memory.
	DefaultWait = 3 * time.Second
	// DefaultCache is for thumbnails, in bytes.
	DefaultCache = 32 << 20

	maxTypes    = 64 << 10 // remembered, in objects
	maxJudged   = 4 << 10
	thumbExtra  = 256 // bytes that a thumbnail takes beside its own
	slowFor     = 10 * time.Second
	maxThumb    = 2048 // pixels of a side
	defaultSide = 256
)

// Config is what New needs. Objects is required; a zero member else means its default.
type Config struct {
	Objects       Objects
	Memory, Cache int64
	Time, Wait    time.Duration
	Metrics       *Metrics // nil: nothing is counted
	Now           func() time.Time
}

// Facet is media.
type Facet struct {
	cfg    Config
	memory *semaphore.Weighted

	types  *memo.Memo[spot, string]
	judged *memo.Memo[spot, judged]
	thumbs *memo.Memo[order, thumb]

	mu   sync.Mutex
	work map[order]chan struct{} // thumbnails being made; closed at the end
}

// spot is a tenant's object.
type spot struct {
	tenant macronode.TenantID
	addr   b3.Addr
}

var _ omnigate.Facet = (*Facet)(nil)

// New returns the facet.
func New(c Config) (*Facet, error) {
	if c.Objects == nil {
		return nil, errors.New("media: Objects is required")
	}
	if c.Memory <= 0 {
		c.Memory = DefaultMemory
	}
	if c.Memory < picture.MaxMemory+picture.MaxBytes+boxBytes(picture.Box{W: maxThumb, H: maxThumb}) {
		return nil, errors.New("media: the memory is less than one image may take")
	}
	if c.Cache <= 0 {
		c.Cache = DefaultCache
	}
	if c.Time <= 0 {
		c.Time = DefaultTime
	}
	if c.Wait <= 0 {
		c.Wait = DefaultWait
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Facet{
		cfg: c, memory: semaphore.NewWeighted(c.Memory), work: make(map[order]chan struct{}),
		types: memo.New[spot, string](maxTypes, c.Now), judged: memo.New[spot, judged](maxJudged, c.Now), thumbs: memo.New[order, thumb](c.Cache, c.Now),
	}, nil
}

// Name implements omnigate.Facet.
func (f *Facet) Name() string { return Name }

// Serve implements omnigate.Facet: it begins, and ends, with nothing remembered.
func (f *Facet) Serve(ctx context.Context) error {
	f.Forget()
	<-ctx.Done()
	f.Forget()
	return nil
}

// Ready implements omnigate.Facet.
func (f *Facet) Ready(context.Context) error { return nil }

// Forget throws away all that is remembered.
func (f *Facet) Forget() {
	f.types.Clear()
	f.judged.Clear()
	f.thumbs.Clear()
}

// CacheBytes is what thumbnails take.
func (f *Facet) CacheBytes() int64 { return f.thumbs.Cost() }

func addrArg(a *macronode.Admitted) (b3.Addr, error) {
	addr, err := b3.Parse(a.Arg("addr"))
	if err != nil {
		return addr, macronode.Errorf(macronode.Malformed, "not an address: %w", err)
	}
	return addr, nil
}

// readError gives an error of reading an object the kind that callers see.
func readError(err error) error {
	if err == nil {
		return macronode.Wrap(macronode.Integrity, "", io.ErrUnexpectedEOF)
	}
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, io.ErrUnexpectedEOF) {
		return macronode.Wrap(macronode.Integrity, "", err)
	}
	return store.Refusal(err)
}

// sniffed is what the object's beginning says that it is.
func (f *Facet) sniffed(at spot, o Object) (string, error) {
	if t, ok := f.types.Get(at); ok {
		return t, nil
	}
	head := make([]byte, min(o.Size(), sniff.HeadBytes))
	if n, err := o.ReadAt(head, 0); n < len(head) {
		return "", readError(err)
	}
	t := sniff.Type(head)
	f.types.Put(at, t, 1, 0)
	return t, nil
}
