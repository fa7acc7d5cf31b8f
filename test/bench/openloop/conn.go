// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package openloop

import (
	"bytes"
	"errors"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxHead bounds an answer's head, and the body of a refusal that is looked at.
const maxHead = 8 << 10

// conn is one connection, which holds one request at a time.
type conn struct {
	*flow
	index int
	fd    int
	open  bool // connected
	busy  bool // a request is on its way
	full  bool // the socket takes no more for now
	late  bool // answered before the request was written; the rest still goes out
	due   int64
	sent  int64
	mark  [prefix]byte
	out   [3][]byte // what is still to be written

	in     [maxHead]byte
	have   int // bytes in in
	ans    answer
	inBody bool
}

// answer is what the head says.
type answer struct {
	status  int
	length  int64 // of the body; what is left of it while it is read
	total   int64
	chunked bool
	close   bool
	retry   bool // Retry-After is there
	body    int  // where the body begins in the buffer
}

// dial opens a connection; wait lets it block.
func (l *loop) dial(c *conn, wait bool) error {
	kind := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	if !wait {
		kind |= unix.SOCK_NONBLOCK
	}
	fd, err := unix.Socket(unix.AF_INET, kind, 0)
	if err != nil {
		return err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if c.Body > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, c.Body+64<<10) // a whole request, so that one write does
	}
	if err = unix.Bind(fd, &c.local); err == nil {
		err = unix.Connect(fd, &l.to)
	}
	if err == nil && wait {
		err = unix.SetNonblock(fd, true)
	}
	open := err == nil
	if errors.Is(err, unix.EINPROGRESS) {
		err = nil
	}
	if err == nil {
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.index)}
		if !open {
			ev.Events |= unix.EPOLLOUT
		}
		err = unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, fd, &ev)
	}
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	c.fd, c.open, c.busy, c.have, c.inBody = fd, open, false, 0, false
	if open {
		c.give(c)
	}
	return nil
}

// send begins the next request of the connection's flow.
func (l *loop) send(c *conn, due int64) {
	c.busy, c.due, c.sent = true, due, l.now()
	c.have, c.inBody = 0, false
	c.out = [3][]byte{c.heads[c.turn], nil, nil}
	c.turn = (c.turn + 1) % len(c.heads)
	if c.Body > 0 {
		l.stamp(&c.mark)
		c.out[1], c.out[2] = c.mark[:], l.rest[prefix:c.Body]
	}
	c.write(l)
}

// write writes until everything is written or the socket takes no more.
func (c *conn) write(l *loop) {
	for c.pending() {
		n, err := writev(c.fd, &c.out)
		if errors.Is(err, unix.EAGAIN) {
			if !c.full {
				c.full = true
				c.watch(l, unix.EPOLLIN|unix.EPOLLOUT)
			}
			return
		}
		if err != nil {
			// The answer may be there already, with the server gone after it.
			c.out = [3][]byte{}
			c.read(l)
			return
		}
		for i := range c.out {
			k := min(n, len(c.out[i]))
			c.out[i] = c.out[i][k:]
			n -= k
		}
	}
	if c.full {
		c.full = false
		c.watch(l, unix.EPOLLIN)
	}
	if c.late {
		c.late = false
		c.give(c)
	}
}

func (c *conn) pending() bool { return len(c.out[0])+len(c.out[1])+len(c.out[2]) > 0 }

// watch changes what the connection waits for.
func (c *conn) watch(l *loop, events uint32) {
	_ = unix.EpollCtl(l.poll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.index)})
}

// ready handles what the kernel has to say of the connection.
func (c *conn) ready(l *loop, events uint32) {
	if c.fd < 0 {
		return
	}
	if events&unix.EPOLLOUT != 0 {
		if !c.open {
			if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
				c.broken(l)
				return
			}
			c.open = true
			c.watch(l, unix.EPOLLIN)
			c.give(c)
			return
		}
		c.write(l)
	}
	if c.fd >= 0 && events&^unix.EPOLLOUT != 0 {
		c.read(l)
	}
}

// read takes what has come.
func (c *conn) read(l *loop) {
	for {
		n, err := 0, error(nil)
		if c.inBody && !c.keeps() {
			n, err = discard(c.fd, &c.in, int(min(c.ans.length, 1<<30)))
		} else {
			n, err = receive(c.fd, c.in[c.have:])
		}
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil || n == 0 || !c.busy {
			c.broken(l) // also bytes that nobody asked for
			return
		}
		if c.inBody && !c.keeps() {
			c.ans.length -= int64(n)
		} else {
			c.have += n
		}
		if !c.step(l) {
			return
		}
	}
}

// keeps reports whether the body is read into the buffer: those of refusals,
// and those whose end has to be looked for.
func (c *conn) keeps() bool {
	return c.ans.chunked || c.ans.status != c.Good && c.ans.total <= int64(maxHead-c.ans.body)
}

