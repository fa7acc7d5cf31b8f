// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

//go:build netns

package test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What the network of TestNetwork is like, and what must hold on it.
const (
	linkDelay    = 20 * time.Millisecond // each way
	fetches      = 300                   // a size
	cuts         = 50
	fetchGoal    = 200 * time.Millisecond
	sessionGoal  = 2 * time.Second
	maxLaneDepth = 2 * 1024 // announcements that wait at a node, for two peers
)

// sh runs a command line and returns what it says.
func sh(line string) error {
	f := strings.Fields(line)
	if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, bytes.TrimSpace(out))
	}
	return nil
}

// network makes a namespace for each of n nodes: eth0 on a common bridge, delayed, for
// the nodes among themselves, and a link of its own, without delay, for the test.
// Where the kernel has no netem it is false, and relays must delay.
func network(t *testing.T, n int) (netem bool) {
	t.Helper()
	clean := func() {
		for i := range n {
			_ = sh(fmt.Sprintf("ip netns del ron%d", i)) // it may not be there
			_ = sh(fmt.Sprintf("ip link del ronc%d", i))
			_ = sh(fmt.Sprintf("ip link del rond%d", i))
		}
		_ = sh("ip link del ronbr")
	}
	clean()
	t.Cleanup(clean)
	lines := []string{"ip link add ronbr type bridge", "ip addr add 10.77.0.254/24 dev ronbr", "ip link set ronbr up"}
	for i := range n {
		in := fmt.Sprintf("ip netns exec ron%d ", i)
		lines = append(lines, fmt.Sprintf("ip netns add ron%d", i),
			fmt.Sprintf("ip link add rond%d type veth peer name eth0 netns ron%d", i, i), fmt.Sprintf("ip link set rond%d master ronbr up", i),
			fmt.Sprintf("ip link add ronc%d type veth peer name ctl netns ron%d", i, i), fmt.Sprintf("ip addr add 10.78.%d.1/24 dev ronc%d", i, i), fmt.Sprintf("ip link set ronc%d up", i),
			in+fmt.Sprintf("ip addr add 10.77.0.%d/24 dev eth0", i+1), in+"ip link set eth0 up", in+"ip link set lo up",
			in+fmt.Sprintf("ip addr add 10.78.%d.2/24 dev ctl", i), in+"ip link set ctl up")
	}
	for _, line := range lines {
		if err := sh(line); err != nil {
			t.Fatalf("this machine makes no network namespaces: %v", err)
		}
	}
	for i := range n {
		line := fmt.Sprintf("ip netns exec ron%d tc qdisc add dev eth0 root netem delay %v limit 100000", i, linkDelay)
		if err := sh(line); err != nil {
			t.Logf("no netem here, relays delay instead: %v", err)
			return false
		}
	}
	return true
}

// relay passes connections on to an address, each byte linkDelay after it came, and
// returns its own address.
func relay(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "10.77.0.254:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				out, err := net.DialTimeout("tcp", to, time.Second)
				if err != nil {
					in.Close()
					return
				}
				go late(in, out)
				late(out, in)
			}()
		}
	}()
	return l.Addr().String()
}

// late copies what comes, linkDelay late, and ends both connections with either.
func late(to, from net.Conn) {
	type piece struct {
		due time.Time
		b   []byte
	}
	way := make(chan piece, 4096)
	go func() {
		defer close(way)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			way <- piece{time.Now().Add(linkDelay), b[:n]}
		}
	}()
	for p := range way {
		<-time.After(time.Until(p.due))
		if _, err := to.Write(p.b); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	for range way { // so that the reader ends
	}
}

