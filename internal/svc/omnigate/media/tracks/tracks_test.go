// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tracks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func zeros(n int) []byte   { return make([]byte, n) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// box is a box of an MP4.
func box(kind string, parts ...[]byte) []byte {
	data := join(parts...)
	return join(be32(uint32(8+len(data))), []byte(kind), data)
}

// trak is a track with a video's or a sound's description.
func trak(handler, codec string) []byte {
	entry := join([]byte(codec), zeros(8), zeros(16), be16(640), be16(360), zeros(8))
	if handler == "soun" {
		entry = join([]byte(codec), zeros(8), zeros(8), be16(2), zeros(6), be32(44100<<16), zeros(8))
	}
	return box("trak",
		box("tkhd", zeros(76), be32(640<<16), be32(360<<16)),
		box("mdia", box("mdhd", zeros(12), be32(1000), be32(5000), be16(4<<10|5<<5|21), zeros(2)),
			box("hdlr", zeros(8), []byte(handler), zeros(12)),
			box("minf", box("stbl", box("stsd", zeros(4), be32(1), be32(uint32(4+len(entry))), entry)))))
}

func mp4Of(duration uint32) []byte {
	return join(box("ftyp", []byte("isom"), zeros(4)), box("mdat", zeros(20_000)),
		box("moov", box("mvhd", zeros(12), be32(600), be32(duration), zeros(80)), trak("vide", "avc1"), trak("soun", "mp4a")))
}

// el is an element of a WebM.
func el(id uint32, parts ...[]byte) []byte {
	data := join(parts...)
	return join(bytes.TrimLeft(be32(id), "\x00"), be32(0x10000000|uint32(len(data))), data)
}

func webm() []byte {
	return join(el(idEBML, el(idDocType, []byte("webm"))),
		el(idSegment, el(idInfo, el(idScale, be32(1_000_000)), el(idDuration, binary.BigEndian.AppendUint64(nil, math.Float64bits(2500)))),
			el(idTracks, el(idTrack, el(idTrackKind, []byte{1}), el(idCodec, []byte("V_VP9")), el(idVideo, el(idWidth, be16(320)), el(idHeight, be16(240)))),
				el(idTrack, el(idTrackKind, []byte{2}), el(idCodec, []byte("A_OPUS")), el(idLanguage, []byte("fre")), el(idAudio, el(idSampleRate, be32(math.Float32bits(48000))), el(idChannels, []byte{2})))),
			el(idCluster, zeros(5000))))
}

// oggPage is a page with one packet of up to 254 bytes.
func oggPage(flags byte, granule uint64, serial uint32, packet []byte) []byte {
	le := binary.LittleEndian
	return join([]byte("OggS\x00"), []byte{flags}, le.AppendUint64(nil, granule), le.AppendUint32(nil, serial), zeros(8), []byte{1, byte(len(packet))}, packet)
}

func opus() []byte {
	head := join([]byte("OpusHead\x01\x02"), []byte{0x38, 0x01}, binary.LittleEndian.AppendUint32(nil, 44100), zeros(3))
	return join(oggPage(2, 0, 7, head), oggPage(0, 0, 7, []byte("OpusTags")), oggPage(0, 48000, 7, zeros(200)), oggPage(4, 3*48000+0x138, 7, zeros(100)))
}

// mp3Frame is a frame of 128 kbit/s at 44.1 kHz: 417 bytes.
func mp3Frame() []byte { return join([]byte{0xff, 0xfb, 0x90, 0x00}, zeros(413)) }

func mp3Counted(frames uint32) []byte {
	first := mp3Frame()
	copy(first[36:], join([]byte("Xing"), be32(1), be32(frames)))
	return join([]byte("ID3\x04\x00\x00\x00\x00\x00\x0a"), zeros(10), first, bytes.Repeat(mp3Frame(), 3))
}

func flac() []byte {
	v := uint64(44100)<<44 | uint64(1)<<41 | uint64(15)<<36 | 2*44100
	return join([]byte("fLaC\x80\x00\x00\x22"), zeros(10), binary.BigEndian.AppendUint64(nil, v), zeros(16))
}

func wav() []byte {
	le := binary.LittleEndian
	return join([]byte("RIFF\xff\xff\xff\xffWAVEfmt "), le.AppendUint32(nil, 16), []byte{1, 0, 1, 0}, le.AppendUint32(nil, 8000), le.AppendUint32(nil, 8000), []byte{1, 0, 8, 0}, []byte("data"), le.AppendUint32(nil, 4000), zeros(4000))
}

func read(b []byte) (Info, error) {
	return Read(context.Background(), bytes.NewReader(b), int64(len(b)))
}

