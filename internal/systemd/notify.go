// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package systemd tells the service manager how the node is.
package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Notify sends state (sd_notify(3): lines of NAME=value) to the socket that
// $NOTIFY_SOCKET names. Where there is none, nobody wants to know, and that is no
// error. RELOADING=1 gets the time that systemd wants of it.
func Notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	if state == "RELOADING=1" {
		state += fmt.Sprintf("\nMONOTONIC_USEC=%d", monotonicMicros())
	}
	c, err := net.Dial("unixgram", path)
	if err != nil {
		return err
	}
	_, err = c.Write([]byte(state))
	return errors.Join(err, c.Close())
}

// monotonicMicros is CLOCK_MONOTONIC.
func monotonicMicros() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano() / 1000
}