// TestNetwork: three nodes in namespaces of their own, 20 ms from each other. What one
// lacks comes from another within 200 ms; a link that is cut fifty times under load loses
// and damages nothing, sessions are back within 2 s, and queues stay bounded. It needs
// root, and runs with MACRONODE_NETNS alone: the file that its report goes to.
func TestNetwork(t *testing.T) {
	report := os.Getenv("MACRONODE_NETNS")
	if report == "" {
		t.Fatal("MACRONODE_NETNS, the file of the report, is not set; run: make netns")
	}
	netem := network(t, 3)
	nodes := make([]*meshed, 3)
	tenant := ""
	for i := range nodes {
		nodes[i] = makeMeshed(t, "", tenant, fmt.Sprintf("10.78.%d.2:8443", i), fmt.Sprintf("10.77.0.%d:34000", i+1))
		nodes[i].wrap = []string{"ip", "netns", "exec", fmt.Sprintf("ron%d", i)}
		tenant = nodes[0].tenant
	}
	reach, by := func(_, to int) string { return nodes[to].oap }, "`tc netem` on its link"
	if !netem {
		reach = func(_, to int) string { return relay(t, nodes[to].oap) }
		by = "TCP relays, since the kernel of the machine has no netem: packets are not lost or reordered, and a connection's own handshake is not delayed"
	}
	knit(t, nodes, nil, reach)
	var text strings.Builder
	fmt.Fprintf(&text, "# Three nodes on a network\n\nWritten by `make netns`. Each node is in a network namespace of its own; what they say to each other is %v late each way "+
		"(by %s), so 40 ms there and back. The client has a link without delay to each node. Sessions are TLS 1.3 with X25519MLKEM768.\n\n", linkDelay, by)
	latencies(t, nodes, &text)
	flaps(t, nodes, &text)
	if !t.Failed() {
		if err := os.WriteFile(filepath.Clean(report), []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Log("\n" + text.String())
}

// latencies fetches objects that another node has, each once, and times them whole.
func latencies(t *testing.T, nodes []*meshed, text *strings.Builder) {
	text.WriteString("## Fetch on miss\n\n| object | fetches | p50 | p99 | max |\n|--:|--:|--:|--:|--:|\n")
	var put [3]int
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10} {
		took := make([]time.Duration, 0, fetches)
		for i := range fetches {
			data := someBytes(size, uint64(size+i))
			from, to := nodes[i%3], nodes[(i+1)%3]
			path := from.put(data)
			put[i%3]++
			all := put[0] + put[1] + put[2] - put[(i+1)%3] // that others have announced
			to.await("told of the object", func() bool { return to.metric("overlay_known_objects") >= float64(all) })
			began := time.Now()
			resp, got := to.request("GET", path, nil, nil)
			took = append(took, time.Since(began))
			if resp.StatusCode != 200 || !bytes.Equal(got, data) {
				t.Fatalf("%d, %d bytes of %d", resp.StatusCode, len(got), size)
			}
		}
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		fmt.Fprintf(text, "| %d KiB | %d | %v | %v | %v |\n", size>>10, fetches, ms(took[len(took)/2]), ms(p99), ms(took[len(took)-1]))
		if p99 > fetchGoal {
			t.Errorf("objects of %d bytes: p99 is %v, %v is wanted", size, p99, fetchGoal)
		}
	}
	text.WriteString("\n")
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// flaps cuts node 1 off again and again, for moments and for longer than a session
// lives, while others write and read.
func flaps(t *testing.T, nodes []*meshed, text *strings.Builder) {
	var stop atomic.Bool
	var wg sync.WaitGroup
	var puts, gets, missed, uncut, uncutMissed atomic.Int64
	type stored struct {
		path string
		data []byte
	}
	all := make([][]stored, len(nodes))
	for i, n := range nodes {
		wg.Go(func() {
			for k := 0; !stop.Load(); k++ {
				data := someBytes(2000+1000*(k%30), uint64(1+k*3+i))
				all[i] = append(all[i], stored{n.put(data), data})
				puts.Add(1)
				one := all[i][len(all[i])/2]
				resp, got := nodes[(i+1)%len(nodes)].request("GET", one.path, nil, nil)
				switch {
				case resp.StatusCode == 200 && bytes.Equal(got, one.data):
					gets.Add(1)
					if i == 2 { // between nodes 2 and 0 nothing is cut
						uncut.Add(1)
					}
				case resp.StatusCode == 200:
					t.Error("a corrupt object")
				default:
					missed.Add(1) // it is cut off, or was not told yet
					if i == 2 {
						uncutMissed.Add(1)
					}
				}
			}
		})
	}
	path := nodes[0].put([]byte("a mark"))
	var back []time.Duration
	deepest := 0.0
	for i := range cuts {
		cut := 100 * time.Millisecond
		if i%5 == 0 {
			cut = 2500 * time.Millisecond // no session survives that
		}
		if err := sh("ip link set rond1 down"); err != nil {
			t.Fatal(err)
		}
		<-time.After(cut)
		if err := sh("ip link set rond1 up"); err != nil {
			t.Fatal(err)
		}
		healed := time.Now()
		nodes[1].await("able to fetch again", func() bool { resp, _ := nodes[1].request("GET", path, nil, nil); return resp.StatusCode == 200 })
		back = append(back, time.Since(healed))
		for _, n := range nodes {
			deepest = max(deepest, n.metric(`queue_depth{queue="overlay_announcements"}`))
		}
	}
	stop.Store(true)
	wg.Wait()
	// Nothing is lost or damaged: every object is at its node, and found at the next.
	lost := 0
	for i, list := range all {
		for k, o := range list {
			n := nodes[i]
			if k%40 == 0 { // and some by way of another node
				n = nodes[(i+1)%len(nodes)]
			}
			if resp, got := n.request("GET", o.path, nil, nil); resp.StatusCode != 200 || !bytes.Equal(got, o.data) {
				lost++
			}
		}
	}
	slices.Sort(back)
	fmt.Fprintf(text, "## A link cut %d times under load\n\n", cuts)
	fmt.Fprintf(text, "Four cuts of 0.1 s to each of 2.5 s, on one node's link. %d puts and %d reads by way of another node that were right, %d that found nothing: cut off, or not told of the object yet. Between the two nodes that are not cut: %d right, %d found nothing.\n\n",
		puts.Load(), gets.Load(), missed.Load(), uncut.Load(), uncutMissed.Load())
	fmt.Fprintf(text, "| | |\n|---|--:|\n| objects lost or damaged | %d of %d |\n| after a heal, until an object is fetched again, p50 | %v |\n| the same, longest | %v |\n| announcements waiting, most seen | %.0f |\n",
		lost, puts.Load(), ms(back[len(back)/2]), ms(back[len(back)-1]), deepest)
	if longest := back[len(back)-1]; longest > sessionGoal {
		t.Errorf("a session was back after %v, %v is wanted", longest, sessionGoal)
	}
	if lost > 0 || deepest > maxLaneDepth {
		t.Errorf("%d objects lost, %.0f messages waited", lost, deepest)
	}
	if uncutMissed.Load() > uncut.Load()/10 {
		t.Errorf("beside the cuts %d reads of %d found nothing", uncutMissed.Load(), uncut.Load()+uncutMissed.Load())
	}
}
