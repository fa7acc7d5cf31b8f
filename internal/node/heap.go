// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

// heapFloor is a part of the heap that is taken at the start and never written,
// so that it takes no memory. The collector runs when the heap has doubled: a node
// whose live heap is a few MiB would collect dozens of times a second under load,
// at a tenth of its time and more. With the floor it first lets about so much be
// allocated.
const heapFloor = 32 << 20

// newHeapFloor returns what is to be reachable for as long as the node runs.
func newHeapFloor() []byte { return make([]byte, heapFloor) }
