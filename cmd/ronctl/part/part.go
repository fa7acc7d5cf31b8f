// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package part fetches objects into files. A file grows under another name, the
// part's, which a later try goes on with, and gets its own once all of it is there
// and verified.
package part

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

// File is an object on its way to a file.
type File struct {
	Addr       b3.Addr
	Part, Name string // below the root
	Mode       fs.FileMode
	Most       int64 // bytes it may have; 0: any number
	Progress   func(done, size int64)
}

// Fetch gets the object. Each byte is verified before it is written to the part,
// 16 KiB at a time.
//
// A part that an earlier try left is gone on with, and is not trusted: it may have
// been changed since, or be another object's. It is read and hashed before
// anything is fetched, and compared with the nodes of the object's tree that stand
// above just these bytes; the node proves those in one answer of 16 KiB and some
// parents. If bytes are not the object's, Fetch finds the first 16 KiB that are
// not, cuts the part off there and fails; the next try goes on from there. So
// when the part is complete all of it was verified, and it is not read again.
//
// A node too old to prove single bytes is taken at the whole object's hash: the
// part is verified when all of it is there, and dropped if it is wrong.
func Fetch(ctx context.Context, cl *client.Client, root *os.Root, o File) error {
	f, err := open(root, o.Part, o.Mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fill(ctx, cl, f, o); err != nil {
		var damage *client.DamageError
		if errors.Is(err, client.ErrIntegrity) && !errors.As(err, &damage) {
			root.Remove(o.Part) // which bytes are wrong is not known
		} else if info, serr := f.Stat(); serr == nil && info.Size() == 0 {
			root.Remove(o.Part) // nothing is there
		}
		return err
	}
	return finish(root, f, o)
}

// finish gives a part its name.
func finish(root *os.Root, f *os.File, o File) error {
	// Renamed while it is locked, so that nobody takes it for a part any more.
	if err := root.Rename(o.Part, o.Name); err != nil {
		return err
	}
	if err := f.Close(); err != nil { // some file systems tell only now
		root.Remove(o.Name)
		return err
	}
	return nil
}

func fill(ctx context.Context, cl *client.Client, f *os.File, o File) error {
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	g := client.GetOptions{Progress: o.Progress, Max: o.Most, Unproven: true}
	if o.Most > 0 && have > o.Most { // what is behind is not the object's
		if err := f.Truncate(o.Most); err != nil {
			return err
		}
		if have, err = f.Seek(o.Most, io.SeekStart); err != nil {
			return err
		}
	}
	if have > 0 {
		g.Have = io.NewSectionReader(f, 0, have)
	}
	_, err = cl.Get(ctx, o.Addr, f, g)
	var damage *client.DamageError
	if errors.As(err, &damage) && damage.Have {
		if terr := f.Truncate(min(damage.Off, have)); terr != nil {
			return errors.Join(err, terr)
		}
		return fmt.Errorf("%s: %w. It was cut off there; the same command again goes on from there", o.Part, err)
	}
	return err
}

// FetchRange gets n bytes from off of the object into a new part. One that an
// earlier try left is of no use: it does not tell which bytes it holds.
func FetchRange(ctx context.Context, cl *client.Client, root *os.Root, o File, off, n int64) error {
	f, err := open(root, o.Part, o.Mode)
	if err != nil {
		return err
	}
	defer f.Close()
	err = f.Truncate(0)
	if err == nil {
		err = Copy(ctx, cl, o.Addr, f, off, n)
	}
	if err != nil {
		root.Remove(o.Part)
		return err
	}
	return finish(root, f, o)
}

// Copy writes n bytes from off of the object to w, each verified before.
func Copy(ctx context.Context, cl *client.Client, addr b3.Addr, w io.Writer, off, n int64) error {
	r, err := cl.GetRange(ctx, addr, off, n)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = r.WriteTo(w)
	return err
}

// open opens a part, new or left by an earlier try, and locks it: two who
// append to one file would spoil it for both.
func open(root *os.Root, part string, mode fs.FileMode) (*os.File, error) {
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
