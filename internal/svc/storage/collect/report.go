// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package collect

import (
	"time"

	"github.com/rustyonions/macronode/internal/store"
)

// Reasons why space can be had back.
const (
	Released     = "released"     // let go of; removed once no reply reads it
	Unreferenced = "unreferenced" // a crash came between the bytes and their reference
	Sparse       = "sparse"       // in a pack of which at most half lives
	Duplicate    = "duplicate"    // the same object of several tenants
	Damaged      = "damaged"      // does not verify: kept where it is, to be put again
)

var reasons = []string{Released, Unreferenced, Sparse, Duplicate, Damaged}

// maxVolumeLines bounds the volumes that a report names.
const maxVolumeLines = 100

// Report is what a pass did or, in a dry run, would do.
type Report struct {
	DryRun  bool   `json:"dry_run"`
	TookMS  int64  `json:"took_ms"`
	Volumes int    `json:"volumes"`
	Items   []Item `json:"items"`
	// Moves names the packs that are emptied, at most 100 of them.
	Moves []VolumeLine `json:"moves"`
	// Error is why the pass ended early; "" where it did not.
	Error string `json:"error"`

	began time.Time
	by    map[string]*Item
}

// Item is what one reason gives back. Bytes are those of objects, without frames; of
// released places they are not known, and 0.
type Item struct {
	Reason  string `json:"reason"`
	Objects int64  `json:"objects"`
	Bytes   int64  `json:"bytes"`
}

// VolumeLine is one pack that is emptied.
type VolumeLine struct {
	ID   string `json:"id"`
	Live int64  `json:"live_bytes"`
	Dead int64  `json:"dead_bytes"`
}

func newReport(dry bool) *Report {
	r := &Report{DryRun: dry, began: time.Now(), by: make(map[string]*Item), Items: make([]Item, len(reasons)), Moves: []VolumeLine{}}
	for i, why := range reasons {
		r.Items[i].Reason = why
		r.by[why] = &r.Items[i]
	}
	return r
}

func (r *Report) add(reason string, objects, bytes int64) {
	r.by[reason].Objects += objects
	r.by[reason].Bytes += bytes
}

func (r *Report) moving(v *store.Volume) {
	if len(r.Moves) < maxVolumeLines {
		r.Moves = append(r.Moves, VolumeLine{v.ID, v.Live, v.Dead})
	}
}

func (r *Report) end(err error) {
	r.TookMS = time.Since(r.began).Milliseconds()
	if err != nil {
		r.Error = err.Error()
	}
}

// Item returns the line of a reason.
func (r *Report) Item(reason string) Item { return *r.by[reason] }
