// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// LockName is the name of the lock file in a data directory.
const LockName = "LOCK"

// HeldError says that another process holds a data directory. A command that
// meets it exits with code 10.
type HeldError struct {
	Dir string
	// PID of the holder, 0 where it could not be found out.
	PID int
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data directory %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("data directory %s is in use by process %d", e.Dir, e.PID)
}

// Lock is a held data directory.
type Lock struct {
	once    sync.Once
	release func() error
	err     error
}

// Close releases the lock. The file stays: removing it would let two processes
// hold two files of one name.
func (l *Lock) Close() error {
	l.once.Do(func() { l.err = l.release() })
	return l.err
}

// LockDir takes dir, which must exist, for this process, or returns a *HeldError.
// The system frees the lock of a process that dies.
func (f *FS) LockDir(dir string) (*Lock, error) {
	path := f.PathJoin(dir, LockName)
	if !f.real {
		c, err := f.FS.Lock(path)
		if err != nil {
			return nil, errors.Join(&HeldError{Dir: dir, PID: os.Getpid()}, err)
		}
		return &Lock{release: c.Close}, nil
	}
	// flock and not fcntl: an fcntl lock is lost when the process closes any
	// descriptor of the file, and does not hold between two opens of one process.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, FileMode)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer func() { _ = file.Close() }() // it was only read
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &HeldError{Dir: dir, PID: holder(file)}
		}
		return nil, fmt.Errorf("disk: lock %s: %w", path, err)
	}
	sign(file)
	return &Lock{release: file.Close}, nil
}

// holder reads the process id that sign wrote.
func holder(r io.ReaderAt) int {
	var b [20]byte
	n, _ := r.ReadAt(b[:], 0) // a short file is the usual case
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// sign says who holds the lock. It may fail, as on a full disk, which must not
// keep a node from starting: the lock holds without it.
func sign(file *os.File) {
	if err := file.Truncate(0); err == nil {
		_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
}
