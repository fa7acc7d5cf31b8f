// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package clock

import (
	"encoding/hex"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rustyonions/macronode/internal/disk"
)

// bootIDFile holds a UUID that the kernel draws at each boot.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// machine is the clock of the machine. CLOCK_BOOTTIME is a system call, so it is
// asked now and then, and the runtime's clock in between.
type machine struct {
	boot  [16]byte
	start time.Time // for where CLOCK_BOOTTIME cannot be read
	seen  atomic.Pointer[sighting]
}

// sighting ties the two clocks together. After a suspension it is wrong by that
// long, for askEvery at most.
type sighting struct {
	at   time.Time
	boot time.Duration
}

const askEvery = 250 * time.Millisecond

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
	if s := m.seen.Load(); s != nil {
		if d := time.Since(s.at); d < askEvery {
			return s.boot + d
		}
	}
	at := time.Now()
	d, err := bootTime()
	if err != nil {
		return time.Since(m.start)
	}
	m.seen.Store(&sighting{at: at, boot: d})
	return d
}

func (m *machine) Wall() time.Time { return time.Now() }
