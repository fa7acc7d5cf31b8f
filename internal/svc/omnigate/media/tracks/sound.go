// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tracks

import (
	"bytes"
	"encoding/binary"
)

// mpeg is the header of a frame of MPEG audio.
type mpeg struct {
	version    int // 1, 2, or 25 for 2.5
	layer      int
	bitRate    int // bits a second
	sampleRate int
	channels   int
	samples    int // of a frame
	bytes      int // of the frame
}

// Rates by version and layer, in kbit/s; 0 stands where none is allowed.
var (
	rates1 = [3][16]int{
		{0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 0},
		{0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0},
		{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0},
	}
	rates2 = [2][16]int{
		{0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 0},
		{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0},
	}
	sampleRates = [3]int{44100, 48000, 32000}
)

// mpegHeader reads the header at the beginning of b; nil: there is none.
func mpegHeader(b []byte) *mpeg {
	if len(b) < 4 || b[0] != 0xff || b[1]&0xe0 != 0xe0 {
		return nil
	}
	v, layer := b[1]>>3&3, 4-int(b[1]>>1&3)
	rate, sample := b[2]>>4, b[2]>>2&3
	if v == 1 || layer == 4 || sample == 3 {
		return nil
	}
	m := &mpeg{layer: layer, sampleRate: sampleRates[sample], channels: 2}
	switch v {
	case 3:
		m.version, m.bitRate = 1, 1000*rates1[layer-1][rate]
	case 2:
		m.version, m.sampleRate = 2, m.sampleRate/2
	default:
		m.version, m.sampleRate = 25, m.sampleRate/4
	}
	if m.version != 1 {
		m.bitRate = 1000 * rates2[min(layer-1, 1)][rate]
	}
	if m.bitRate == 0 {
		return nil
	}
	if b[3]>>6 == 3 {
		m.channels = 1
	}
	m.samples = 1152
	switch {
	case layer == 1:
		m.samples = 384
	case layer == 3 && m.version != 1:
		m.samples = 576
	}
	slot, pad := 1, int(b[2]>>1&1)
	if layer == 1 {
		slot = 4
	}
	m.bytes = (m.samples/8*m.bitRate/m.sampleRate/slot + pad) * slot
	return m
}

// maxID3 bounds the tags that are stepped over, which may hold pictures.
const maxID3 = 64 << 20

// readMP3 finds two frames in a row, and how many there are.
func readMP3(s *source, i *Info) error {
	i.Container = "mp3"
	at := int64(0)
	for range 4 { // tags may stand before tags
		b, err := s.upTo(at, 10)
		if err != nil {
			return err
		}
		if len(b) < 10 || string(b[:3]) != "ID3" {
			break
		}
		size := int64(b[6]&0x7f)<<21 | int64(b[7]&0x7f)<<14 | int64(b[8]&0x7f)<<7 | int64(b[9]&0x7f)
		if size > maxID3 {
			return form("a tag is too long")
		}
		at += 10 + size
		if b[5]&0x10 != 0 {
			at += 10
		}
	}
	b, err := s.upTo(at, pieceBytes)
	if err != nil {
		return err
	}
	for from := 0; ; from++ {
		n := bytes.IndexByte(b[from:], 0xff)
		if n < 0 {
			return form("no frames")
		}
		from += n
		m := mpegHeader(b[from:])
		if m == nil || m.bytes < 8 {
			continue
		}
		if end := at + int64(from+m.bytes); end < s.size {
			h, err := s.upTo(end, 4)
			if err != nil {
				return err
			}
			if b, err = s.upTo(at, pieceBytes); err != nil { // the window moved
				return err
			}
			if f := mpegHeader(h); f == nil || f.layer != m.layer || f.sampleRate != m.sampleRate {
				continue
			}
		} else if end > s.size {
			continue
		}
		return m.film(s, i, at+int64(from), b[from:])
	}
}

