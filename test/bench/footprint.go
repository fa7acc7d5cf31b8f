// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/report"
)

// measureFootprint puts and gets one large object with curl and asks how much
// memory the node has held for it.
func measureFootprint(ctx context.Context, b *bench) (*report.Section, error) {
	sec := &report.Section{Head: []string{"what", "value", "goal", ""}}
	sec.Note("One object of %s, sent and read with curl, compared byte by byte; VmHWM of the node's process after both.", sizeName(b.set.large))
	dir, err := b.scratch("large")
	if err != nil {
		return nil, err
	}
	big := filepath.Join(dir, "object")
	report.Say("writing %s to send", sizeName(b.set.large))
	if err := writeLarge(ctx, big, b.set.large); err != nil {
		return nil, err
	}
	node, err := b.startNode(ctx, 0)
	if err != nil {
		return nil, err
	}
	servers(sec, node)
	idle, err := node.Peak()
	if err != nil {
		return nil, err
	}
	header := filepath.Join(dir, "header")
	if err := os.WriteFile(header, []byte(node.getHeader[0]+": "+node.getHeader[1]+"\n"), 0o600); err != nil {
		return nil, err
	}

	begun := time.Now()
	var out, stderr bytes.Buffer
	put := children.Command(ctx, "curl", "-sS", "--fail-with-body", "-X", "POST", "-H", "@"+header, "-T", big, node.url+"/o")
	put.Stdout, put.Stderr = &out, &stderr
	if err := put.Run(); err != nil {
		return nil, fmt.Errorf("curl put: %w\n%s%s", err, out.Bytes(), stderr.Bytes())
	}
	putTook := time.Since(begun)
	path, err := node.path("", out.Bytes())
	if err != nil {
		return nil, err
	}
	afterPut, err := node.Peak()
	if err != nil {
		return nil, err
	}

	begun = time.Now()
	if err := getAndCompare(ctx, node.url+path, header, big); err != nil {
		return nil, err
	}
	getTook := time.Since(begun)
	peak, err := node.Peak()
	if err != nil {
		return nil, err
	}
	rate := func(d time.Duration) string {
		return fmt.Sprintf("%.1f s, %.0f MB/s", d.Seconds(), float64(b.set.large)/d.Seconds()/1e6)
	}
	sec.Value("put", rate(putTook), "", nil)
	sec.Value("get, with the comparison", rate(getTook), "", nil)
	sec.Value("VmHWM when ready", fmt.Sprintf("%.0f MiB", float64(idle)/float64(mib)), "", nil)
	sec.Value("VmHWM after the put", fmt.Sprintf("%.0f MiB", float64(afterPut)/float64(mib)), "", nil)
	sec.Value("VmHWM after the get", fmt.Sprintf("%.0f MiB", float64(peak)/float64(mib)), "< 200 MiB", ptr(peak < 200*mib))
	return sec, errors.Join(node.Stop(), os.RemoveAll(node.dir), os.RemoveAll(dir))
}

// writeLarge writes size incompressible bytes.
func writeLarge(ctx context.Context, name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for at := int64(0); at < size; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := f.Write(content(min(16*mib, size-at), int(at>>20)))
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return f.Sync()
}

// getAndCompare reads url and wants the bytes of the file.
func getAndCompare(ctx context.Context, url, header, file string) error {
	want, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = want.Close() }()
	get := children.Command(ctx, "curl", "-sS", "--fail", "-H", "@"+header, url)
	var stderr bytes.Buffer
	get.Stderr = &stderr
	got, err := get.StdoutPipe()
	if err != nil {
		return err
	}
	if err := get.Start(); err != nil {
		return err
	}
	differ := sameBytes(bufio.NewReaderSize(got, 1<<20), bufio.NewReaderSize(want, 1<<20))
	if differ != nil {
		_ = get.Process.Kill()
	}
	if err := get.Wait(); err != nil && differ == nil {
		return fmt.Errorf("curl get: %w\n%s", err, stderr.Bytes())
	}
	return differ
}

// sameBytes reads both to their ends.
func sameBytes(a, b io.Reader) error {
	x, y := make([]byte, 256<<10), make([]byte, 256<<10)
	for at := int64(0); ; {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return fmt.Errorf("what came back differs after byte %d", at)
		}
		at += int64(n)
		endA, endB := errors.Is(errA, io.EOF) || errors.Is(errA, io.ErrUnexpectedEOF), errors.Is(errB, io.EOF) || errors.Is(errB, io.ErrUnexpectedEOF)
		switch {
		case errA != nil && !endA:
			return errA
		case errB != nil && !endB:
			return errB
		case endA && endB:
			return nil
		}
	}
}

func ptr[T any](v T) *T { return &v }
