// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package breaker

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
)

// Verdict is what a call's outcome tells of the dependency.
type Verdict uint8

// The verdicts.
const (
	Unknown  Verdict = iota // nothing: the caller ended it
	Answered                // it is there, whatever it said
	Failed                  // it is not, or does not work
)

// gone are the numbers by which a system says that a device, a file system or a
// host is not there or does not work. That there is no space, no such file or no
// free descriptor are answers.
var gone = []syscall.Errno{
	syscall.EIO, syscall.ENXIO, syscall.ENODEV, syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.ESTALE,
	syscall.ETIMEDOUT, syscall.EPIPE, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED,
	syscall.ENOTCONN, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.ENETUNREACH,
}

// Judge is the judgement of most dependencies: errors of devices and networks are
// failures; the end of the caller's context says nothing; whatever else, nil
// included, is an answer.
func Judge(err error) Verdict {
	if err == nil {
		return Answered
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if slices.Contains(gone, errno) {
			return Failed
		}
		return Answered
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Unknown
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrClosedPipe):
		return Failed
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return Failed
	}
	return Answered
}

// Strict is the judgement of a dependency with one duty: every error is a
// failure, but the end of the caller's context says nothing.
func Strict(err error) Verdict {
	switch {
	case err == nil:
		return Answered
	case errors.Is(err, context.Canceled):
		return Unknown
	}
	return Failed
}

// judge gives no error a call of the config's judgement.
func (b *Breaker) judge(err error) Verdict {
	if err == nil {
		return Answered
	}
	return b.cfg.Judge(err)
}
