// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"sync"

	"github.com/rustyonions/macronode/internal/disk"
)

// dirSync makes the entries of one directory durable, one fsync for all who ask
// while another is under way. There is no goroutine: the first who asks for the
// next round runs it.
type dirSync struct {
	fs  *disk.FS
	dir string

	mu   sync.Mutex // guards next
	next *round
	run  sync.Mutex // held by the round under way
}

type round struct {
	done chan struct{}
	err  error
}

// sync returns after an fsync that began after the call. All of a round get its
// error: another fsync after a failed one proves nothing.
func (d *dirSync) sync() error {
	d.mu.Lock()
	r := d.next
	if r != nil {
		d.mu.Unlock()
		<-r.done
		return r.err
	}
	r = &round{done: make(chan struct{})}
	d.next = r
	d.mu.Unlock()

	d.run.Lock()
	defer d.run.Unlock()
	d.mu.Lock()
	d.next = nil // who comes from here on is too late for this round
	d.mu.Unlock()
	defer close(r.done)
	r.err = d.fs.SyncDir(d.dir)
	return r.err
}
