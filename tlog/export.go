// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/rustyonions/macronode/b3"
)

// An export is a log, or what was not pruned of it, as text: the line
// exportMagic; the Head as one line of JSON; for each 256 records one line "#"
// and their leaf hashes in base64, then a line for each record, its entry; an
// empty line; and the signed checkpoint of the tree that they end.
const exportMagic = "macronode-audit-export/1"

// maxHeadBytes bounds the second line: a name and a hash for each stream.
const maxHeadBytes = 64 << 20

// Errors of exports.
var (
	// ErrExport: bytes that are no export.
	ErrExport = errors.New("tlog: not an export")
	// ErrTampered: an export that is not what the checkpoint was signed for.
	ErrTampered = errors.New("tlog: tampered")
)

// Head says where an export begins.
type Head struct {
	Origin string `json:"origin"`
	Writer string `json:"writer"`
	// First is the index of the first record. Of a log that was pruned it is not 0;
	// Peaks are then the tree's edge before it, and Heads the newest record's hash of
	// each stream.
	First uint64             `json:"first"`
	Size  uint64             `json:"size"` // of the tree under the checkpoint
	Peaks Path               `json:"peaks"`
	Heads map[string]b3.Addr `json:"heads"`
}

// Exporter writes an export.
type Exporter struct {
	w    *bufio.Writer
	head Head
	next uint64
	tile [][]byte
}

// NewExporter writes the beginning of an export.
func NewExporter(w io.Writer, h Head) (*Exporter, error) {
	if h.Peaks == nil {
		h.Peaks = Path{}
	}
	if h.Heads == nil {
		h.Heads = map[string]b3.Addr{}
	}
	line, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	e := &Exporter{w: bufio.NewWriterSize(w, 1<<16), head: h, next: h.First}
	_, err = fmt.Fprintf(e.w, "%s\n%s\n", exportMagic, line)
	return e, err
}

// Add writes the next entry, which may not be changed before Close.
func (e *Exporter) Add(entry []byte) error {
	if e.next >= e.head.Size {
		return fmt.Errorf("%w: an entry beyond the tree of %d", ErrExport, e.head.Size)
	}
	e.next++
	e.tile = append(e.tile, bytes.Clone(entry))
	if e.next%TileWidth == 0 {
		return e.flush()
	}
	return nil
}

func (e *Exporter) flush() error {
	if len(e.tile) == 0 {
		return nil
	}
	hashes := make([]byte, 0, TileWidth*len(Hash{}))
	for _, entry := range e.tile {
		h := LeafHash(entry)
		hashes = append(hashes, h[:]...)
	}
	line := base64.StdEncoding.AppendEncode([]byte{'#'}, hashes)
	_, err := e.w.Write(append(line, '\n'))
	for _, entry := range e.tile {
		if err == nil {
			_, err = e.w.Write(append(entry, '\n'))
		}
	}
	e.tile = e.tile[:0]
	return err
}

// Close writes the checkpoint and what is still held. All entries were added.
func (e *Exporter) Close(checkpoint []byte) error {
	if e.next != e.head.Size {
		return fmt.Errorf("%w: %d of %d entries", ErrExport, e.next, e.head.Size)
	}
	if err := e.flush(); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(e.w, "\n%s", checkpoint); err != nil {
		return err
	}
	return e.w.Flush()
}

// Verified is what was found true of an export.
type Verified struct {
	Head    Head
	Signed  *Signed
	Records uint64
	Heads   map[string]b3.Addr // newest record's hash of each stream
}

// VerifyExport reads an export to its end and checks everything that it claims:
// each record's form, hash, place and chain, the tree that they make, and the
// checkpoint's signatures by all of the log's keys. each, if not nil, is called
// with every record that holds so far; it may keep it. An error that wraps
// ErrTampered names the first bad record.
func VerifyExport(r io.Reader, keys []Key, each func(*Record) error) (*Verified, error) {
	v := &verify{in: bufio.NewReaderSize(r, 1<<16), each: each}
	if err := v.begin(); err != nil {
		return nil, err
	}
	if err := v.records(); err != nil {
		return nil, err
	}
	if v.front.Size() != v.head.Size {
		return nil, fmt.Errorf("%w: record %d is missing: it ends before %d", ErrTampered, v.front.Size(), v.head.Size)
	}
	text, err := io.ReadAll(io.LimitReader(v.in, MaxCheckpointBytes+1))
	if err != nil {
		return nil, err
	}
	signed, err := OpenLog(text, keys)
	if err != nil {
		return nil, err
	}
	switch {
	case signed.Origin != v.head.Origin:
		return nil, fmt.Errorf("%w: the checkpoint is of %q, the records of %q", ErrTampered, signed.Origin, v.head.Origin)
	case signed.Size != v.head.Size:
		return nil, fmt.Errorf("%w: the checkpoint is of %d records, the export ends with %d", ErrTampered, signed.Size, v.head.Size)
	case v.front.Root() == signed.Root && v.strange != nil:
		return nil, v.strange
	case v.front.Root() != signed.Root && v.strange != nil:
		return nil, fmt.Errorf("%w; nor do the leaf hashes make the tree that was signed", v.strange)
	case v.front.Root() != signed.Root:
		return nil, fmt.Errorf("%w: records and chain fit each other, but they are not the tree that was signed: written anew from a record on", ErrTampered)
	}
	return &Verified{v.head, signed, v.chain.Records(), v.chain.heads}, nil
}

