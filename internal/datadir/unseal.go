// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/svc/kms/keystore"
	"github.com/rustyonions/macronode/internal/svc/kms/locked"
	"github.com/rustyonions/macronode/internal/svc/kms/shares"
)

// Names of a root in shares.
const (
	// UnsealSocketName is where a process that waits for shares listens.
	UnsealSocketName = "unseal.sock"
	// SharesName is the public half of a split root.
	SharesName = "shares.json"
)

// Unsealing says how a process waits for the shares of the root.
type Unsealing struct {
	// Context ends the wait.
	Context context.Context
	// Told hears how many shares there are and how many it takes: when the wait
	// begins, at each share, and every remindEvery.
	Told func(have, need int)
	// Away hears of each try to reach the key service that failed; nil: nobody.
	Away func(error)
}

// Unsealing waits until ctx ends, and tells the log what a person has to do;
// notify hears of it in the words of sd_notify(3), and may be nil.
func (d Dir) Unsealing(ctx context.Context, log *slog.Logger, notify func(state string)) *Unsealing {
	last := -1
	away := func(err error) {
		log.Warn("the root of the keystore cannot be had yet; trying again", "event", "kms_root_away", "reason", err.Error())
		if notify != nil {
			notify("STATUS=waiting for the key service")
		}
	}
	return &Unsealing{Context: ctx, Away: away, Told: func(have, need int) {
		if notify != nil {
			state := fmt.Sprintf("STATUS=sealed: %d of %d shares", have, need)
			if have >= need {
				state = "STATUS=unsealed, starting"
			}
			// A person may take long; systemd is asked for the time.
			notify(state + fmt.Sprintf("\nEXTEND_TIMEOUT_USEC=%d", (4*remindEvery).Microseconds()))
		}
		if have == last {
			return
		}
		last = have
		if have >= need {
			log.Info("the keystore is unsealed", "event", "kms_unsealed", "have", have, "need", need)
			return
		}
		log.Warn("the keystore is sealed: hand over shares", "event", "kms_sealed", "have", have, "need", need,
			"with", "macronode kms unseal --data "+d.Path+" < share")
	}}
}

const (
	// shareTimeout bounds how long one share may take to come over the socket.
	shareTimeout = 10 * time.Second
	// remindEvery is below the time that systemd is asked for each time.
	remindEvery = 30 * time.Second
)

// gather listens on DIR/unseal.sock until enough shares of set came. One share a
// connection: its text, then the end of the stream; the answer is a line.
func (d Dir) gather(set *shares.Set, a *locked.Arena) (*locked.Secret, error) {
	g, err := set.Gather()
	if err != nil {
		return nil, err
	}
	defer g.Wipe()
	sock, err := listen.OpenPrivate(d.At(UnsealSocketName))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", UnsealSocketName, err)
	}
	conns := make(chan net.Conn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(conns)
		for {
			c, err := sock.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	defer func() {
		_ = sock.Close() // ends Accept
		for c := range conns {
			_ = c.Close()
		}
		<-done
	}()
	told := d.Unseal.Told
	if told == nil {
		told = func(int, int) {}
	}
	told(0, g.Need())
	tick := time.NewTicker(remindEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.Unseal.Context.Done():
			return nil, fmt.Errorf("still sealed, with %d of %d shares: %w", g.Have(), g.Need(), context.Cause(d.Unseal.Context))
		case <-tick.C:
			told(g.Have(), g.Need())
		case c, ok := <-conns:
			if !ok {
				return nil, fmt.Errorf("%s: it was closed", UnsealSocketName)
			}
			root, err := takeShare(c, g, a)
			if err != nil {
				return nil, err
			}
			told(g.Have(), g.Need())
			if root != nil {
				return root, nil
			}
		}
	}
}

// takeShare reads one share and answers. The root is nil until there are enough.
func takeShare(c net.Conn, g *shares.Gathering, a *locked.Arena) (*locked.Secret, error) {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(shareTimeout)); err != nil {
		return nil, nil // that connection's trouble
	}
	buf := a.Make(shares.MaxShareBytes + 1)
	defer buf.Wipe()
	n, err := io.ReadFull(c, buf.Bytes())
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err := g.Add(buf.Bytes()[:n]); err != nil {
		_, _ = fmt.Fprintf(c, "refused: %v; %d of %d\n", err, g.Have(), g.Need())
		return nil, nil
	}
	root, err := g.Root(a)
	if err == nil {
		_, _ = fmt.Fprintf(c, "taken: %d of %d\n", g.Have(), g.Need())
	}
	return root, err
}

