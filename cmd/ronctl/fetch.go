// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

// fetched is an object on its way to a file: it grows at part and gets its name
// once all of it is there and verified.
type fetched struct {
	addr       b3.Addr
	part, name string // below the root
	mode       fs.FileMode
	most       int64 // bytes it may have; 0: any number
	progress   func(done, size int64)
}

// fetch gets the object. A part that an earlier try left is gone on with; where
// it turns out to be another object's, the fetch begins anew.
func fetch(ctx context.Context, cl *client.Client, root *os.Root, o fetched) error {
	f, err := openPart(root, o.part, o.mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fill(ctx, cl, f, o); err != nil {
		if errors.Is(err, client.ErrIntegrity) {
			root.Remove(o.part) // no later try could use it
		} else if info, serr := f.Stat(); serr == nil && info.Size() == 0 {
			root.Remove(o.part) // nothing came
		}
		return err
	}
	// Renamed while it is locked, so that nobody takes it for a part any more.
	if err := root.Rename(o.part, o.name); err != nil {
		return err
	}
	if err := f.Close(); err != nil { // some file systems tell only now
		root.Remove(o.name)
		return err
	}
	return nil
}

func fill(ctx context.Context, cl *client.Client, f *os.File, o fetched) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	g := client.GetOptions{Progress: o.progress, Max: o.most}
	if info.Size() > 0 {
		g.Have = f // reading it leaves the file at its end
		_, err := cl.Get(ctx, o.addr, f, g)
		if !errors.Is(err, client.ErrIntegrity) && !errors.Is(err, client.ErrTooLong) {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		g.Have = nil
	}
	_, err = cl.Get(ctx, o.addr, f, g)
	return err
}

// openPart opens a part, new or left by an earlier try, and locks it: two who
// append to one file would spoil it for both.
func openPart(root *os.Root, part string, mode fs.FileMode) (*os.File, error) {
	for range 3 {
		f, err := root.OpenFile(part, os.O_RDWR|os.O_CREATE, mode)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, fmt.Errorf("%s: another ronctl is fetching this now: %w", part, err)
		}
		ours, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		there, err := root.Lstat(part)
		switch {
		case err == nil && !there.Mode().IsRegular():
			f.Close()
			return nil, fmt.Errorf("%s is in the way: no regular file", part)
		case err == nil && os.SameFile(ours, there):
			return f, nil
		}
		f.Close() // another finished it after we opened it
	}
	return nil, fmt.Errorf("%s: others keep fetching this", part)
}
