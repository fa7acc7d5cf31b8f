// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import "net"

// pipe is a connection of which other is the other end.
type pipe struct {
	net.Conn
	other net.Conn
}

func newPipe() *pipe {
	a, b := net.Pipe()
	return &pipe{a, b}
}
