// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tracks

import (
	"encoding/binary"
	"errors"
	"strings"
)

// mp4 is the reading of boxes (ISO/IEC 14496-12).
type mp4 struct {
	s     *source
	i     *Info
	track *Track // the one whose boxes are being read
	found bool   // there was a moov
	whole bool   // and it was read to its end
	scale uint64 // of the film's times, a second
}

// within are the boxes that are entered: the others are stepped over.
var within = map[string]bool{"moov": true, "trak": true, "mdia": true, "minf": true, "stbl": true, "mvex": true}

func readMP4(s *source, i *Info) error {
	m := &mp4{s: s, i: i}
	i.Container = "mp4"
	if b, err := s.upTo(0, 12); err != nil {
		return err
	} else if len(b) == 12 && string(b[4:12]) == "ftypqt  " {
		i.Container = "quicktime"
	}
	err := m.boxes(0, s.size, 0)
	if m.whole && errors.Is(err, ErrTooLarge) {
		err = nil // so many fragments: the headers were whole
	}
	if err != nil {
		return err
	}
	if !m.found {
		return form("no moov")
	}
	i.longest()
	return nil
}

// boxes reads the boxes from at to end.
func (m *mp4) boxes(at, end int64, depth int) error {
	if depth > maxDepth {
		return form("boxes too deep in boxes")
	}
	for end-at >= 8 {
		if err := m.s.node(); err != nil {
			return err
		}
		h, err := m.s.exactly(at, 8)
		if err != nil {
			return err
		}
		size, kind, head := int64(binary.BigEndian.Uint32(h)), string(h[4:8]), int64(8)
		switch size {
		case 0: // to the end
			size = end - at
		case 1:
			if h, err = m.s.exactly(at+8, 8); err != nil {
				return err
			}
			size, head = int64(binary.BigEndian.Uint64(h)&(1<<63-1)), 16
		}
		if size < head || size > end-at {
			if depth == 0 && m.found {
				return nil // what is behind the headers is not looked at
			}
			return form("the box %q is longer than what it is in", plain([]byte(kind)))
		}
		if err := m.box(kind, at+head, at+size, depth); err != nil {
			return err
		}
		if depth == 0 && kind == "moov" {
			m.whole = true
			if m.i.DurationMS != 0 {
				return nil
			}
		}
		at += size
	}
	return nil
}

func (m *mp4) box(kind string, at, end int64, depth int) error {
	switch kind {
	case "moov":
		if m.found {
			return form("two films")
		}
		m.found = true
	case "trak":
		if err := m.i.add(Track{Kind: Other}); err != nil {
			return err
		}
		m.track = &m.i.Tracks[len(m.i.Tracks)-1]
		defer func() { m.track = nil }()
	}
	if within[kind] {
		return m.boxes(at, end, depth+1)
	}
	switch {
	case kind == "mvhd":
		var d uint64
		var err error
		m.scale, d, _, err = m.times(at, end)
		m.i.DurationMS = millis(d, m.scale)
		return err
	case kind == "mehd":
		return m.fragments(at, end)
	case kind == "sidx" && m.i.DurationMS == 0:
		return m.segments(at, end)
	case m.track == nil:
		return nil
	case kind == "tkhd":
		return m.header(at, end)
	case kind == "mdhd":
		scale, d, rest, err := m.times(at, end)
		if err == nil && len(rest) >= 2 {
			m.track.Language = language(binary.BigEndian.Uint16(rest))
		}
		m.track.DurationMS = millis(d, scale)
		return err
	case kind == "hdlr":
		b, err := m.s.upTo(at, min(end-at, 12))
		if err != nil || len(b) < 12 {
			return err
		}
		if k := kindOf(string(b[8:12])); k != Other { // QuickTime has another one, of the data
			m.track.Kind = k
		}
		return nil
	case kind == "stsd":
		return m.description(at, end)
	}
	return nil
}