type verify struct {
	in      *bufio.Reader
	each    func(*Record) error
	head    Head
	chain   Chain
	front   *Frontier
	leaves  []byte // of the records that follow
	strange error  // the first record that is not the leaf hash's
	line    []byte
}

// next reads a line of at most limit bytes, which holds until the next call.
func (v *verify) next(limit int) ([]byte, error) {
	v.line = v.line[:0]
	for {
		part, err := v.in.ReadSlice('\n')
		if len(v.line)+len(part) > limit {
			return nil, fmt.Errorf("%w: a line of more than %d bytes after record %d", ErrExport, limit, v.at())
		}
		switch {
		case err == nil && len(v.line) == 0:
			return part[:len(part)-1], nil
		case err == nil:
			v.line = append(v.line, part...)
			return v.line[:len(v.line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
			v.line = append(v.line, part...)
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: it ends in the middle, after record %d", ErrExport, v.at())
		default:
			return nil, err
		}
	}
}

func (v *verify) at() uint64 {
	if v.front == nil {
		return 0
	}
	return v.front.Size()
}

func (v *verify) begin() error {
	line, err := v.next(len(exportMagic) + 1)
	if err != nil {
		return err
	}
	if string(line) != exportMagic {
		return fmt.Errorf("%w: it does not begin with %s", ErrExport, exportMagic)
	}
	if line, err = v.next(maxHeadBytes); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&v.head); err != nil {
		return fmt.Errorf("%w: %w", ErrExport, err)
	}
	h := &v.head
	if h.First > h.Size || h.Size > MaxTreeSize || h.Writer == "" {
		return fmt.Errorf("%w: records %d to %d of %.80q", ErrExport, h.First, h.Size, h.Writer)
	}
	if v.front, err = NewFrontier(h.First, h.Peaks); err != nil {
		return fmt.Errorf("%w: %w", ErrExport, err)
	}
	v.chain.Whole = true
	v.chain.Resume(h.Writer, h.First, h.Heads)
	return nil
}

func (v *verify) records() error {
	for {
		line, err := v.next(max(MaxRecordBytes, base64.StdEncoding.EncodedLen(TileWidth*len(Hash{}))+1) + 1)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return nil
		}
		if line[0] == '#' {
			err = v.tile(line[1:])
		} else {
			err = v.record(line)
		}
		if err != nil {
			return err
		}
	}
}

// tile takes the leaf hashes of the records that follow.
func (v *verify) tile(text []byte) error {
	if len(v.leaves) > 0 {
		return fmt.Errorf("%w: record %d is missing: the next hashes come before it", ErrTampered, v.front.Size())
	}
	raw, err := base64.StdEncoding.Strict().AppendDecode(v.leaves[:0], text)
	if err != nil || len(raw)%len(Hash{}) != 0 {
		return fmt.Errorf("%w: the hashes before record %d", ErrExport, v.front.Size())
	}
	v.leaves = raw
	return nil
}

func (v *verify) record(entry []byte) error {
	seq := v.front.Size()
	var want Hash
	if len(v.leaves) < len(want) {
		return fmt.Errorf("%w: record %d has no leaf hash before it", ErrTampered, seq)
	}
	v.leaves = v.leaves[copy(want[:], v.leaves):]
	r, err := Parse(entry)
	if err == nil {
		err = v.chain.follow(r)
	}
	if err != nil {
		return fmt.Errorf("%w: record %d: %w", ErrTampered, seq, err)
	}
	if v.strange == nil && LeafHash(entry) != want {
		v.strange = fmt.Errorf("%w: record %d is not what the tree was made of", ErrTampered, seq)
	}
	v.front.Add(want, nil)
	if v.each != nil {
		return v.each(r)
	}
	return nil
}

// Receipt proves offline that a record is in a log.
type Receipt struct {
	Record     json.RawMessage `json:"record"` // the entry
	Inclusion  Inclusion       `json:"inclusion"`
	Checkpoint string          `json:"checkpoint"`
}

// Verify checks the record's own hash, that it is in the tree, and that all of
// the log's keys signed that.
func (p *Receipt) Verify(keys []Key) (*Record, *Signed, error) {
	r, err := Parse(p.Record)
	if err != nil {
		return nil, nil, err
	}
	s, err := OpenLog([]byte(p.Checkpoint), keys)
	if err != nil {
		return nil, nil, err
	}
	if r.Seq != p.Inclusion.Seq {
		return nil, nil, fmt.Errorf("%w: the record is number %d, the proof is of %d", ErrProof, r.Seq, p.Inclusion.Seq)
	}
	return r, s, p.Inclusion.Check(s.Checkpoint, p.Record)
}