// film makes the track: by the count of frames in the first one, or as if all were
// like the first.
func (m *mpeg) film(s *source, i *Info, at int64, b []byte) error {
	t := Track{Kind: Audio, Codec: map[int]string{1: "mp1", 2: "mp2", 3: "mp3"}[m.layer], Channels: m.channels, SampleRate: m.sampleRate, BitRate: m.bitRate}
	side := map[bool]int{true: 32, false: 17}[m.version == 1]
	if m.channels == 1 {
		side = map[bool]int{true: 17, false: 9}[m.version == 1]
	}
	size := s.size - at
	if tail, err := s.upTo(s.size-128, 3); err == nil && string(tail) == "TAG" {
		size -= 128
	}
	frames := uint64(0)
	if x := 4 + side; len(b) >= x+12 && (string(b[x:x+4]) == "Xing" || string(b[x:x+4]) == "Info") && b[x+7]&1 != 0 {
		frames = uint64(binary.BigEndian.Uint32(b[x+8:]))
	} else if len(b) >= 4+32+18 && string(b[36:40]) == "VBRI" {
		frames = uint64(binary.BigEndian.Uint32(b[36+14:]))
	}
	if frames > 0 {
		t.DurationMS = millis(frames*uint64(m.samples), uint64(m.sampleRate))
		if t.DurationMS > 0 {
			t.BitRate = int(min(size*8*1000/t.DurationMS, 1<<31-1))
		}
	} else {
		t.DurationMS = millis(uint64(max(size, 0))*8, uint64(m.bitRate))
	}
	i.DurationMS = t.DurationMS
	return i.add(t)
}

// readWAV reads the chunks before the sound.
func readWAV(s *source, i *Info) error {
	i.Container = "wav"
	var t *Track
	var align, rate uint32
	for at := int64(12); at+8 <= s.size; {
		if err := s.node(); err != nil {
			return err
		}
		b, err := s.upTo(at, 8+16)
		if err != nil || len(b) < 8 {
			return err
		}
		size := int64(binary.LittleEndian.Uint32(b[4:]))
		switch kind := string(b[:4]); {
		case kind == "fmt " && len(b) >= 24:
			t = &Track{Kind: Audio, Codec: "pcm", Channels: int(binary.LittleEndian.Uint16(b[10:])), SampleRate: int(min(binary.LittleEndian.Uint32(b[12:]), 1<<31-1))}
			if code := binary.LittleEndian.Uint16(b[8:]); code != 1 && code != 3 && code != 0xfffe {
				t.Codec = "other"
			}
			rate, align = binary.LittleEndian.Uint32(b[16:]), uint32(binary.LittleEndian.Uint16(b[20:]))
			t.BitRate = int(min(int64(rate)*8, 1<<31-1))
		case kind == "data":
			if t == nil || align == 0 {
				return form("sound without its format")
			}
			t.DurationMS = millis(uint64(min(size, s.size-at-8)), uint64(rate))
			i.DurationMS = t.DurationMS
			return i.add(*t)
		}
		at += 8 + size + size&1
	}
	return form("no sound")
}

// readFLAC reads the first block.
func readFLAC(s *source, i *Info) error {
	b, err := s.exactly(0, 42)
	if err != nil {
		return err
	}
	i.Container = "flac"
	t, err := streamInfo(b[4:])
	if err != nil {
		return err
	}
	i.DurationMS = t.DurationMS
	return i.add(t)
}

// streamInfo reads FLAC's block of that name, with its head.
func streamInfo(b []byte) (Track, error) {
	if len(b) < 38 || b[0]&0x7f != 0 || b[1] != 0 || b[2] != 0 || b[3] != 34 {
		return Track{}, form("no STREAMINFO")
	}
	v := binary.BigEndian.Uint64(b[14:])
	rate := v >> 44
	if rate == 0 {
		return Track{}, form("a sample rate of 0")
	}
	return Track{Kind: Audio, Codec: "flac", SampleRate: int(rate), Channels: int(v>>41&7) + 1, DurationMS: millis(v&(1<<36-1), rate)}, nil
}
