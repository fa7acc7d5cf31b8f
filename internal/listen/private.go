// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"net"
	"os"
)

// Private is a Unix socket of mode 0600 on which processes of this process's own
// user are heard, and no others.
type Private struct {
	ln   net.Listener
	path *socketPath
}

// OpenPrivate listens at path. A dead socket there is replaced.
func OpenPrivate(path string) (*Private, error) {
	ln, p, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	return &Private{ln, p}, nil
}

// Accept waits for a process of this user; others are hung up on. It fails once
// Close was called.
func (p *Private) Accept() (net.Conn, error) {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(c)
		if err == nil && uid == uint32(os.Getuid()) {
			return c, nil
		}
		_ = c.Close()
	}
}

// Close stops listening and removes the socket.
func (p *Private) Close() error {
	err := p.ln.Close()
	p.path.remove()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
