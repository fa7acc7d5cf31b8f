// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// A compact receipt is base64url, without padding, of: the byte compactVersion; the
// entry, after its length in two bytes; index and tree size as varints; the number of
// hashes and the hashes; the checkpoint's text after its length in two bytes; and each
// signature line to the end: its name after its length in one byte, 0 where it is
// the origin, and its key id and signature after their length in two bytes.
const compactVersion = 1

// MaxCompactBytes bounds a compact receipt that is read.
const MaxCompactBytes = 64 << 10

// ErrReceipt: text that is no receipt.
var ErrReceipt = errors.New("tlog: not a receipt")

// Compact returns the receipt as one line of some five thousand visible ASCII characters,
// fit for a header field. It fails with ErrReceipt where the checkpoint is no signed note.
func (p *Receipt) Compact() (string, error) {
	cut := strings.LastIndex(p.Checkpoint, "\n\n")
	if cut < 0 || len(p.Record) > MaxRecordBytes || len(p.Inclusion.Path) > maxProof || cut >= 1<<16-1 {
		return "", fmt.Errorf("%w: it cannot be made compact", ErrReceipt)
	}
	text, lines := p.Checkpoint[:cut+1], p.Checkpoint[cut+2:]
	origin, _, _ := strings.Cut(text, "\n")
	b := binary.BigEndian.AppendUint16([]byte{compactVersion}, uint16(len(p.Record))) //nolint:gosec // bounded above
	b = append(b, p.Record...)
	b = binary.AppendUvarint(b, p.Inclusion.Seq)
	b = binary.AppendUvarint(b, p.Inclusion.Size)
	b = append(b, byte(len(p.Inclusion.Path)))
	for i := range p.Inclusion.Path {
		b = append(b, p.Inclusion.Path[i][:]...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(text))) //nolint:gosec // bounded above
	b = append(b, text...)
	for line := range strings.Lines(lines) {
		name, raw, err := splitLine(line)
		if err != nil {
			return "", err
		}
		if name == origin {
			name = ""
		}
		b = append(append(b, byte(len(name))), name...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(raw))) //nolint:gosec // bounded by splitLine
		b = append(b, raw...)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// linePrefix begins a signature line.
const linePrefix = "— "

// splitLine takes a signature line apart, with its newline.
func splitLine(line string) (name string, raw []byte, err error) {
	rest, ok1 := strings.CutPrefix(line, linePrefix)
	rest, ok2 := strings.CutSuffix(rest, "\n")
	name, text, ok3 := strings.Cut(rest, " ")
	raw, err = base64.StdEncoding.Strict().DecodeString(text)
	if !ok1 || !ok2 || !ok3 || err != nil || name == "" || len(name) > maxNameBytes || len(raw) < 4 || len(raw) >= 1<<16 {
		return "", nil, fmt.Errorf("%w: a signature line", ErrReceipt)
	}
	return name, raw, nil
}

// ParseCompact reads what Compact wrote. It verifies nothing.
func ParseCompact(s string) (*Receipt, error) {
	if len(s) > MaxCompactBytes {
		return nil, fmt.Errorf("%w: more than %d characters", ErrReceipt, MaxCompactBytes)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || b[0] != compactVersion {
		return nil, fmt.Errorf("%w: no compact one of version %d", ErrReceipt, compactVersion)
	}
	in := taker{b: b[1:]}
	p := &Receipt{Record: in.take(in.number(2))}
	p.Inclusion = Inclusion{Seq: in.varint(), Size: in.varint()}
	hashes := in.number(1)
	p.Inclusion.Path = make(Path, 0, min(hashes, maxProof))
	for range min(hashes, maxProof) {
		var h Hash
		copy(h[:], in.take(len(h)))
		p.Inclusion.Path = append(p.Inclusion.Path, h)
	}
	text := string(in.take(in.number(2)))
	origin, _, _ := strings.Cut(text, "\n")
	var note strings.Builder
	note.WriteString(text + "\n")
	for len(in.b) > 0 && !in.bad {
		name := string(in.take(in.number(1)))
		if name == "" {
			name = origin
		}
		raw := in.take(in.number(2))
		note.WriteString(linePrefix + name + " " + base64.StdEncoding.EncodeToString(raw) + "\n")
	}
	if in.bad || hashes > maxProof || len(p.Record) > MaxRecordBytes || !strings.HasSuffix(text, "\n") {
		return nil, fmt.Errorf("%w: it ends in the middle", ErrReceipt)
	}
	p.Checkpoint = note.String()
	return p, nil
}

// taker takes bytes from the front of b; bad says that there were too few.
type taker struct {
	b   []byte
	bad bool
}

func (t *taker) take(n int) []byte {
	if n > len(t.b) {
		t.bad, t.b = true, nil
		return nil
	}
	out := t.b[:n:n]
	t.b = t.b[n:]
	return out
}

func (t *taker) number(size int) (n int) {
	for _, c := range t.take(size) {
		n = n<<8 | int(c)
	}
	return n
}

func (t *taker) varint() uint64 {
	n, size := binary.Uvarint(t.b)
	if size <= 0 {
		t.bad, t.b = true, nil
		return 0
	}
	t.b = t.b[size:]
	return n
}
