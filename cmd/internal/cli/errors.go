// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
)

// usageError hides what it holds: that a URL does not parse is a fault in the
// command line, not one of the network.
type usageError struct{ error }

// Usage makes err a fault in the command line: exit code 2.
func Usage(err error) error { return usageError{err} }

// Usagef is Usage of a new error.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

type codeError struct {
	error
	code   int
	silent bool
}

func (c codeError) Unwrap() error { return c.error }

// Exit gives err an exit code of its own.
func Exit(err error, code int) error { return codeError{error: err, code: code} }

// ExitSilently is Exit for what the answer has told already.
func ExitSilently(err error, code int) error { return codeError{error: err, code: code, silent: true} }

func silent(err error) bool {
	var coded codeError
	return errors.As(err, &coded) && coded.silent
}

func exitCode(err error, otherwise func(error) int) int {
	var usage usageError
	var coded codeError
	var refused *client.Error
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"):
		return macronode.ExitUsage
	case errors.As(err, &refused) && refused.Denied():
		return macronode.ExitDenied
	default:
		return otherwise(err)
	}
}
