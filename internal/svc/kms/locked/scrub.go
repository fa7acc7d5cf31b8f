// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package locked

import "reflect"

// Scrub runs f, which computes with secrets, and overwrites what it left on the
// stack. Objects on the Go heap are f's to erase. It is best effort: where the
// runtime moves the stack while f runs, the old one keeps what was on it. A build
// with GOEXPERIMENT=runtimesecret leaves it to the runtime, which misses nothing,
// registers and dead heap objects included.
//
// F must not start goroutines that use secrets.
func Scrub(f func()) { scrub(f) }

// Erase overwrites the value that p points to with zeros: it is for the states
// of ciphers and hashes, which have no method for it. Anything but a pointer
// stays as it is. The value must not be used afterwards.
func Erase(p any) {
	if v := reflect.ValueOf(p); v.Kind() == reflect.Pointer && !v.IsNil() {
		v.Elem().SetZero()
	}
}
