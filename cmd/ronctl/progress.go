// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// bar shows how far long work is, on a terminal alone. The zero bar shows nothing.
type bar struct {
	p    *progressbar.ProgressBar
	done atomic.Int64
}

// progress starts a bar over size bytes; -1 where that is not known.
func (a *app) progress(size int64, what string) *bar {
	f, ok := a.Err.(*os.File)
	if !ok || a.JSON() {
		return &bar{}
	}
	if !term.IsTerminal(int(f.Fd())) {
		return &bar{}
	}
	return &bar{p: progressbar.NewOptions64(size, progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionFullWidth(), progressbar.OptionSetRenderBlankState(true))}
}

func (b *bar) add(n int64) {
	b.done.Add(n)
	if b.p != nil {
		b.p.Add64(n)
	}
}

func (b *bar) set(done, size int64) {
	if b.p == nil {
		return
	}
	if size >= 0 {
		b.p.ChangeMax64(size)
	}
	b.p.Set64(done)
}

func (b *bar) end() {
	if b.p != nil {
		b.p.Finish()
	}
}

// wrap counts what is read of f, and lets it be read again from the start.
func (b *bar) wrap(f io.ReadSeeker) io.ReadSeeker { return &barReader{ReadSeeker: f, bar: b} }

type barReader struct {
	io.ReadSeeker
	bar *bar
	n   int64
}

func (r *barReader) Read(p []byte) (int, error) {
	n, err := r.ReadSeeker.Read(p)
	r.n += int64(n)
	r.bar.add(int64(n))
	return n, err
}

func (r *barReader) Seek(offset int64, whence int) (int64, error) {
	if r.n > 0 && whence == io.SeekStart { // it is sent again
		r.bar.add(-r.n)
		r.n = 0
	}
	return r.ReadSeeker.Seek(offset, whence)
}
