// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are what the environment says; scripts/bench.sh documents them.
type settings struct {
	parts    map[string]bool
	bin      string // folder of macronode
	minio    string // MinIO's binary
	wrk      string
	dir      string // where scratch folders are made
	report   string // markdown, written between markers
	json     string
	rounds   int
	getTime  time.Duration // a wrk run
	putTime  time.Duration // a put run
	sizes    []int64
	cache    int64 // cache_bytes of the node
	large    int64 // bytes of the footprint's object
	few      int   // objects in the small node of "million"
	many     int   // objects in the large one
	hashTime string
	nginx    string
	storm    stormSettings
	requests int // of "steady"
	rate     int // a second
}

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// readSettings reads the environment; an empty variable is not set.
func readSettings(env func(string) (string, bool)) (settings, error) {
	var errs []error
	get := func(name, otherwise string) string {
		if v, ok := env(name); ok && v != "" {
			return v
		}
		return otherwise
	}
	fail := func(name string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	size := func(name, otherwise string) int64 {
		n, err := parseSize(get(name, otherwise))
		fail(name, err)
		return n
	}
	count := func(name, otherwise string) int {
		n, err := strconv.Atoi(get(name, otherwise))
		if err == nil && n < 1 {
			err = errors.New("want at least 1")
		}
		fail(name, err)
		return n
	}
	span := func(name, otherwise string) time.Duration {
		text := get(name, otherwise)
		if _, err := strconv.Atoi(text); err == nil {
			text += "s"
		}
		d, err := time.ParseDuration(text)
		if err == nil && d < time.Second {
			err = errors.New("want at least 1s")
		}
		fail(name, err)
		return d
	}
	s := settings{
		parts: map[string]bool{}, bin: get("MACRONODE_BIN", "bin"), minio: get("BENCH_MINIO", "minio"), wrk: get("BENCH_WRK", "wrk"),
		dir: get("BENCH_DIR", "bin/bench"), report: get("BENCH_OUT", "docs/performance.md"), json: get("BENCH_JSON", "bin/bench/report.json"),
		rounds: count("BENCH_ROUNDS", "5"), getTime: span("BENCH_GET_TIME", "4s"), putTime: span("BENCH_PUT_TIME", "6s"),
		cache: size("BENCH_CACHE", "256MiB"), large: size("BENCH_LARGE", "5GiB"),
		nginx:    get("BENCH_NGINX", "nginx"),
		requests: count("STEADY_REQUESTS", "200000"), rate: count("STEADY_RATE", "1500"),
		few: count("BENCH_FEW", "1000"), many: count("BENCH_MANY", "1000000"), hashTime: get("BENCH_HASH_TIME", "1s"),
	}
	for _, f := range strings.Fields(get("BENCH_SIZES", "1KiB 64KiB 1MiB 16MiB")) {
		n, err := parseSize(f)
		fail("BENCH_SIZES", err)
		s.sizes = append(s.sizes, n)
	}
	for _, name := range strings.Fields(get("BENCH", "get put footprint million hash overload tls steady idle")) {
		known := false
		for _, p := range parts {
			known = known || p.name == name
		}
		if !known {
			errs = append(errs, fmt.Errorf("BENCH: there is no part %q", name))
		}
		s.parts[name] = true
	}
	var err error
	s.storm, err = readStorm(span("OVERLOAD_SECONDS", "20s"), get("OVERLOAD_SERVERS", "macronode MinIO nginx"), get("OVERLOAD_REQUESTS", "get:1MiB get:2MiB put:64KiB put:256KiB"))
	fail("OVERLOAD", err)
	return s, errors.Join(errs...)
}

// parseSize reads 64KiB, 1MiB, 5GiB or a number of bytes.
func parseSize(s string) (int64, error) {
	unit := int64(1)
	for suffix, n := range map[string]int64{"KiB": kib, "MiB": mib, "GiB": gib} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = rest, n
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is no size; want a number with KiB, MiB, GiB or nothing behind it", s)
	}
	return n * unit, nil
}

// sizeName is the way back.
func sizeName(n int64) string {
	switch {
	case n%gib == 0:
		return fmt.Sprintf("%d GiB", n/gib)
	case n%mib == 0:
		return fmt.Sprintf("%d MiB", n/mib)
	case n%kib == 0:
		return fmt.Sprintf("%d KiB", n/kib)
	}
	return fmt.Sprintf("%d B", n)
}

// onDisk refuses a folder that is kept in memory: its syncs cost nothing.
func onDisk(dir string) error {
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return err
	}
	if st.Type == tmpfs || st.Type == ramfs {
		return fmt.Errorf("%s is in memory; set BENCH_DIR to a folder on a disk", dir)
	}
	return nil
}
