// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// shareBytes is the size from which bytes are worth sharing.
const shareBytes = 4 << 10

// copyOf is one tenant's reference to an object.
type copyOf struct {
	owner refs.Owner
	ref   refs.Reference
}

// share looks for objects that several tenants hold, a part of the address space
// at a time.
func (p *pass) share(ctx context.Context) error {
	tenants, err := p.tenants(ctx)
	if err != nil || len(tenants) < 2 {
		return err
	}
	return p.sharePart(ctx, tenants, nil)
}

// tenants returns everybody who holds an object, by leaping over their keys.
func (p *pass) tenants(ctx context.Context) (list []macronode.TenantID, err error) {
	lo, hi := []byte(refs.RefPrefix), refs.After([]byte(refs.RefPrefix))
	for {
		found := false
		err = p.c.KV.View(ctx, func(r store.Reader) error {
			var bad error
			err := r.Scan(lo, hi, func(key, _ []byte) bool {
				var o refs.Owner
				if o, bad = refs.ParseOwner(key[len(refs.RefPrefix):]); bad == nil {
					list, found = append(list, o.Tenant), true
				}
				return false
			})
			return errors.Join(err, bad)
		})
		if err != nil || !found {
			return list, meta(err)
		}
		lo = refs.After(refs.TenantKeys(list[len(list)-1]))
	}
}

// sharePart looks at the addresses that begin with prefix. Where there are too
// many it looks at parts of them.
func (p *pass) sharePart(ctx context.Context, tenants []macronode.TenantID, prefix []byte) error {
	began := time.Now()
	all := make(map[b3.Addr][]copyOf)
	n := 0
	for _, t := range tenants {
		more, err := p.gather(ctx, t, prefix, sharePart-n, all)
		if err != nil {
			return err
		}
		if n += more; n >= sharePart && len(prefix) < 4 {
			clear(all)
			for i := range 256 {
				if err := p.sharePart(ctx, tenants, append(prefix[:len(prefix):len(prefix)], byte(i))); err != nil {
					return err
				}
			}
			return nil
		}
	}
	if err := p.pause(ctx, began); err != nil {
		return err
	}
	for _, copies := range all {
		if err := p.shareOne(ctx, copies); err != nil {
			return err
		}
	}
	return nil
}

// gather adds up to limit references of t to all.
func (p *pass) gather(ctx context.Context, t macronode.TenantID, prefix []byte, limit int, all map[b3.Addr][]copyOf) (n int, err error) {
	lo := append(refs.TenantKeys(t), prefix...)
	var bad error
	err = p.c.KV.View(ctx, func(r store.Reader) error {
		return r.Scan(lo, refs.After(lo), func(key, value []byte) bool {
			var c copyOf
			if c.owner, bad = refs.ParseOwner(key[len(refs.RefPrefix):]); bad != nil {
				return false
			}
			if c.ref, bad = refs.Decode(value); bad != nil {
				return false
			}
			if c.ref.Size >= shareBytes {
				all[c.owner.Addr] = append(all[c.owner.Addr], c)
				n++
			}
			return n < limit
		})
	})
	return n, meta(errors.Join(err, bad))
}

// shareOne makes the holders of one object refer to the first copy that verifies.
func (p *pass) shareOne(ctx context.Context, copies []copyOf) error {
	var other bool
	for _, c := range copies[1:] {
		other = other || c.ref.Loc != copies[0].ref.Loc
	}
	if !other {
		return nil
	}
	if p.o.DryRun {
		places := make(map[store.Loc]bool)
		for _, c := range copies {
			places[c.ref.Loc] = true
		}
		p.r.add(Duplicate, int64(len(places)-1), int64(len(places)-1)*copies[0].ref.Size)
		return nil
	}
	good, ok, err := p.firstGood(ctx, copies)
	if err != nil || !ok {
		return err
	}
	for _, c := range copies {
		if c.ref.Loc == good {
			continue
		}
		began, shared := time.Now(), false
		err := p.c.KV.Reclaim(ctx, func(tx store.Tx) (err error) {
			shared, err = refs.Share(tx, c.owner, c.ref.Loc, good)
			return err
		})
		if err != nil {
			return meta(err)
		}
		if shared {
			p.r.add(Duplicate, 1, c.ref.Size)
			p.c.Metrics.Shared(1)
			p.Wake()
		}
		if err := p.pause(ctx, began); err != nil {
			return err
		}
	}
	return nil
}

// firstGood returns the place of the first of the copies that verifies.
func (p *pass) firstGood(ctx context.Context, copies []copyOf) (store.Loc, bool, error) {
	for i, c := range copies {
		if i > 0 && c.ref.Loc == copies[i-1].ref.Loc {
			continue
		}
		began := time.Now()
		err := Verify(ctx, p.c.Objects, c.ref.Loc, c.owner.Addr, c.ref.Size)
		if perr := p.pause(ctx, began); perr != nil {
			return "", false, perr
		}
		switch {
		case err == nil:
			return c.ref.Loc, true, nil
		case errors.Is(err, store.ErrCorrupt):
			p.r.add(Damaged, 1, c.ref.Size)
			p.c.Damaged(ctx, c.ref.Loc, err)
		case errors.Is(err, store.ErrNotFound): // moved, or gone, meanwhile
		default:
			return "", false, err
		}
	}
	return "", false, nil
}

// Verify reads the whole object at l. It returns store.ErrCorrupt where a byte is
// not the object's.
func Verify(ctx context.Context, objects store.Objects, l store.Loc, addr b3.Addr, size int64) error {
	o, err := objects.Open(ctx, l, addr, size)
	if err != nil {
		return err
	}
	defer o.Close()
	n, err := o.WriteRange(untilDone{ctx}, 0, size)
	if err == nil && n != size {
		err = errors.Join(store.ErrCorrupt, io.ErrUnexpectedEOF)
	}
	return err
}

// untilDone takes bytes while ctx lasts.
type untilDone struct{ ctx context.Context }

func (u untilDone) Write(p []byte) (int, error) { return len(p), u.ctx.Err() }
