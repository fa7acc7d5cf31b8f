// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package lifecycle knows where the node is between its start and its end:
// named states (Machine), whether it may take traffic (Readiness), the gate
// that every call passes (Gate), and the drain that empties the node and can be
// undone (Drainer).
package lifecycle

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/rustyonions/macronode/internal/logs"
)

// State is a stage in the node's life.
type State string

// The states.
const (
	Starting State = "starting"
	Running  State = "running"
	Stopping State = "stopping"
	Stopped  State = "stopped"
)

// follows says which states may come after each.
var follows = map[State][]State{
	Starting: {Running, Stopping},
	Running:  {Stopping},
	Stopping: {Stopped},
	Stopped:  {},
}

// Machine holds the node's state. Draining is no state of its own: a draining
// node runs, and can be undrained; Drainer tells.
type Machine struct {
	log *slog.Logger

	mu    sync.Mutex
	state State
	since time.Time
}

// NewMachine begins in Starting. log may be nil.
func NewMachine(log *slog.Logger) *Machine {
	return &Machine{log: logs.Discard(log), state: Starting, since: time.Now()}
}

// State returns the present state and when it began.
func (m *Machine) State() (State, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, m.since
}

// To goes to state next, or fails where that does not follow; asking again for
// the present state is no error.
func (m *Machine) To(next State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == next {
		return nil
	}
	if !slices.Contains(follows[m.state], next) {
		return fmt.Errorf("lifecycle: %s does not follow %s", next, m.state)
	}
	m.log.Info("node is "+string(next), logs.KeyEvent, "state", "state", string(next), "from", string(m.state),
		logs.KeyLatencyMS, time.Since(m.since).Milliseconds())
	m.state, m.since = next, time.Now()
	return nil
}

// Step runs one named step of starting or stopping and logs how long it took
// and how it ended.
func (m *Machine) Step(name string, f func() error) error {
	begin := time.Now()
	err := f()
	took := time.Since(begin).Milliseconds()
	if err != nil {
		m.log.Error("step failed: "+name, logs.KeyEvent, "step", "step", name, logs.KeyLatencyMS, took, logs.KeyReason, err.Error())
		return fmt.Errorf("%s: %w", name, err)
	}
	m.log.Debug("step done: "+name, logs.KeyEvent, "step", "step", name, logs.KeyLatencyMS, took)
	return nil
}
