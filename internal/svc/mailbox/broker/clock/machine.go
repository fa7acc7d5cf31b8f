// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package clock

import (
	"encoding/hex"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rustyonions/macronode/internal/disk"
)

// bootIDFile holds a UUID that the kernel draws at each boot.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// machine is the clock of the machine.
type machine struct {
	boot  [16]byte
	start time.Time // for where CLOCK_BOOTTIME cannot be read
}

// Machine returns the machine's own source. Where the boot has no readable id,
// restarts fall back on the wall clock.
func Machine() Source {
	m := &machine{start: time.Now()}
	if text, err := disk.Real().ReadFile(bootIDFile, 64); err == nil {
		m.boot = parseBootID(string(text))
	}
	if _, err := bootTime(); err != nil {
		m.boot = [16]byte{}
	}
	return m
}

// parseBootID reads a UUID; what is none is the zero id, which equals no boot.
func parseBootID(text string) (id [16]byte) {
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), "-", ""))
	if err != nil || len(raw) != len(id) {
		return [16]byte{}
	}
	copy(id[:], raw)
	return id
}

func bootTime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

func (m *machine) Boot() [16]byte { return m.boot }

func (m *machine) SinceBoot() time.Duration {
	if d, err := bootTime(); err == nil {
		return d
	}
	return time.Since(m.start)
}

func (m *machine) Wall() time.Time { return time.Now() }
