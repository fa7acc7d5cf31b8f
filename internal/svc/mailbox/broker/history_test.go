// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// The model that histories are held against: one topic, whose state is a list of
// messages in the order of their numbers. Time passes by an operation of its own.

const (
	opSend = iota
	opReceive
	opAck
	opNack
	opExtend
	opPass
	opRedrive
)

const (
	modelVisibility = 30
	modelExtension  = 60
	modelPass       = 31
	modelAttempts   = 2
)

// input is one call. lease names the receive that gave the message out.
type input struct {
	op, value, lease int
	key              int // idempotency key of a send; 0 none
}

// output is what it answered. Unknown: nobody was answered.
type output struct {
	unknown   bool
	value     int // of a receive, 0 nothing; the first message of a duplicate
	attempt   int
	duplicate bool
	lost      bool
}

// entry is a message of the model. One without a lease in force has none.
type entry struct{ value, lease, attempts, base, until int }

// model is a state. The checker compares its text.
type model struct {
	now     int
	entries []entry
	keys    [][2]int // key, value
}

func (m model) clone() model {
	return model{now: m.now, entries: slices.Clone(m.entries), keys: slices.Clone(m.keys)}
}

// text and parse are the state as a string, which is quick to compare.
func (m model) text() string {
	b := []byte{byte(m.now >> 8), byte(m.now), byte(len(m.keys))}
	for _, k := range m.keys {
		b = append(b, byte(k[0]), byte(k[1]))
	}
	for _, e := range m.entries {
		b = append(b, byte(e.value), byte(e.lease), byte(e.attempts), byte(e.base), byte(e.until>>8), byte(e.until))
	}
	return string(b)
}

func parse(s string) (m model) {
	m.now = int(s[0])<<8 | int(s[1])
	n := int(s[2])
	for s = s[3:]; n > 0; n-- {
		m.keys = append(m.keys, [2]int{int(s[0]), int(s[1])})
		s = s[2:]
	}
	for ; len(s) > 0; s = s[6:] {
		m.entries = append(m.entries, entry{int(s[0]), int(s[1]), int(s[2]), int(s[3]), int(s[4])<<8 | int(s[5])})
	}
	return m
}

func (m model) find(value int) int {
	return slices.IndexFunc(m.entries, func(e entry) bool { return e.value == value })
}

func (e *entry) held(now int) bool { return e.until > now }

// dying: its attempts are used up and nobody holds it. It may be recorded as dead
// at any moment.
func (e *entry) dying(now int) bool {
	return e.attempts-e.base >= modelAttempts && !e.held(now)
}

func (e *entry) receivable(now int) bool { return !e.held(now) && !e.dying(now) }

func step(state, in, out any) []any {
	m, i, o := parse(state.(string)), in.(input), out.(output)
	var next []model
	if o.unknown {
		next = append(next, m) // it never happened
	}
	switch i.op {
	case opSend:
		next = append(next, m.send(i, o)...)
	case opReceive:
		next = append(next, m.receive(i, o)...)
	case opAck, opNack, opExtend:
		next = append(next, m.settle(i, o)...)
	case opPass:
		c := m.clone()
		c.now += modelPass
		for j := range c.entries { // a lease that has ended is none
			if e := &c.entries[j]; !e.held(c.now) {
				e.lease, e.until = 0, 0
			}
		}
		next = append(next, c)
	case opRedrive:
		next = append(next, m.redrive(o)...)
	}
	var all []any
	for _, n := range next {
		all = append(all, n.text())
	}
	return all
}

func (m model) send(i input, o output) []model {
	for _, k := range m.keys {
		if i.key != 0 && k[0] == i.key {
			if o.unknown || o.duplicate && (o.value == k[1] || o.value == 0) {
				return []model{m}
			}
			return nil
		}
	}
	if o.duplicate {
		return nil
	}
	c := m.clone()
	c.entries = append(c.entries, entry{value: i.value})
	if i.key != 0 {
		c.keys = append(c.keys, [2]int{i.key, i.value})
	}
	return []model{c}
}

func (m model) receive(i input, o output) []model {
	at := slices.IndexFunc(m.entries, func(e entry) bool { return e.receivable(m.now) })
	if at < 0 {
		if o.unknown || o.value == 0 {
			return []model{m}
		}
		return nil
	}
	c := m.clone()
	e := &c.entries[at]
	e.attempts++
	e.lease, e.until = i.lease, m.now+modelVisibility
	if !o.unknown && (o.value != e.value || o.attempt != e.attempts) {
		return nil
	}
	return []model{c}
}

func (m model) settle(i input, o output) []model {
	at := m.find(i.value)
	if at < 0 || m.entries[at].lease != i.lease || !m.entries[at].held(m.now) {
		if o.unknown || o.lost {
			return []model{m}
		}
		return nil
	}
	if o.lost {
		return nil
	}
	c := m.clone()
	switch e := &c.entries[at]; i.op {
	case opAck:
		c.entries = slices.Delete(c.entries, at, at+1)
	case opNack:
		e.lease, e.until = 0, 0
	case opExtend:
		e.until = m.now + modelExtension
	}
	return []model{c}
}

// redrive moves the dead behind all others. Each that is dying may be dead already.
// One that nobody was told of may have got any part of the way.
func (m model) redrive(o output) []model {
	var dying []int
	for i := range m.entries {
		if m.entries[i].dying(m.now) {
			dying = append(dying, i)
		}
	}
	var all []model
	for pick := range 1 << len(dying) {
		var goes []int
		for b, i := range dying {
			if pick>>b&1 == 1 {
				goes = append(goes, i)
			}
		}
		for _, order := range permutations(goes) {
			if o.unknown {
				for n := range len(order) {
					all = append(all, m.moved(order[:n]))
				}
			}
			all = append(all, m.moved(order))
		}
	}
	return all
}

// permutations: messages die in an order that the model does not know.
func permutations(list []int) [][]int {
	if len(list) <= 1 {
		return [][]int{list}
	}
	var all [][]int
	for i := range list {
		rest := slices.Delete(slices.Clone(list), i, i+1)
		for _, p := range permutations(rest) {
			all = append(all, append([]int{list[i]}, p...))
		}
	}
	return all
}

func (m model) moved(order []int) model {
	c := model{now: m.now, keys: m.keys}
	for i, e := range m.entries {
		if !slices.Contains(order, i) {
			c.entries = append(c.entries, e)
		}
	}
	for _, i := range order {
		e := m.entries[i]
		e.lease, e.until, e.base = 0, 0, e.attempts
		c.entries = append(c.entries, e)
	}
	return c
}

// mailboxModel is the model in porcupine's terms.
func mailboxModel() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init:  func() []any { return []any{model{}.text()} },
		Step:  step,
		Equal: func(a, b any) bool { return a.(string) == b.(string) },
		DescribeOperation: func(in, out any) string {
			i, o := in.(input), out.(output)
			return fmt.Sprintf("%s %+v -> %+v", []string{"send", "receive", "ack", "nack", "extend", "pass", "redrive"}[i.op], i, o)
		},
	}
	return m.ToModel()
}

// verdict checks a history, in bounded time.
func verdict(history []porcupine.Operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(mailboxModel(), history, 3*time.Second)
}
