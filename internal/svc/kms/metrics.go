// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
)

// op is what was done with a key or an object: a label value.
type op uint8

const (
	opCreate op = iota
	opRotate
	opImport
	opDelete
	opSign
	opVerify
	opWrap
	opUnwrap
	opSecret
	opPutObject
	opObject
	opList
	opCSR
	numOps
)

var opNames = [numOps]string{
	"create", "rotate", "import", "delete", "sign", "verify", "wrap", "unwrap", "secret", "put_object", "get_object", "list", "csr",
}

func (o op) String() string { return opNames[o] }

// results are the values of the result label: it worked; the caller was told no
// (name, purpose, input, a signature that does not verify); the node failed.
var results = []string{"ok", "refused", "error"}

// noAlg labels what has no algorithm.
const noAlg Algorithm = "none"

// Metrics counts what is done with keys.
type Metrics struct {
	ops map[Algorithm]*[numOps][3]prometheus.Counter
}

// NewMetrics registers kms_ops_total{op,alg,result}, every series at 0.
func NewMetrics(r *metrics.Registry) *Metrics {
	algs := []string{string(noAlg)}
	for _, a := range Algorithms() {
		algs = append(algs, string(a))
	}
	v := r.Counters("kms_ops_total", "Operations of the KMS by operation, algorithm and result.",
		[]string{"op", "alg", "result"}, opNames[:], algs, results)
	m := &Metrics{ops: make(map[Algorithm]*[numOps][3]prometheus.Counter)}
	for _, a := range algs {
		var c [numOps][3]prometheus.Counter
		for o := range opNames {
			for i, result := range results {
				c[o][i] = v.WithLabelValues(opNames[o], a, result)
			}
		}
		m.ops[Algorithm(a)] = &c
	}
	return m
}

// count files one operation under its result. A nil m counts nothing.
func (m *Metrics) count(o op, a Algorithm, err error) {
	if m == nil {
		return
	}
	c, ok := m.ops[a]
	if !ok {
		c = m.ops[noAlg]
	}
	result := 0
	if err != nil {
		result = 1
		if macronode.KindOf(err).Info().Status >= 500 {
			result = 2
		}
	}
	c[o][result].Inc()
}
