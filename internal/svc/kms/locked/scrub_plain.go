// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

//go:build !goexperiment.runtimesecret

package locked

import "runtime"

// scrubBytes is more stack than any of our primitives uses.
const scrubBytes = 32 << 10

func scrub(f func()) {
	burn() // makes the room, so that f does not move the stack
	defer burn()
	f()
}

// burn overwrites the stack below its caller.
//
//go:noinline
func burn() {
	var b [scrubBytes]byte
	clear(b[:])
	runtime.KeepAlive(&b)
}
