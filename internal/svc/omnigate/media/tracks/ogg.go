// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tracks

import (
	"bytes"
	"encoding/binary"
)

// pageHead is the fixed part of a page (RFC 3533).
const pageHead = 27

// page is one page's header.
type page struct {
	first   bool // of its stream
	granule uint64
	serial  uint32
	body    int64 // where it begins
	end     int64
}

// noGranule says that no packet ends on the page.
const noGranule = 1<<64 - 1

// page reads the header of the page at at.
func (s *source) page(at int64) (p page, err error) {
	b, err := s.exactly(at, pageHead)
	if err != nil {
		return p, err
	}
	if string(b[:4]) != "OggS" || b[4] != 0 {
		return p, form("no page where one is due")
	}
	p = page{first: b[5]&2 != 0, granule: binary.LittleEndian.Uint64(b[6:]), serial: binary.LittleEndian.Uint32(b[14:])}
	segments := int64(b[26])
	if b, err = s.exactly(at+pageHead, segments); err != nil {
		return p, err
	}
	p.body = at + pageHead + segments
	p.end = p.body
	for _, n := range b {
		p.end += int64(n)
	}
	return p, nil
}

// stream is a stream of an Ogg, and what its granules count.
type stream struct {
	serial uint32
	track  int
	rate   uint64 // granules a second
	skip   uint64 // granules before the beginning
	frames uint   // of Theora: the bits of a granule that count from the last key frame
	last   uint64
}

// readOgg reads the streams' first pages, and the last granules from the end.
func readOgg(s *source, i *Info) error {
	i.Container = "ogg"
	var streams []stream
	for at := int64(0); at < s.size; {
		if err := s.node(); err != nil {
			return err
		}
		p, err := s.page(at)
		if err != nil {
			return err
		}
		if !p.first {
			break // the first pages come before all others
		}
		b, err := s.upTo(p.body, min(p.end-p.body, 128))
		if err != nil {
			return err
		}
		t, st := identify(b)
		st.serial, st.track = p.serial, len(i.Tracks)
		if err := i.add(t); err != nil {
			return err
		}
		streams = append(streams, st)
		at = p.end
	}
	if err := lastGranules(s, streams); err != nil {
		return err
	}
	for _, st := range streams {
		t := &i.Tracks[st.track]
		if count := st.last; count > st.skip && t.DurationMS == 0 {
			if st.frames > 0 {
				count = count>>st.frames + count&(1<<st.frames-1)
			}
			t.DurationMS = millis(count-min(st.skip, count), st.rate)
		}
	}
	i.longest()
	return nil
}

// tailPieces is how much of the end is searched for the last pages.
const tailPieces = 8

// lastGranules finds the last granule of each stream.
func lastGranules(s *source, streams []stream) error {
	left := len(streams)
	for n := int64(1); n <= tailPieces && left > 0; n++ {
		// Pieces overlap, so that no header is cut in two.
		from := max(s.size-n*(pieceBytes-pageHead)-pageHead, 0)
		b, err := s.upTo(from, pieceBytes)
		if err != nil {
			return err
		}
		for end := len(b); left > 0; {
			at := bytes.LastIndex(b[:end], []byte("OggS"))
			if at < 0 {
				break
			}
			end = at
			if len(b)-at < pageHead || b[at+4] != 0 {
				continue
			}
			granule, serial := binary.LittleEndian.Uint64(b[at+6:]), binary.LittleEndian.Uint32(b[at+14:])
			for k := range streams {
				if st := &streams[k]; st.serial == serial && st.last == 0 && granule != noGranule && granule != 0 {
					st.last = granule
					left--
				}
			}
		}
		if from == 0 {
			return nil
		}
	}
	return nil
}

// identify reads a stream's first packet.
func identify(b []byte) (t Track, st stream) {
	has := func(text string, n int) bool { return len(b) >= n && bytes.HasPrefix(b, []byte(text)) }
	t.Kind = Other
	switch {
	case has("\x01vorbis", 28):
		t = Track{Kind: Audio, Codec: "vorbis", Channels: int(b[11]), SampleRate: int(min(binary.LittleEndian.Uint32(b[12:]), 1<<31-1))}
		if rate := int32(binary.LittleEndian.Uint32(b[20:])); rate > 0 {
			t.BitRate = int(rate)
		}
		st.rate = uint64(t.SampleRate)
	case has("OpusHead", 19):
		t = Track{Kind: Audio, Codec: "opus", Channels: int(b[9]), SampleRate: int(min(binary.LittleEndian.Uint32(b[12:]), 1<<31-1))}
		st.rate, st.skip = 48000, uint64(binary.LittleEndian.Uint16(b[10:]))
	case has("\x7fFLAC", 13+38):
		if f, err := streamInfo(b[13:]); err == nil {
			t, st.rate = f, uint64(f.SampleRate)
		}
	case has("Speex   ", 52):
		t = Track{Kind: Audio, Codec: "speex", SampleRate: int(min(binary.LittleEndian.Uint32(b[36:]), 1<<31-1)), Channels: int(min(binary.LittleEndian.Uint32(b[48:]), 255))}
		st.rate = uint64(t.SampleRate)
	case has("\x80theora", 42):
		u24 := func(at int) int { return int(b[at])<<16 | int(b[at+1])<<8 | int(b[at+2]) }
		t = Track{Kind: Video, Codec: "theora", Width: u24(14), Height: u24(17)}
		st.frames = uint(b[40]&3)<<3 | uint(b[41]>>5)
		if den := binary.BigEndian.Uint32(b[26:]); den > 0 {
			st.rate = uint64(binary.BigEndian.Uint32(b[22:]) / den)
		}
	}
	return t, st
}