// times reads what mvhd and mdhd have in common. A duration of all ones is unknown.
func (m *mp4) times(at, end int64) (scale, duration uint64, rest []byte, err error) {
	b, err := m.s.upTo(at, min(end-at, 40))
	if err != nil {
		return 0, 0, nil, err
	}
	if len(b) >= 34 && b[0] == 1 {
		scale, duration, rest = uint64(binary.BigEndian.Uint32(b[20:])), binary.BigEndian.Uint64(b[24:]), b[32:]
		if duration == 1<<64-1 {
			duration = 0
		}
		return scale, duration, rest, nil
	}
	if len(b) < 22 || b[0] != 0 {
		return 0, 0, nil, form("a bad header of times")
	}
	scale, duration, rest = uint64(binary.BigEndian.Uint32(b[12:])), uint64(binary.BigEndian.Uint32(b[16:])), b[20:]
	if duration == 1<<32-1 {
		duration = 0
	}
	return scale, duration, rest, nil
}

// fragments reads the duration of a film in fragments.
func (m *mp4) fragments(at, end int64) error {
	b, err := m.s.upTo(at, min(end-at, 12))
	if err != nil || m.i.DurationMS != 0 {
		return err
	}
	switch {
	case len(b) >= 12 && b[0] == 1:
		m.i.DurationMS = millis(binary.BigEndian.Uint64(b[4:]), m.scale)
	case len(b) >= 8 && b[0] == 0:
		m.i.DurationMS = millis(uint64(binary.BigEndian.Uint32(b[4:])), m.scale)
	}
	return nil
}

// segments adds up an index of segments.
func (m *mp4) segments(at, end int64) error {
	b, err := m.s.upTo(at, min(end-at, 32))
	if err != nil || len(b) < 24 {
		return err
	}
	scale, refs := uint64(binary.BigEndian.Uint32(b[8:])), at+24
	if b[0] == 1 {
		refs = at + 32
	}
	h, err := m.s.exactly(refs-2, 2)
	if err != nil {
		return err
	}
	var sum uint64
	for n := range int64(binary.BigEndian.Uint16(h)) {
		if refs+12*(n+1) > end {
			return form("an index is longer than its box")
		}
		if h, err = m.s.exactly(refs+12*n+4, 4); err != nil {
			return err
		}
		sum += uint64(binary.BigEndian.Uint32(h))
	}
	m.i.DurationMS = millis(sum, scale)
	return nil
}

// header reads a track's size on the screen, in 16.16 pixels.
func (m *mp4) header(at, end int64) error {
	b, err := m.s.upTo(at, min(end-at, 96))
	if err != nil {
		return err
	}
	size := 84
	if len(b) > 0 && b[0] == 1 {
		size = 96
	}
	if len(b) < size {
		return form("a bad track header")
	}
	m.track.Width, m.track.Height = int(binary.BigEndian.Uint32(b[size-8:])>>16), int(binary.BigEndian.Uint32(b[size-4:])>>16)
	return nil
}

// description reads the first description of a track's samples.
func (m *mp4) description(at, end int64) error {
	b, err := m.s.upTo(at, min(end-at, 8+16+28))
	if err != nil || len(b) < 8+16 {
		return err
	}
	e := b[8:]
	m.track.Codec = plain(e[4:8])
	switch {
	case m.track.Kind == Video && len(e) >= 36:
		m.track.Width, m.track.Height = int(binary.BigEndian.Uint16(e[32:])), int(binary.BigEndian.Uint16(e[34:]))
	case m.track.Kind == Audio && len(e) >= 36:
		m.track.Channels, m.track.SampleRate = int(binary.BigEndian.Uint16(e[24:])), int(binary.BigEndian.Uint32(e[32:])>>16)
	}
	return nil
}

func kindOf(handler string) string {
	switch handler {
	case "vide":
		return Video
	case "soun":
		return Audio
	case "text", "sbtl", "subt", "clcp":
		return Text
	}
	return Other
}

// language unpacks three letters of five bits.
func language(v uint16) string {
	var b [3]byte
	for i := range b {
		b[i] = byte(v>>(10-5*i)&31) + 0x60
		if b[i] < 'a' || b[i] > 'z' {
			return ""
		}
	}
	if s := string(b[:]); !strings.EqualFold(s, "und") {
		return s
	}
	return ""
}
