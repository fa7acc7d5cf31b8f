// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fsck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/collect"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// references checks each one's bytes, and sums up usage.
func (c *checker) references(ctx context.Context) error {
	return c.pages(ctx, refs.RefPrefix, func(some []entry) error {
		for _, e := range some {
			if err := c.reference(ctx, e); err != nil {
				return err
			}
		}
		c.o.Progress(Progress{Phase: "objects", Done: c.r.Objects, Bytes: c.r.Bytes})
		return nil
	})
}

func (c *checker) reference(ctx context.Context, e entry) error {
	o, err := refs.ParseOwner(e.key)
	if err != nil {
		c.found(LostReference, fmt.Sprintf("key %x", e.key), "the key is not one of a reference", false)
		return c.drop(ctx, e)
	}
	ref, err := refs.Decode(e.value)
	if err != nil {
		c.found(LostReference, subject(o), "the reference cannot be read", false)
		return c.drop(ctx, e)
	}
	u := c.usage[o.Tenant]
	u.Bytes += ref.Size
	u.Objects++
	c.usage[o.Tenant] = u
	c.r.Objects++
	c.r.Bytes += ref.Size
	if err := c.owned(ctx, o, ref); err != nil {
		return err
	}
	err = c.verify(ctx, o, ref)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrNotFound):
		return err
	}
	c.found(LostBytes, subject(o), err.Error(), false)
	if !c.o.Repair {
		return nil
	}
	return c.kv.Reclaim(ctx, func(tx store.Tx) error {
		_, err := refs.Quarantine(tx, ref.Loc, c.o.NowMS, "fsck")
		return err
	})
}

// drop removes an entry that is of no use, where repairs are asked for: it would
// keep the service from reading its neighbours.
func (c *checker) drop(ctx context.Context, e entry) error {
	if !c.o.Repair {
		return nil
	}
	return c.kv.Reclaim(ctx, func(tx store.Tx) error { return tx.Delete(append([]byte(refs.RefPrefix), e.key...)) })
}

// owned checks that the bytes know the reference.
func (c *checker) owned(ctx context.Context, o refs.Owner, ref refs.Reference) error {
	var owners []refs.Owner
	var odd error
	err := c.kv.View(ctx, func(r store.Reader) (err error) {
		owners, err = refs.Owners(r, ref.Loc)
		if errors.Is(err, refs.ErrMeta) {
			odd, err = err, nil
		}
		return err
	})
	if err != nil || (odd == nil && slices.Contains(owners, o)) {
		return err
	}
	if !c.o.Repair {
		c.claimed[ref.Loc] = true
	}
	return c.mend(ctx, NoOwner, subject(o), "its bytes do not know of it", func(tx store.Tx) error {
		if odd != nil {
			return refs.SetOwners(tx, ref.Loc, []refs.Owner{o})
		}
		return refs.SetOwners(tx, ref.Loc, append(owners, o))
	})
}

// verify reads the object's bytes, or where Quick opens them.
func (c *checker) verify(ctx context.Context, o refs.Owner, ref refs.Reference) error {
	if !c.o.Quick {
		return collect.Verify(ctx, c.objects, ref.Loc, o.Addr, ref.Size)
	}
	obj, err := c.objects.Open(ctx, ref.Loc, o.Addr, ref.Size)
	if err != nil {
		return err
	}
	return obj.Close()
}

