// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// entropyBytes is 128 bits, what the node's keys and tokens need at least.
const entropyBytes = 16

// Entropy reports whether the kernel's generator is initialised, by asking it
// for 128 bits without waiting: until it holds as much, getrandom(2) refuses.
func Entropy(context.Context) error { return entropy(unix.Getrandom) }

func entropy(getrandom func(p []byte, flags int) (int, error)) error {
	var b [entropyBytes]byte
	for {
		n, err := getrandom(b[:], unix.GRND_NONBLOCK)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return errors.New("the kernel's random generator is not initialised yet")
		case err != nil:
			return fmt.Errorf("the kernel's random generator does not answer: %w", err)
		case n != len(b):
			return fmt.Errorf("the kernel's random generator gave %d of %d bytes", n, len(b))
		case b == [entropyBytes]byte{}:
			return errors.New("the kernel's random generator gives zeros")
		}
		return nil
	}
}
