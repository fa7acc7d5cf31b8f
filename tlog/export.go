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
	"strings"
	"sync"

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
	return &Verified{v.head, signed, v.chain.Records(), v.chain.all()}, nil
}

type verify struct {
	in      *bufio.Reader
	each    func(*Record) error
	head    Head
	chain   Chain
	front   *Frontier
	next    uint64 // number of the record that is read next
	grow    int    // bytes of the entries of the largest block
	strange error  // the first record that is not the leaf hash's
	line    []byte
}

// read reads a line of at most limit bytes, which holds until the next call.
func (v *verify) read(limit int) ([]byte, error) {
	v.line = v.line[:0]
	for {
		part, err := v.in.ReadSlice('\n')
		if len(v.line)+len(part) > limit {
			return nil, fmt.Errorf("%w: a line of more than %d bytes before record %d", ErrExport, limit, v.next)
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
			return nil, fmt.Errorf("%w: it ends in the middle, before record %d", ErrExport, v.next)
		default:
			return nil, err
		}
	}
}

func (v *verify) begin() error {
	line, err := v.read(len(exportMagic) + 1)
	if err != nil {
		return err
	}
	if string(line) != exportMagic {
		return fmt.Errorf("%w: it does not begin with %s", ErrExport, exportMagic)
	}
	if line, err = v.read(maxHeadBytes); err != nil {
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
	v.next = h.First
	v.chain.Whole = true
	v.chain.Resume(h.Writer, h.First, h.Heads)
	return nil
}

// block is a line of leaf hashes with the records that follow it.
type block struct {
	first  uint64
	leaves []byte
	text   strings.Builder // the entries
	ends   []int           // where each ends in it
	lean   bool            // nobody wants the records
	err    error           // what was wrong with the text behind the entries

	parsed chan struct{} // closed when what is below it is there
	read   []parsed
	// strange is the first record that is not its leaf hash's; len(read): none.
	strange int
	root    Hash // of the leaf hashes, where they make a perfect subtree at its place
}

type parsed struct {
	record *Record
	err    error
}

// ahead is how many blocks may be read before the one that is checked.
const ahead = 8

// records reads to the empty line. Reading, parsing with all hashes, and checking
// what belongs together go on at the same time; blocks are checked in order.
func (v *verify) records() error {
	blocks, stop := make(chan *block, ahead), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		defer close(blocks)
		for {
			b, last := v.block()
			group.Go(b.parse)
			select {
			case blocks <- b:
			case <-stop:
				return
			}
			if last {
				return
			}
		}
	})
	defer group.Wait()
	defer close(stop)
	for b := range blocks {
		<-b.parsed
		if err := v.check(b); err != nil {
			return err
		}
	}
	return nil
}

// block reads the next block; last says that none follows.
func (v *verify) block() (b *block, last bool) {
	b = &block{first: v.next, lean: v.each == nil, parsed: make(chan struct{})}
	const most = TileWidth * len(Hash{})
	for {
		peek, _ := v.in.Peek(1)
		if len(peek) == 1 && peek[0] == '#' && b.leaves != nil {
			return b, false
		}
		line, err := v.read(max(MaxRecordBytes, base64.StdEncoding.EncodedLen(most)+1) + 1)
		switch {
		case err != nil:
			b.err = err
		case len(line) == 0:
			return b, true
		case line[0] == '#':
			if b.leaves, err = base64.StdEncoding.Strict().AppendDecode(make([]byte, 0, most), line[1:]); err != nil || len(b.leaves)%len(Hash{}) != 0 {
				b.err = fmt.Errorf("%w: the hashes before record %d", ErrExport, v.next)
			}
			b.ends = make([]int, 0, TileWidth)
			b.text.Grow(v.grow)
		case len(b.ends)*len(Hash{}) == len(b.leaves):
			b.err = fmt.Errorf("%w: record %d has no leaf hash before it", ErrTampered, v.next)
		default:
			b.text.Write(line)
			b.ends = append(b.ends, b.text.Len())
			v.next, v.grow = v.next+1, max(v.grow, b.text.Len())
		}
		if b.err != nil {
			return b, true
		}
	}
}

// leaf is the i-th leaf hash that the export says.
func (b *block) leaf(i int) (h Hash) {
	copy(h[:], b.leaves[i*len(h):])
	return h
}

// parse does what needs no other block.
func (b *block) parse() {
	defer close(b.parsed)
	n := len(b.ends)
	b.read, b.strange = make([]parsed, n), n
	var records []Record
	if b.lean {
		records = make([]Record, n) // kept together, and dropped together
	}
	buf, text, from := new(scratch), b.text.String(), 0
	for i, end := range b.ends {
		p, entry := &b.read[i], text[from:end]
		from = end
		if b.lean {
			p.record = &records[i]
		} else {
			p.record, entry = &Record{}, strings.Clone(entry)
		}
		if !scanInto(p.record, entry, buf, b.lean) {
			p.record, p.err = Parse([]byte(entry))
		}
		if b.strange == n && buf.leaf(entry) != b.leaf(i) {
			b.strange = i
		}
	}
	if n == TileWidth && b.first%TileWidth == 0 && len(b.leaves) == n*len(Hash{}) {
		var leaves [TileWidth]Hash
		for i := range leaves {
			leaves[i] = b.leaf(i)
		}
		b.root = perfect(leaves[:])
	}
}

// check looks at the block's records one after the other.
func (v *verify) check(b *block) error {
	for i := range b.read {
		p, seq := &b.read[i], b.first+uint64(i) //nolint:gosec // not negative
		err := p.err
		if err == nil {
			err = v.chain.follow(p.record)
		}
		if err != nil {
			return fmt.Errorf("%w: record %d: %w", ErrTampered, seq, err)
		}
		if v.strange == nil && i == b.strange {
			v.strange = fmt.Errorf("%w: record %d is not what the tree was made of", ErrTampered, seq)
		}
		if b.root == (Hash{}) {
			v.front.Add(b.leaf(i), nil)
		}
		if v.each != nil {
			if err := v.each(p.record); err != nil {
				return err
			}
		}
	}
	if b.root != (Hash{}) {
		v.front.addPerfect(tileBits, b.root)
	}
	if b.err != nil {
		return b.err
	}
	if n := len(b.leaves) / len(Hash{}); n != len(b.read) {
		return fmt.Errorf("%w: record %d is missing: its hash is there", ErrTampered, v.front.Size())
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