// owners checks that each owner of stored bytes has a reference to them.
func (c *checker) owners(ctx context.Context) error {
	return c.pages(ctx, refs.LocPrefix, func(some []entry) error {
		for _, e := range some {
			if err := c.ownersOf(ctx, store.Loc(e.key), e.value); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *checker) ownersOf(ctx context.Context, l store.Loc, value []byte) error {
	owners, err := refs.ParseOwners(value)
	if c.claimed[l] {
		return nil
	}
	if err != nil {
		// References that need it have mended it in the phase before, so
		// nobody does.
		return c.mend(ctx, StaleOwner, "bytes at "+string(l), "their owners cannot be read", func(tx store.Tx) error { return refs.LetGo(tx, l) })
	}
	var good []refs.Owner
	err = c.kv.View(ctx, func(r store.Reader) error {
		good = good[:0]
		for _, o := range owners {
			ref, err := refs.Get(r, o)
			switch {
			case err == nil && ref.Loc == l:
				good = append(good, o)
			case err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, refs.ErrMeta):
			default:
				return err
			}
		}
		return nil
	})
	if err != nil || len(good) == len(owners) {
		return err
	}
	return c.mend(ctx, StaleOwner, "bytes at "+string(l), fmt.Sprintf("%d of %d owners refer to them", len(good), len(owners)), func(tx store.Tx) error {
		if len(good) == 0 {
			return refs.LetGo(tx, l)
		}
		return refs.SetOwners(tx, l, good)
	})
}

// usages compares what is kept of each tenant with the sum of its references.
func (c *checker) usages(ctx context.Context) error {
	kept := make(map[string]bool)
	err := c.pages(ctx, refs.UsagePrefix, func(some []entry) error {
		for _, e := range some {
			kept[string(e.key)] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for t := range c.usage {
		kept[string(t[:])] = true
	}
	c.r.Tenants = int64(len(c.usage))
	for key := range kept {
		if err := c.usageOf(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) usageOf(ctx context.Context, key string) error {
	t, ok := refs.ParseTenant(key)
	if !ok {
		return c.mend(ctx, WrongUsage, fmt.Sprintf("key %x", key), "no tenant", func(tx store.Tx) error { return tx.Delete([]byte(refs.UsagePrefix + key)) })
	}
	var have refs.Usage
	odd := false
	err := c.kv.View(ctx, func(r store.Reader) (err error) {
		have, err = refs.GetUsage(r, t)
		if odd = errors.Is(err, refs.ErrMeta); odd {
			err = nil
		}
		return err
	})
	want := c.usage[t]
	if err != nil || (!odd && have == want) {
		return err
	}
	detail := fmt.Sprintf("kept are %d bytes in %d objects, the references have %d in %d", have.Bytes, have.Objects, want.Bytes, want.Objects)
	return c.mend(ctx, WrongUsage, "tenant "+t.String(), detail, func(tx store.Tx) error { return refs.SetUsage(tx, t, want) })
}

// queue checks that what waits to be removed is not in use.
func (c *checker) queue(ctx context.Context) error {
	return c.pages(ctx, refs.FreePrefix, func(some []entry) error {
		for _, e := range some {
			l := store.Loc(e.key)
			var owners []refs.Owner
			if err := c.kv.View(ctx, func(r store.Reader) (err error) { owners, err = refs.Owners(r, l); return err }); err != nil {
				if errors.Is(err, refs.ErrMeta) {
					continue // named by the phase before
				}
				return err
			}
			if len(owners) == 0 {
				continue
			}
			if err := c.mend(ctx, WrongQueue, "bytes at "+string(l), "they are in use", func(tx store.Tx) error { return tx.Delete(refs.FreeKey(l)) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// marks checks that what is in quarantine is somebody's, and damaged.
func (c *checker) marks(ctx context.Context) error {
	return c.pages(ctx, refs.BadPrefix, func(some []entry) error {
		for _, e := range some {
			l := store.Loc(e.key)
			bad, err := c.stillBad(ctx, l)
			if err != nil {
				return err
			}
			if bad {
				continue
			}
			if err := c.mend(ctx, StaleMark, "bytes at "+string(l), "they are gone or verify", func(tx store.Tx) error { return refs.Release(tx, l) }); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *checker) stillBad(ctx context.Context, l store.Loc) (bool, error) {
	var o refs.Owner
	var ref refs.Reference
	err := c.kv.View(ctx, func(r store.Reader) error {
		owners, err := refs.Owners(r, l)
		if err != nil {
			return err
		}
		if len(owners) == 0 {
			return store.ErrNotFound
		}
		o = owners[0]
		ref, err = refs.Get(r, o)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound) || errors.Is(err, refs.ErrMeta):
		return false, nil
	case err != nil:
		return false, err
	}
	err = collect.Verify(ctx, c.objects, l, o.Addr, ref.Size)
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return false, err
}

// volumes looks for bytes that nobody knows.
func (c *checker) volumes(ctx context.Context) error {
	volumes, err := c.objects.Volumes(ctx)
	if err != nil {
		return err
	}
	for i, v := range volumes {
		c.o.Progress(Progress{Phase: "volumes", Done: int64(i), Total: int64(len(volumes))})
		var inner error
		some := make([]store.Loc, 0, page)
		err := c.objects.WalkVolume(ctx, v.ID, func(l store.Loc, _ b3.Addr, _ int64) bool {
			some = append(some, l)
			if len(some) == page {
				inner = c.strangers(ctx, some)
				some = some[:0]
			}
			return inner == nil
		})
		if err == nil && inner == nil {
			inner = c.strangers(ctx, some)
		}
		if err := errors.Join(err, inner); err != nil {
			return err
		}
		c.r.Volumes++
	}
	return nil
}

// strangers removes, or only names, those of some that nobody knows.
func (c *checker) strangers(ctx context.Context, some []store.Loc) error {
	var unknown []store.Loc
	err := c.kv.View(ctx, func(r store.Reader) error {
		unknown = unknown[:0]
		for _, l := range some {
			known, err := refs.Known(r, l)
			if err != nil {
				return err
			}
			if !known && !c.claimed[l] {
				unknown = append(unknown, l)
			}
		}
		return nil
	})
	if err != nil || len(unknown) == 0 {
		return err
	}
	if c.o.Repair {
		if err := c.objects.Remove(ctx, unknown...); err != nil {
			return err
		}
	}
	for _, l := range unknown {
		c.found(Unreferenced, "bytes at "+string(bytes.ToValidUTF8([]byte(l), nil)), "nobody refers to them", c.o.Repair)
	}
	return nil
}
