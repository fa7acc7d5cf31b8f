// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketMode is the mode of every Unix socket: its owner alone.
const socketMode = 0o600

// maxSocketPath is what the kernel's sockaddr_un holds, its NUL aside.
const maxSocketPath = 107

// socketPath is the file of a Unix socket that this process made. Sockets are
// no files of data: they are made and removed here, by system call, and not
// through internal/disk.
type socketPath struct {
	path     string
	dev, ino uint64
	kept     atomic.Bool
}

// remove unlinks the path unless it was handed over or is another's by now.
func (p *socketPath) remove() {
	var st unix.Stat_t
	if p.kept.Load() || unix.Lstat(p.path, &st) != nil || st.Dev != p.dev || st.Ino != p.ino {
		return
	}
	// A failure leaves a dead socket, which the next start removes.
	_ = unix.Unlink(p.path)
}

// keep leaves the path to a successor.
func (p *socketPath) keep() { p.kept.Store(true) }

var errSocketInUse = errors.New("another process listens on this Unix socket")

// listenUnix binds path with mode 0600 from its first moment. A socket that
// nobody listens on any more is replaced; any other file is left alone, and the
// bind fails.
func listenUnix(path string) (net.Listener, *socketPath, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		c, err := DialUnix(ctx, path)
		cancel()
		if err == nil {
			c.Close()
			return nil, nil, errSocketInUse
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, nil, fmt.Errorf("a Unix socket is in the way: %w", err)
		}
		if err := unix.Unlink(path); err != nil {
			return nil, nil, fmt.Errorf("a dead Unix socket cannot be removed: %w", err)
		}
	}
	short, done, err := shortPath(path)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		// The mode of a socket before bind is that of the file bind makes, so
		// nobody can slip in before a chmod.
		var err error
		if e := rc.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) }); e != nil {
			return e
		}
		return err
	}}
	ln, err := lc.Listen(context.Background(), "unix", short)
	if err != nil {
		return nil, nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := unix.Lstat(path, &st); err != nil {
		ln.Close()
		return nil, nil, err
	}
	p := &socketPath{path: path, dev: st.Dev, ino: st.Ino}
	if st.Mode&0o777&^socketMode != 0 {
		ln.Close()
		p.remove()
		return nil, nil, errors.New("the Unix socket is open to others")
	}
	return ln, p, nil
}

// DialUnix connects to the Unix socket at path, however long the path is.
func DialUnix(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", short)
}

// shortPath names path in a way that fits a socket address: where it is too
// long, through a descriptor of its folder, which done closes.
func shortPath(path string) (short string, done func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	short = "/proc/self/fd/" + strconv.Itoa(fd) + "/" + filepath.Base(path)
	if len(short) > maxSocketPath {
		unix.Close(fd)
		return "", nil, fmt.Errorf("the name of the Unix socket is too long: %s", filepath.Base(path))
	}
	return short, func() { unix.Close(fd) }, nil
}

// peerUID asks the kernel whose process is at the other end.
func peerUID(c net.Conn) (uint32, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("listen: not a Unix socket")
	}
	rc, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if e := rc.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
