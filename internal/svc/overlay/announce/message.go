// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package announce

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// version of both forms.
const version = 1

// Limits of what goes between nodes.
const (
	// MaxTags is how many objects one node announces.
	MaxTags = 1 << 18
	// MaxChanges is how many changes one message carries.
	MaxChanges = 256
	// MaxMessageBytes bounds a message.
	MaxMessageBytes = messageHead + MaxChanges*changeBytes

	tagBytes     = 8
	changeBytes  = 1 + tagBytes
	messageHead  = 1 + 8 + 8
	summaryHead  = 1 + 8 + 8 + 4
	changeAdd    = 1
	changeRemove = 2
)

// MaxSummaryBytes bounds a summary.
const MaxSummaryBytes = summaryHead + MaxTags*tagBytes

// errForm says that bytes from another node are no announcement.
var errForm = errors.New("announce: malformed")

// change is one object that came or went.
type change struct {
	tag  Tag
	gone bool
}

// message is some changes: version, epoch, the number of changes before them in
// the epoch (8 bytes each, big-endian), then for each a byte 1 (there) or 2 (gone)
// and its tag.
type message struct {
	epoch, at uint64
	changes   []change
}

func (m *message) append(b []byte) []byte {
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, m.epoch)
	b = binary.BigEndian.AppendUint64(b, m.at)
	for _, c := range m.changes {
		kind := byte(changeAdd)
		if c.gone {
			kind = changeRemove
		}
		b = binary.BigEndian.AppendUint64(append(b, kind), uint64(c.tag))
	}
	return b
}

func parseMessage(b []byte) (m message, err error) {
	switch {
	case len(b) < messageHead || len(b) > MaxMessageBytes || (len(b)-messageHead)%changeBytes != 0:
		return m, fmt.Errorf("%w: a message of %d bytes", errForm, len(b))
	case b[0] != version:
		return m, fmt.Errorf("%w: version %d", errForm, b[0])
	}
	m.epoch, m.at = binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:])
	n := (len(b) - messageHead) / changeBytes
	if m.at+uint64(n) < m.at {
		return m, fmt.Errorf("%w: no epoch has so many changes", errForm)
	}
	m.changes = make([]change, n)
	for i := range m.changes {
		c := b[messageHead+i*changeBytes:]
		if c[0] != changeAdd && c[0] != changeRemove {
			return m, fmt.Errorf("%w: change %d", errForm, c[0])
		}
		m.changes[i] = change{Tag(binary.BigEndian.Uint64(c[1:])), c[0] == changeRemove}
	}
	return m, nil
}

// Summary is all that a node announces, after so many changes of the epoch:
// version, epoch, changes (8 bytes each), number of tags (4), tags.
type Summary struct {
	epoch, at uint64
	tags      []Tag
}

// Bytes is its length as WriteTo writes it.
func (s *Summary) Bytes() int64 { return summaryHead + int64(len(s.tags))*tagBytes }

// WriteTo implements io.WriterTo.
func (s *Summary) WriteTo(w io.Writer) (int64, error) {
	const step = 4096 // tags
	b := make([]byte, 0, summaryHead+min(len(s.tags), step)*tagBytes)
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, s.epoch)
	b = binary.BigEndian.AppendUint64(b, s.at)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.tags)))
	var total int64
	for rest := s.tags; ; {
		n := min(len(rest), step)
		for _, t := range rest[:n] {
			b = binary.BigEndian.AppendUint64(b, uint64(t))
		}
		m, err := w.Write(b)
		if total += int64(m); err != nil {
			return total, err
		}
		if rest = rest[n:]; len(rest) == 0 {
			return total, nil
		}
		b = b[:0]
	}
}

// Close implements io.Closer, so that a summary is a reply's stream.
func (s *Summary) Close() error { return nil }

// readSummary reads a summary to its end. It allocates for what has come.
func readSummary(r io.Reader) (*Summary, error) {
	in := bufio.NewReaderSize(r, 16<<10)
	var head [summaryHead]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[17:]))
	switch {
	case head[0] != version:
		return nil, fmt.Errorf("%w: version %d", errForm, head[0])
	case n > MaxTags:
		return nil, fmt.Errorf("%w: %d tags, %d are allowed", errForm, n, MaxTags)
	}
	s := &Summary{epoch: binary.BigEndian.Uint64(head[1:]), at: binary.BigEndian.Uint64(head[9:])}
	s.tags = make([]Tag, 0, min(n, 1024))
	for range n {
		var b [tagBytes]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		s.tags = append(s.tags, Tag(binary.BigEndian.Uint64(b[:])))
	}
	if _, err := in.ReadByte(); err != io.EOF {
		if err == nil {
			err = fmt.Errorf("%w: bytes behind a summary", errForm)
		}
		return nil, err
	}
	return s, nil
}
