// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"math"
	"time"
)

// diskMetrics tells how much of the data directory's disk is left, and what is
// kept of it. Each scrape asks the file system; where it does not say, the values
// are NaN, which no alert compares.
func (n *Node) diskMetrics() {
	dir := n.dir.At("")
	n.metrics.GaugeFunc("disk_free_bytes", "Bytes that can still be written to the data directory's file system.", func() float64 {
		free, _ := n.dir.FS.Usage(dir)
		return free
	})
	n.metrics.GaugeFunc("disk_size_bytes", "Size of the data directory's file system.", func() float64 {
		_, size := n.dir.FS.Usage(dir)
		return size
	})
	n.metrics.GaugeFunc("disk_reserve_bytes", "Bytes below which writes are refused: data.reserve_bytes.", func() float64 { return float64(n.reserve.Load()) })
}

// policyExpiry is the time until the policy in force stops deciding, in seconds:
// +Inf where it never does, negative once it has.
func (n *Node) policyExpiry() float64 {
	set := n.policy.Set()
	if set == nil || set.Expires().IsZero() {
		return math.Inf(1)
	}
	return time.Until(set.Expires()).Seconds()
}