// HandShare hands the text of a share, which it wipes, to the process that waits
// for it in the data directory at path, and returns its answer.
func HandShare(ctx context.Context, path string, share []byte) (string, error) {
	defer clear(share)
	d, err := Open(disk.Real(), path)
	if err != nil {
		return "", err
	}
	c, err := listen.DialUnix(ctx, d.At(UnsealSocketName))
	if err != nil {
		return "", Exitf(macronode.ExitNotReady, "no process waits for shares in %s: start the node first, and see that it is the same user's", d.Path)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(shareTimeout)); err != nil {
		return "", err
	}
	if _, err := c.Write(share); err != nil {
		return "", err
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(c, shares.MaxShareBytes))
	answer := strings.TrimSpace(string(text))
	if err != nil || answer == "" {
		return "", errors.New("the process that waits did not answer")
	}
	if why, refused := strings.CutPrefix(answer, "refused: "); refused {
		return "", errors.New(why)
	}
	return answer, nil
}

// reseal seals the keystore, which nobody may hold, by another root: prepare
// makes it and writes what it needs. The old root is from or, where that is "",
// what the bundle says.
func (d Dir) reseal(from string, prepare func(*locked.Arena) (keystore.Root, error)) error {
	lock, err := d.FS.LockDir(d.Path)
	if err != nil {
		return err
	}
	defer lock.Close()
	if from == "" {
		from = d.RootSetting()
	}
	old, err := d.Root(from)
	if err != nil {
		return err
	}
	a := locked.New(nil)
	defer a.Close()
	to, err := prepare(a)
	if err != nil {
		return err
	}
	err = keystore.Reseal(d.FS, d.At(KeystoreDir), old, to)
	if errors.Is(err, keystore.ErrWrongRoot) || errors.Is(err, keystore.ErrRootKind) || errors.Is(err, keystore.ErrSealed) {
		return Exitf(macronode.ExitConfig, "%s: %w; name the root that opens it now with --from", from, err)
	}
	return err
}

// SplitRoot seals the keystore of the directory at path by a new root in n shares
// of which threshold open it, and writes the shares into outDir, one file each of
// mode 0600. The old root opens it no more. It returns the files.
func SplitRoot(path, outDir, from string, n, threshold int) ([]string, error) {
	d, err := Open(disk.Real(), path)
	if err != nil {
		return nil, err
	}
	out, err := d.FS.Abs(outDir)
	if err != nil {
		return nil, err
	}
	if names, err := d.FS.List(out); err == nil && len(names) > 0 {
		return nil, Exitf(macronode.ExitUsage, "%s is not empty: shares want a directory of their own", out)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := make([]string, max(n, 0))
	err = d.reseal(from, func(a *locked.Arena) (keystore.Root, error) {
		set, root, texts, err := shares.Split(a, n, threshold)
		if err != nil {
			return keystore.Root{}, Exitf(macronode.ExitUsage, "%w", err)
		}
		to := keystore.Root{Kind: keystore.Shares, Path: d.At(SharesName), Secret: root}
		defer func() {
			for _, t := range texts {
				clear(t)
			}
		}()
		public, err := set.Encode()
		if err != nil {
			return to, err
		}
		if err := d.FS.MkdirAllSync(out); err != nil {
			return to, err
		}
		// The shares are on the disk before anything needs them.
		for i, text := range texts {
			files[i] = filepath.Join(out, fmt.Sprintf("share-%d-of-%d", i+1, n))
			if err := d.FS.ReplaceFile(files[i], text, disk.FileMode); err != nil {
				return to, err
			}
		}
		for _, p := range []string{filepath.Join(out, SharesName), d.At(SharesName)} {
			if err := d.FS.ReplaceFile(p, public, disk.FileMode); err != nil {
				return to, err
			}
		}
		return to, nil
	})
	return files, err
}
