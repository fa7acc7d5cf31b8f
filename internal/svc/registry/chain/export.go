// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/registry"
)

// batch is how many entries are read at a time.
const batch = 64

// Export writes the whole chain in lines, as registry.Verify reads them.
func (c *Chain) Export(ctx context.Context, kv store.KV, w io.Writer) (n int64, err error) {
	line := func(l registry.Line) error {
		b, err := json.Marshal(l)
		if err != nil {
			return err
		}
		m, err := w.Write(append(b, '\n'))
		n += int64(m)
		return err
	}
	if err := line(registry.Line{Entry: c.Genesis}); err != nil {
		return n, err
	}
	next := uint64(1)
	if c.First > 0 {
		var base *registry.Base
		err := kv.View(ctx, func(r store.Reader) (err error) {
			if base, err = ReadBase(r); err != nil || base == nil {
				return cmp.Or(err, errors.New("the base is gone"))
			}
			return r.Scan([]byte(leafPrefix), seqKey(leafPrefix, c.First), func(_, v []byte) bool {
				base.Leaves = append(base.Leaves, v...)
				return true
			})
		})
		if err != nil {
			return n, err
		}
		if err := line(registry.Line{Base: base}); err != nil {
			return n, err
		}
		next = c.First
	}
	for size := c.State.Size(); next < size; {
		var page [][]byte
		err := kv.View(ctx, func(r store.Reader) error {
			return r.Scan(seqKey(entryPrefix, next), seqKey(entryPrefix, min(size, next+batch)), func(_, v []byte) bool {
				page = append(page, bytes.Clone(v))
				return true
			})
		})
		if err != nil {
			return n, err
		}
		if len(page) == 0 {
			return n, errors.New("entries were dropped while they were exported")
		}
		for _, text := range page {
			if err := line(registry.Line{Entry: text}); err != nil {
				return n, err
			}
			next++
		}
	}
	if c.Signed == nil {
		return n, nil
	}
	return n, line(registry.Line{Head: c.Signed})
}
