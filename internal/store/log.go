// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package store

import "context"

// Limits of a log's records.
const (
	// MaxRecordBytes is the length of the largest record.
	MaxRecordBytes = 17 << 20
	// MaxStageBytes is the most that one call of Stage takes, with
	// RecordRoomBytes added to each record.
	MaxStageBytes   = 64 << 20
	RecordRoomBytes = 24
)

// Pos is the place of a record in a log: the number of its segment << 32 | its
// offset there. 0 is none. Places are ordered like the records.
type Pos uint64

// Segment is the number of the segment that p is in.
func (p Pos) Segment() uint32 { return uint32(p >> 32) }

// Offset is where in its segment p is, in bytes.
func (p Pos) Offset() int64 { return int64(uint32(p)) }

// MakePos is the place at off of a segment.
func MakePos(segment uint32, off int64) Pos { return Pos(segment)<<32 | Pos(uint32(off)) }

// Span is the place of a record, and how long it is at most: where it is longer,
// reading it costs more.
type Span struct {
	At    Pos
	Bytes int64
}

// LogSegment is a piece of a log that is dropped as a whole.
type LogSegment struct {
	ID    uint32
	Bytes int64 // on disk
	// Active: records may still be added; it cannot be dropped. It is the last.
	Active bool
}

// Log is an append-only sequence of records, kept in segments. What a crash leaves
// of it is all that was durable, and of the rest a beginning. A place beyond
// Durable may be given again, to another record, after a crash: nothing that
// outlives the process may name it.
//
// A write or sync of the log that fails is final: Stage, Sync and Check return that
// error for ever, for nobody knows what the disk holds. Opening the log again finds
// out. It is safe for concurrent use.
type Log interface {
	// Stage gives each record a place, after all that were staged before, and
	// returns without waiting for the disk: nothing is durable yet, and nobody
	// writes it until somebody waits for it or enough has gathered. The records
	// are copied. They go in together or not at all, into one segment.
	//
	// ErrFull where there is no space beyond the reserve; with reserve it is
	// used, which is for records that free space. ErrTooLarge beyond the limits.
	// It waits only while far more is staged than the disk has taken.
	Stage(reserve bool, records ...[]byte) ([]Pos, error)
	// StageOne is Stage of the record that is head and then body, without
	// allocating.
	StageOne(reserve bool, head, body []byte) (Pos, error)
	// Sync returns once all that was staged before the call is durable: it
	// survives kill -9 and power loss. Those who wait at one time share fsyncs; who
	// waits alone waits for nobody else. ctx ends the wait, not the write.
	Sync(ctx context.Context) error
	// SyncTo is Sync of the records that begin before end, which was Staged at
	// some time. What was staged later is not waited for.
	SyncTo(ctx context.Context, end Pos) error
	// Staged is where what is staged ends; Durable where what is durable ends.
	Staged() Pos
	Durable() Pos
	// Read returns the record at p, in buf where it has room; one that is staged
	// and not written, too. ErrNotFound: its segment was dropped, or p is no place
	// that was given. ErrCorrupt: its bytes do not fit their checksum.
	Read(p Pos, buf []byte) ([]byte, error)
	// ReadMany calls f for each of the places, in their order, with what Read returns
	// for it: those that lie near each other, one behind the other, are read at once.
	// The records may share memory, which is the caller's.
	ReadMany(places []Span, f func(i int, record []byte, err error))
	// Scan calls f for each durable record from the place from on, in order; 0 is
	// the beginning. A segment that is gone is passed over. The record may not be
	// kept or changed after f returns. An error of f ends it, and comes back.
	//
	// Damage ends nothing: damaged is called with where it begins and how many
	// bytes it spans, and the records behind it follow. There may have been any
	// number of records in it.
	Scan(from Pos, f func(p Pos, record []byte) error, damaged func(p Pos, bytes int64)) error
	// Segments lists what there is, in order. The last is active.
	Segments() []LogSegment
	// Drop removes segments, durably when it returns nil: none of their records
	// comes back. ErrRange for the active one, of which nothing is dropped then;
	// one that is gone is no error. Numbers are never used again.
	Drop(ids ...uint32) error
	// Check returns nil while the log can serve; it is cheap.
	Check(ctx context.Context) error
	// Close writes what is staged and makes it durable.
	Close() error
}