// step looks at what was read; false: the answer is whole, or the connection
// is gone.
func (c *conn) step(l *loop) bool {
	if !c.inBody {
		end := bytes.Index(c.in[:c.have], []byte("\r\n\r\n"))
		if end < 0 {
			if c.have == maxHead {
				c.broken(l)
				return false
			}
			return true
		}
		var ok bool
		if c.ans, ok = parseHead(c.in[:end+2]); !ok {
			c.broken(l)
			return false
		}
		c.ans.body = end + 4
		if c.ans.status/100 == 1 {
			c.have = copy(c.in[:], c.in[c.ans.body:c.have])
			return c.have == 0 || c.step(l)
		}
		c.inBody = true
		if !c.keeps() {
			c.ans.length -= int64(c.have - c.ans.body)
		}
	}
	switch {
	case c.ans.chunked:
		if !bytes.HasSuffix(c.in[c.ans.body:c.have], []byte("0\r\n\r\n")) {
			if c.have == maxHead { // the middle of a long body says nothing
				c.have = c.ans.body + copy(c.in[c.ans.body:], c.in[maxHead-8:])
			}
			return true
		}
	case c.keeps():
		if int64(c.have-c.ans.body) < c.ans.length {
			return true
		}
	case c.ans.length > 0:
		return true
	}
	c.done(l)
	return false
}

// done counts an answer and frees the connection.
func (c *conn) done(l *loop) {
	now := l.now()
	a := &c.ans
	good := a.status == c.Good
	if good && c.Bytes >= 0 && a.total != c.Bytes {
		c.res.Wrong++
		good = false
	}
	if (a.status == 429 || a.status == 503) && !a.retry {
		c.res.Bare++
	}
	if good && l.counted(now) {
		c.res.Done++
	}
	if c.Rate == 0 && l.counted(c.due) {
		c.res.Due++
	}
	if l.counted(c.due) {
		name := strconv.Itoa(a.status)
		if a.status != c.Good {
			name += problemCode(c.in[a.body:c.have])
		}
		c.res.Codes[name]++
		if took := micros(now - c.due); good {
			c.res.AdmittedUS = append(c.res.AdmittedUS, took)
		} else {
			c.res.RefusedUS = append(c.res.RefusedUS, took)
		}
	}
	c.busy = false
	if a.close {
		c.broken(l)
		return
	}
	c.have, c.inBody = 0, false
	if c.late = c.pending(); c.late {
		return
	}
	c.give(c)
	if c.Rate == 0 && now < l.until {
		l.send(c.take(), now)
	}
}

// lose counts the request, if there is one, as one without an answer.
func (c *conn) lose(l *loop) {
	if c.busy && l.counted(c.due) {
		c.res.Unanswered++
	}
	c.busy = false
}

// broken closes the connection and opens another in its place.
func (c *conn) broken(l *loop) {
	idle := c.isIdle()
	c.lose(l)
	_ = unix.Close(c.fd)
	c.fd, c.open, c.full, c.late, c.out = -1, false, false, false, [3][]byte{}
	c.res.Reopened++
	if idle {
		c.drop(c)
	}
	_ = l.dial(c, false) // giveUp tries again
}

func (c *conn) isIdle() bool {
	for i := range c.count {
		if c.idle[(c.first+i)%len(c.idle)] == c {
			return true
		}
	}
	return false
}

// drop takes a connection out of the idle ones.
func (f *flow) drop(c *conn) {
	n := f.count
	for range n {
		if other := f.take(); other != c {
			f.give(other)
		}
	}
}

// parseHead reads the status line and the few fields that matter.
func parseHead(h []byte) (answer, bool) {
	var a answer
	line, rest, _ := bytes.Cut(h, []byte("\r\n"))
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' {
		return a, false
	}
	var err error
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return a, false
	}
	a.close = line[7] == '0'
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return a, false
		}
		value = bytes.TrimSpace(value)
		switch len(name) {
		case len("Content-Length"):
			if bytes.EqualFold(name, []byte("Content-Length")) {
				if a.length, err = strconv.ParseInt(string(value), 10, 64); err != nil || a.length < 0 {
					return a, false
				}
			}
		case len("Retry-After"):
			a.retry = a.retry || bytes.EqualFold(name, []byte("Retry-After"))
		case len("Connection"):
			a.close = a.close || bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(value, []byte("close"))
		case len("Transfer-Encoding"):
			a.chunked = a.chunked || bytes.EqualFold(name, []byte("Transfer-Encoding"))
		}
	}
	a.total = a.length
	return a, true
}

// problemCode finds the code of a problem document, with a space before it.
func problemCode(body []byte) string {
	_, rest, ok := bytes.Cut(body, []byte(`"code":"`))
	if !ok {
		return ""
	}
	code, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok || len(code) > 40 {
		return ""
	}
	return " " + string(code)
}

// The calls below never block, so the scheduler need not know of them.

func receive(fd int, b []byte) (int, error) {
	n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return outcome(n, e)
}

// discard drops up to n received bytes; the kernel does not touch b.
func discard(fd int, b *[maxHead]byte, n int) (int, error) {
	got, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(b)), uintptr(n), unix.MSG_DONTWAIT|unix.MSG_TRUNC, 0, 0)
	return outcome(got, e)
}

func writev(fd int, parts *[3][]byte) (int, error) {
	var vec [3]unix.Iovec
	n := 0
	for _, p := range parts {
		if len(p) > 0 {
			vec[n].Base = unsafe.SliceData(p)
			vec[n].SetLen(len(p))
			n++
		}
	}
	got, _, e := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&vec)), uintptr(n))
	return outcome(got, e)
}

func outcome(n uintptr, e unix.Errno) (int, error) {
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// pollWait is epoll_pwait2, whose time is exact enough for a schedule.
func pollWait(fd int, events []unix.EpollEvent, ns int64) (int, error) {
	t := unix.NsecToTimespec(ns)
	n, _, e := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(unsafe.Pointer(&t)), 0, 0)
	if e == unix.EINTR || e == unix.EAGAIN {
		return 0, nil
	}
	return outcome(n, e)
}