func TestRead(t *testing.T) {
	for what, c := range map[string]struct {
		b    []byte
		want string
	}{
		"MP4, headers last": {mp4Of(3000), "{mp4 5000 [{video avc1 deu 5000 640 360 0 0 0} {audio mp4a deu 5000 640 360 2 44100 0}]}"},
		"MP4 of no length":  {mp4Of(math.MaxUint32), "{mp4 5000 [{video avc1 deu 5000 640 360 0 0 0} {audio mp4a deu 5000 640 360 2 44100 0}]}"},
		"WebM":              {webm(), "{webm 2500 [{video V_VP9 eng 0 320 240 0 0 0} {audio A_OPUS fre 0 0 0 2 48000 0}]}"},
		"Opus":              {opus(), "{ogg 3000 [{audio opus  3000 0 0 2 44100 0}]}"},
		"MP3, counted":      {mp3Counted(1000), "{mp3 26122 [{audio mp3  26122 0 0 2 44100 510}]}"},
		"MP3":               {bytes.Repeat(mp3Frame(), 100), "{mp3 2606 [{audio mp3  2606 0 0 2 44100 128000}]}"},
		"FLAC":              {flac(), "{flac 2000 [{audio flac  2000 0 0 2 44100 0}]}"},
		"WAV":               {wav(), "{wav 500 [{audio pcm  500 0 0 1 8000 64000}]}"},
	} {
		i, err := read(c.b)
		if got := fmt.Sprint(i); err != nil || got != c.want {
			t.Errorf("%s: %s, %v, want %s", what, got, err, c.want)
		}
	}
	if _, err := read([]byte("hello")); !errors.Is(err, ErrUnknown) {
		t.Errorf("a text: %v", err)
	}
}

// TestBroken: what is cut off, lies about lengths, nests or repeats without end is
// refused, and read no further than the limits.
func TestBroken(t *testing.T) {
	nest := func(kind string, n int) []byte {
		var b []byte
		for range n {
			b = box(kind, b)
		}
		return b
	}
	deep := []byte{}
	for range 20 {
		deep = el(idTracks, deep)
	}
	long := mp4Of(3000)
	copy(long[len(box("ftyp", zeros(8))):], be32(math.MaxUint32))
	for what, b := range map[string][]byte{
		"boxes in boxes":          join(box("ftyp", zeros(8)), box("moov", nest("trak", 30))),
		"elements in elements":    join(el(idEBML, el(idDocType, []byte("webm"))), el(idSegment, deep)),
		"a box longer than all":   long,
		"no headers":              box("ftyp", zeros(8)),
		"another document type":   el(idEBML, el(idDocType, []byte("other"))),
		"many tracks":             join(box("ftyp", zeros(8)), box("moov", bytes.Repeat(box("trak"), maxTracks+1))),
		"an endless row of boxes": join(box("ftyp", zeros(8)), bytes.Repeat(box("free"), maxNodes+1)),
		"a FLAC without a rate":   join([]byte("fLaC\x80\x00\x00\x22"), zeros(34)),
		"an ID3 and nothing":      []byte("ID3\x04\x00\x00\x00\x00\x00\x00"),
		"two films":               join(mp4Of(0), box("moov")),
	} {
		if i, err := read(b); !errors.Is(err, ErrForm) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %+v, %v", what, i, err)
		}
	}
	for what, b := range map[string][]byte{"mp4": mp4Of(3000), "webm": webm(), "ogg": opus(), "flac": flac()} {
		for n := 0; n < len(b); n += 1 + len(b)/60 {
			if i, err := read(b[:n]); err == nil && len(i.Tracks) == 0 {
				t.Errorf("%s, cut off at %d: no tracks and no error", what, n)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, bytes.NewReader(webm()), int64(len(webm()))); !errors.Is(err, context.Canceled) {
		t.Errorf("read after the end: %v", err)
	}
}

// far is a container of a terabyte, which counts what is read of it.
type far struct {
	head  []byte
	bytes int
}

func (f *far) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(f.head)) {
		copy(p, f.head[off:])
	}
	f.bytes += len(p)
	return len(p), nil
}

func TestReadsAreBounded(t *testing.T) {
	for what, head := range map[string][]byte{
		"mp4":  join(box("ftyp", zeros(8)), bytes.Repeat(join(be32(1), []byte("free"), zeros(5), []byte{1, 0, 0}), 3)),
		"ogg":  []byte("OggS\x00\x02"),
		"mp3":  []byte{0xff, 0xfb, 0x90, 0x00},
		"webm": webm()[:40],
	} {
		f := &far{head: head}
		_, _ = Read(t.Context(), f, 1<<40)
		if f.bytes > maxReads*pieceBytes {
			t.Errorf("%s: %d bytes were read", what, f.bytes)
		}
	}
}

// FuzzRead: whatever the bytes are, the answer is an error or within the bounds.
func FuzzRead(f *testing.F) {
	for _, b := range [][]byte{mp4Of(3000), webm(), opus(), mp3Counted(9), flac(), wav()} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := read(b)
		if err != nil {
			if !errors.Is(err, ErrForm) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrUnknown) {
				t.Fatal(err)
			}
			return
		}
		if len(i.Tracks) == 0 || len(i.Tracks) > maxTracks || i.DurationMS < 0 || i.DurationMS > maxSeconds*1000 {
			t.Fatalf("%+v", i)
		}
		for _, tr := range i.Tracks {
			if tr.Width < 0 || tr.Height < 0 || tr.Channels < 0 || tr.SampleRate < 0 || tr.BitRate < 0 || tr.DurationMS < 0 || len(tr.Codec)+len(tr.Language) > 2*maxText ||
				strings.ContainsFunc(tr.Codec+tr.Language, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%+v", tr)
			}
		}
	})
}
