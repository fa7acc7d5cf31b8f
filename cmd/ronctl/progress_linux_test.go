// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// openTerminal returns both ends of a pseudo-terminal.
func openTerminal(t *testing.T) (far, near *os.File) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has no pseudo-terminals: ", err)
		}
		t.Skip("NOT TESTED: no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { far.Close() })
	must(t, unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	must(t, err)
	near, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	return far, near
}

// TestProgress: there is a bar on a terminal, and on nothing else.
func TestProgress(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	file := write(t, filepath.Join(dir, "big"), strings.Repeat("x", 4<<20), 0o644)
	addr := f.add(strings.Repeat("y", 4<<20))
	for name, tc := range map[string]struct {
		args []string
		bar  bool
	}{
		"put":        {[]string{"put", file}, true},
		"put, there": {[]string{"put", file}, true},
		"put -r":     {[]string{"put", "-r", dir}, true},
		"get":        {[]string{"get", addr, "-o", filepath.Join(dir, "out")}, true},
		"JSON":       {[]string{"put", file, "--output", "json"}, false},
		"no work":    {[]string{"ls"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			far, near := openTerminal(t)
			shown := make(chan string)
			go func() {
				text, _ := io.ReadAll(far) // ends with an error once near is closed
				shown <- string(text)
			}()
			code := run(t.Context(), tc.args, cli.Terminal{In: strings.NewReader(""), Out: io.Discard, Err: near, Getenv: func(k string) string {
				return map[string]string{"RON_NODE": f.url}[k]
			}})
			must(t, near.Close())
			if text := <-shown; code != 0 || strings.Contains(text, "\r") != tc.bar {
				t.Errorf("exit %d, shown %q", code, text)
			}
			if !tc.bar {
				return
			}
			if got := f.do(t, tc.args...); got.code != 0 || strings.Contains(got.err, "\r") {
				t.Errorf("without a terminal: %+v", got)
			}
		})
	}
}
