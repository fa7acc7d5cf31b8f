// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tracks

import (
	"encoding/binary"
	"math"
)

// Elements of Matroska (RFC 9559) that are read, and those that are entered.
const (
	idEBML       = 0x1a45dfa3
	idDocType    = 0x4282
	idSegment    = 0x18538067
	idSeekHead   = 0x114d9b74
	idSeek       = 0x4dbb
	idSeekID     = 0x53ab
	idSeekAt     = 0x53ac
	idInfo       = 0x1549a966
	idScale      = 0x2ad7b1
	idDuration   = 0x4489
	idTracks     = 0x1654ae6b
	idTrack      = 0xae
	idTrackKind  = 0x83
	idCodec      = 0x86
	idLanguage   = 0x22b59c
	idLanguageT  = 0x22b59d
	idVideo      = 0xe0
	idWidth      = 0xb0
	idHeight     = 0xba
	idAudio      = 0xe1
	idSampleRate = 0xb5
	idChannels   = 0x9f
	idCluster    = 0x1f43b675

	// defaultScale is nanoseconds of a unit of time where nothing is said.
	defaultScale = 1_000_000
	unknownSize  = -1
)

type ebml struct {
	s        *source
	i        *Info
	scale    uint64
	duration float64 // units
	segment  int64   // where the segment's content begins
	tracks   bool    // were read
	info     bool
	seek     struct{ id, at uint64 }
	later    []int64 // where the seek head says that Info and Tracks lie
}

func readEBML(s *source, i *Info) error {
	e := &ebml{s: s, i: i, scale: defaultScale}
	if err := e.level(0, s.size, 0, 0); err != nil {
		return err
	}
	// Where a player would look for what lies behind the clusters.
	for _, at := range e.later[:min(len(e.later), 8)] {
		if e.tracks && e.info {
			break
		}
		id, size, head, err := e.element(at)
		if err != nil {
			return err
		}
		if (id != idInfo || e.info) && (id != idTracks || e.tracks) || size == unknownSize {
			continue
		}
		if err := e.enter(id, at+head, min(at+head+size, s.size), 2); err != nil {
			return err
		}
	}
	if i.Container == "" {
		return form("no document type")
	}
	i.DurationMS = fromSeconds(e.duration * float64(e.scale) / 1e9)
	return nil
}

// element reads the head of the element at at.
func (e *ebml) element(at int64) (id uint64, size, head int64, err error) {
	b, err := e.s.upTo(at, 12)
	if err != nil {
		return 0, 0, 0, err
	}
	id, n, _ := vint(b, false)
	if n == 0 || n > 4 {
		return 0, 0, 0, form("a bad element")
	}
	v, m, ones := vint(b[n:], true)
	if m == 0 {
		return 0, 0, 0, form("a bad element")
	}
	size = int64(v)
	if ones {
		size = unknownSize
	}
	return id, size, int64(n + m), nil
}

// vint reads a number of variable length; ones says that all its bits are set.
func vint(b []byte, strip bool) (v uint64, n int, ones bool) {
	if len(b) == 0 || b[0] == 0 {
		return 0, 0, false
	}
	for n = 1; b[0]>>(8-n) == 0; n++ {
	}
	if n > len(b) {
		return 0, 0, false
	}
	first := b[0]
	if strip {
		first &= 1<<(8-n) - 1
	}
	v = uint64(first)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, n, strip && v == 1<<(7*n)-1
}

// level reads the elements from at to end.
func (e *ebml) level(at, end int64, parent uint64, depth int) error {
	if depth > maxDepth {
		return form("elements too deep in elements")
	}
	for at < end {
		if err := e.s.node(); err != nil {
			return err
		}
		id, size, head, err := e.element(at)
		if err != nil {
			return err
		}
		if id == idCluster {
			if e.tracks && e.info || size == unknownSize || parent != idSegment {
				return nil // what follows is film
			}
			if len(e.later) > 0 {
				return nil // the seek head knows the way
			}
		}
		stop := at + head + size
		if size == unknownSize {
			if id != idSegment {
				return form("an element without a length")
			}
			stop = end
		}
		if stop > end || stop < at {
			if id != idSegment && !(parent == idSegment && e.tracks) {
				return form("an element is longer than what it is in")
			}
			stop = end // cut off on its way here, the headers are whole
		}
		if err := e.enter(id, at+head, stop, depth); err != nil {
			return err
		}
		at = stop
	}
	return nil
}

// enter reads one element's content.
func (e *ebml) enter(id uint64, at, end int64, depth int) error {
	switch id {
	case idEBML, idSeekHead, idVideo, idAudio:
		return e.level(at, end, id, depth+1)
	case idSegment:
		if e.segment != 0 {
			return nil // one film is enough
		}
		e.segment = at
		return e.level(at, end, id, depth+1)
	case idInfo:
		e.info = true
		return e.level(at, end, id, depth+1)
	case idTracks:
		e.tracks = true
		return e.level(at, end, id, depth+1)
	case idTrack:
		if err := e.i.add(Track{Kind: Other, Language: "eng"}); err != nil {
			return err
		}
		return e.level(at, end, id, depth+1)
	case idSeek:
		e.seek.id, e.seek.at = 0, 0
		if err := e.level(at, end, id, depth+1); err != nil {
			return err
		}
		if (e.seek.id == idInfo || e.seek.id == idTracks) && e.seek.at < uint64(e.s.size) && len(e.later) < 8 {
			e.later = append(e.later, e.segment+int64(e.seek.at))
		}
		return nil
	}
	return e.value(id, at, end)
}

// value reads an element that holds one.
func (e *ebml) value(id uint64, at, end int64) error {
	switch id {
	case idDocType, idSeekID, idSeekAt, idScale, idDuration, idTrackKind, idCodec, idLanguage, idLanguageT, idWidth, idHeight, idSampleRate, idChannels:
	default:
		return nil
	}
	b, err := e.s.exactly(at, min(end-at, maxText))
	if err != nil {
		return err
	}
	n := number(b)
	switch id {
	case idDocType:
		if e.i.Container = plain(b); e.i.Container != "webm" && e.i.Container != "matroska" {
			return form("the document type is neither webm nor matroska")
		}
	case idSeekID:
		e.seek.id = n
	case idSeekAt:
		e.seek.at = n
	case idScale:
		e.scale = n
	case idDuration:
		e.duration = float(b)
	}
	if len(e.i.Tracks) == 0 {
		return nil
	}
	t := &e.i.Tracks[len(e.i.Tracks)-1]
	small := int(min(n, math.MaxInt32))
	switch id {
	case idTrackKind:
		t.Kind = map[uint64]string{1: Video, 2: Audio, 17: Text}[n]
		if t.Kind == "" {
			t.Kind = Other
		}
	case idCodec:
		t.Codec = plain(b)
	case idLanguage, idLanguageT:
		if t.Language = plain(b); t.Language == "und" {
			t.Language = ""
		}
	case idWidth:
		t.Width = small
	case idHeight:
		t.Height = small
	case idChannels:
		t.Channels = small
	case idSampleRate:
		if f := float(b); f > 0 && f < math.MaxInt32 {
			t.SampleRate = int(f)
		}
	}
	return nil
}

// number is a number of up to eight bytes; longer ones say nothing.
func number(b []byte) (v uint64) {
	if len(b) > 8 {
		return 0
	}
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

func float(b []byte) float64 {
	switch len(b) {
	case 4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
	case 8:
		return math.Float64frombits(binary.BigEndian.Uint64(b))
	}
	return 0
}
