// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxRecords bounds the records of one store.
	MaxRecords = 100_000

	entryFixed       = 2 + 8 + sumBytes
	maxManifestBytes = 5 + MaxRecords*(entryFixed+maxNameBytes)
)

// entry is what the manifest says of one record.
type entry struct {
	generation uint64
	sum        [sumBytes]byte // BLAKE3 of the record's file
}

// manifest lists the records. Its epoch, in the header of its envelope, grows by
// one with every change and gives new records their generation.
type manifest struct {
	epoch   uint64
	records map[string]entry
}

func (m *manifest) clone() *manifest {
	return &manifest{epoch: m.epoch, records: maps.Clone(m.records)}
}

func (m *manifest) names() []string { return slices.Sorted(maps.Keys(m.records)) }

// encode lists the records in bytewise order: count u32, then for each name
// length u16, name, generation u64, hash.
func (m *manifest) encode() []byte {
	b := []byte{formatVersion}
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.records)))
	for _, name := range m.names() {
		e := m.records[name]
		b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
		b = append(b, name...)
		b = binary.BigEndian.AppendUint64(b, e.generation)
		b = append(b, e.sum[:]...)
	}
	return b
}

// decodeManifest accepts only what encode writes. Errors wrap errDamaged.
func decodeManifest(epoch uint64, b []byte) (*manifest, error) {
	bad := fmt.Errorf("%w: the manifest is not well-formed", errDamaged)
	if len(b) < 5 || b[0] != formatVersion {
		return nil, bad
	}
	n := binary.BigEndian.Uint32(b[1:])
	b = b[5:]
	if n > MaxRecords || uint64(len(b)) < uint64(n)*(entryFixed+1) {
		return nil, bad
	}
	m := &manifest{epoch: epoch, records: make(map[string]entry, n)}
	last := ""
	for range n {
		if len(b) < 2 {
			return nil, bad
		}
		l := int(binary.BigEndian.Uint16(b))
		if len(b) < entryFixed+l {
			return nil, bad
		}
		name := string(b[2 : 2+l])
		b = b[2+l:]
		e := entry{generation: binary.BigEndian.Uint64(b)}
		copy(e.sum[:], b[8:])
		b = b[8+sumBytes:]
		if !validName(name) || name <= last || e.generation == 0 || e.generation > epoch {
			return nil, bad
		}
		m.records[name], last = e, name
	}
	if len(b) != 0 {
		return nil, bad
	}
	return m, nil
}

// validName admits what has a file name: "key/NAME", "obj/NAME@vN".
func validName(s string) bool {
	kind, rest, ok := strings.Cut(s, "/")
	if !ok || len(s) > maxNameBytes || (kind != "key" && kind != "obj") || rest == "" || rest[0] == '.' {
		return false
	}
	for i := range len(rest) {
		c := rest[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("._-@", rune(c)) {
			return false
		}
	}
	return true
}

const recordSuffix = ".rec"

// fileName is where a record's generation lies.
func fileName(name string, generation uint64) string {
	return strings.Replace(name, "/", "+", 1) + "." + strconv.FormatUint(generation, 10) + recordSuffix
}

// isRecordFile reports whether a file name could be one of fileName's.
func isRecordFile(name string) bool {
	return strings.HasSuffix(name, recordSuffix) && (strings.HasPrefix(name, "key+") || strings.HasPrefix(name, "obj+"))
}
