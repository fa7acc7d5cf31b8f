// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/test/bench/drive"
	"github.com/rustyonions/macronode/test/bench/operate"
	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/test/bench/wrk"
)

// Node is a running node with its tenant's capability.
type Node struct {
	*Server
	op    *operate.Node
	token string
	// refused counts calls that the node turned away, to be made again.
	refused atomic.Int64
}

// Refused is how many calls the node has turned away so far.
func (n *Node) Refused() int64 { return n.refused.Load() }

// patiently makes a call again while the node turns it away: nothing was done then.
func (n *Node) patiently(ctx context.Context, call func() error) error {
	for {
		err := call()
		var p *client.Error
		if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || ctx.Err() != nil {
			return err
		}
		n.refused.Add(1)
	}
}

// StartNode runs a node on a new directory: both wires unencrypted, everything
// else as init leaves it, but for what edit changes.
func (b *Bench) StartNode(ctx context.Context, edit func(text string) string) (*Node, error) {
	dir, err := b.scratch("macronode")
	if err != nil {
		return nil, err
	}
	n := &Node{Server: &Server{Name: "macronode", Dir: dir, Command: "`macronode run --config DIR/macronode.bundle.toml --data DIR` after `macronode init --tls none --tenant bench`"}}
	if n.op, err = operate.Init(ctx, b.Bin, dir); err != nil {
		return nil, err
	}
	if edit != nil {
		if err := n.op.Edit(ctx, edit); err != nil {
			return nil, err
		}
	}
	said, err1 := n.op.Tool(ctx, "version")
	var err2 error
	n.token, err2 = n.op.Token()
	n.Version, _, _ = strings.Cut(string(said), "\n")
	return n, errors.Join(err1, err2, b.restart(ctx, n))
}

// restart runs it on the data that is there.
func (b *Bench) restart(ctx context.Context, n *Node) (err error) {
	n.Proc, err = n.op.Run(ctx, &b.Procs, filepath.Join(n.Dir, "log"))
	return err
}

// Wire is how a client speaks to the node.
type Wire struct {
	Name string
	OAP  bool
	CBOR bool // batches; else JSON
}

// The three of them.
var (
	OverJSON = Wire{Name: "HTTP, JSON"}
	OverCBOR = Wire{Name: "HTTP, CBOR", CBOR: true}
	OverOAP  = Wire{Name: "OAP/1", OAP: true, CBOR: true}
)

// Topic is one topic of a node, over one wire.
type Topic struct {
	n    *Node
	c    *client.Client
	path string
	cbor bool
	own  bool // c
}

// Topic returns a client with as many connections as conns, where the wire needs
// them.
func (n *Node) Topic(w Wire, name string, conns int) (*Topic, error) {
	url := n.op.URL
	if w.OAP {
		url = "oap://" + n.op.OAP
	}
	c, err := client.Dial(url, client.Options{Token: n.token, IdleConns: conns, Retries: -1})
	return &Topic{n: n, c: c, path: "/v1/mailbox/" + name, cbor: w.CBOR, own: true}, err
}

// Other is another topic through the same client.
func (t *Topic) Other(name string) *Topic {
	return &Topic{n: t.n, c: t.c, path: "/v1/mailbox/" + name, cbor: t.cbor}
}

// Close ends a topic that Node.Topic returned.
func (t *Topic) Close() {
	if t.own {
		t.c.Close()
	}
}

func (t *Topic) call(ctx context.Context, path, kind string, body []byte, read func(*http.Response) error) error {
	r := client.Request{Method: http.MethodPost, Path: t.path + path, Header: http.Header{"Content-Type": {kind}}, Length: int64(len(body))}
	if t.cbor {
		r.Header["Accept"] = []string{"application/cbor"}
	}
	var resp *http.Response
	err := t.n.patiently(ctx, func() (err error) {
		r.Body = bytes.NewReader(body)
		resp, err = t.c.Do(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return read(resp)
}

// Create makes the topic, with the default settings.
func (t *Topic) Create(ctx context.Context) error {
	return t.c.JSON(ctx, http.MethodPut, t.path, "", struct{}{}, nil)
}

// Send sends one message and returns once it is durable.
func (t *Topic) Send(ctx context.Context, body []byte) error {
	return t.call(ctx, "/messages", "application/octet-stream", body, func(r *http.Response) error {
		_, err := io.Copy(io.Discard, r.Body)
		return err
	})
}

// message is one of a batch.
type message struct {
	Payload []byte `cbor:"payload" json:"payload"`
}

// SendBatch sends a batch as CBOR. Each message must be taken.
func (t *Topic) SendBatch(ctx context.Context, batch [][]byte) error {
	list := make([]message, len(batch))
	for i, b := range batch {
		list[i].Payload = b
	}
	body, err := cbor.Marshal(list)
	if err != nil {
		return err
	}
	var said struct {
		Results []struct {
			ID     string `cbor:"msg_id" json:"msg_id"`
			Code   string `cbor:"code" json:"code"`
			Detail string `cbor:"detail" json:"detail"`
		} `cbor:"results" json:"results"`
	}
	if err := t.call(ctx, "/messages", "application/cbor", body, t.into(&said)); err != nil {
		return err
	}
	if len(said.Results) != len(batch) {
		return fmt.Errorf("%d results for %d messages", len(said.Results), len(batch))
	}
	for _, r := range said.Results {
		if r.ID == "" {
			return fmt.Errorf("a message of the batch was refused: %s: %s", r.Code, r.Detail)
		}
	}
	return nil
}

// into decodes an answer whole, in the form that it says it has: what is always
// short stays JSON whatever was asked for.
func (t *Topic) into(v any) func(*http.Response) error {
	return func(r *http.Response) error {
		text, err := io.ReadAll(r.Body)
		switch {
		case err != nil:
			return err
		case r.Header.Get("Content-Type") == "application/cbor":
			return cbor.Unmarshal(text, v)
		}
		return json.Unmarshal(text, v)
	}
}

// Delivery is a received message.
type Delivery struct {
	ID      string `cbor:"msg_id" json:"msg_id"`
	Receipt string `cbor:"receipt" json:"receipt"`
	Payload []byte `cbor:"payload" json:"payload"`
}

// Receive takes messages, waiting for the first one.
func (t *Topic) Receive(ctx context.Context, most int, wait time.Duration) ([]Delivery, error) {
	var said struct {
		Messages []Delivery `cbor:"messages" json:"messages"`
	}
	ask := fmt.Appendf(nil, `{"max_messages":%d,"wait_ms":%d}`, most, wait.Milliseconds())
	err := t.call(ctx, "/receive", "application/json", ask, t.into(&said))
	return said.Messages, err
}

// Ack ends deliveries. Each must still be ours.
func (t *Topic) Ack(ctx context.Context, list []Delivery) error {
	ask := struct {
		Receipts []string `cbor:"receipts" json:"receipts"`
	}{make([]string, len(list))}
	for i := range list {
		ask.Receipts[i] = list[i].Receipt
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	var said struct {
		Results []struct {
			OK bool `cbor:"ok" json:"ok"`
		} `cbor:"results" json:"results"`
	}
	if err := t.call(ctx, "/ack", "application/json", body, t.into(&said)); err != nil {
		return err
	}
	if len(said.Results) != len(list) {
		return fmt.Errorf("%d results for %d receipts", len(said.Results), len(list))
	}
	for i, r := range said.Results {
		if !r.OK {
			return fmt.Errorf("receipt %d was not ours any more", i)
		}
	}
	return nil
}

// Ready is how many messages a topic has for whom asks.
func (t *Topic) Ready(ctx context.Context) (n int64, err error) {
	var said struct {
		Depth struct {
			Ready int64 `json:"ready"`
		} `json:"depth"`
	}
	err = t.c.JSON(ctx, http.MethodGet, t.path, "", nil, &said)
	return said.Depth.Ready, err
}

// hold says that a topic must hold at least as many messages as were answered.
func (n *Node) hold(ctx context.Context, t *Topic, sent float64) error {
	ready, err := t.Ready(ctx)
	if err != nil {
		return n.Failed(err)
	}
	if float64(ready) < sent {
		return fmt.Errorf("%.0f messages were acknowledged, %d are there", sent, ready)
	}
	return nil
}

// SendHTTP has wrk send one message a call from conns connections.
func (b *Bench) SendHTTP(ctx context.Context, n *Node, conns int) (report.Result, error) {
	r, refused, err := wrk.Post{Bin: b.Wrk, URL: n.op.URL + "/v1/mailbox/bench/messages", Dir: n.Dir, Header: [2]string{"Authorization", "Bearer " + n.token}, Body: Payload(), Conns: conns, Span: b.Span}.Run(ctx)
	if err != nil {
		return r, n.Failed(err)
	}
	n.refused.Add(int64(refused * b.Span.Seconds()))
	t, err := n.Topic(OverJSON, "bench", 1)
	if err != nil {
		return r, err
	}
	defer t.Close()
	return r, n.hold(ctx, t, r.Rate*b.Span.Seconds()*0.99) // wrk's span is not exact
}

// SendOne sends one message a call, as many at a time as workers.
func (b *Bench) SendOne(ctx context.Context, n *Node, w Wire, workers int) (report.Result, error) {
	return b.send(ctx, n, w, workers, 1, func(ctx context.Context, t *Topic, batch [][]byte) error { return t.Send(ctx, batch[0]) })
}

// SendBatches sends batches of so many.
func (b *Bench) SendBatches(ctx context.Context, n *Node, w Wire, workers, size int) (report.Result, error) {
	return b.send(ctx, n, w, workers, size, func(ctx context.Context, t *Topic, batch [][]byte) error { return t.SendBatch(ctx, batch) })
}

func (b *Bench) send(ctx context.Context, n *Node, w Wire, workers, size int, send func(context.Context, *Topic, [][]byte) error) (report.Result, error) {
	t, err := n.Topic(w, "bench", workers)
	if err != nil {
		return report.Result{}, err
	}
	defer t.Close()
	all := batches(workers, size)
	r, err := drive.Run(ctx, workers, b.Span, func(ctx context.Context, worker, call int) error {
		renumber(all[worker], worker, call)
		return send(ctx, t, all[worker])
	})
	if err != nil {
		return r, n.Failed(err)
	}
	r.Rate *= float64(size)
	return r, n.hold(ctx, t, r.Rate*b.Span.Seconds())
}

// batches makes a batch of payloads for each worker.
func batches(workers, size int) [][][]byte {
	all := make([][][]byte, workers)
	for w := range all {
		all[w] = make([][]byte, size)
		for i := range all[w] {
			all[w][i] = Payload()
		}
	}
	return all
}

// renumber makes a batch one that nobody has sent.
func renumber(batch [][]byte, worker, call int) {
	for i, p := range batch {
		Number(p, uint64(worker)<<48|uint64(call)<<16|uint64(i))
	}
}

// Fill sends count messages in batches.
func (n *Node) Fill(ctx context.Context, count int) error {
	const workers, size = 8, 100
	t, err := n.Topic(OverOAP, "bench", 1)
	if err != nil {
		return err
	}
	defer t.Close()
	all := batches(workers, size)
	errs := make([]error, workers)
	var next atomic.Int64
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for call := 0; errs[w] == nil; call++ {
				at := int(next.Add(size))
				if at > count {
					return
				}
				renumber(all[w], w, call)
				errs[w] = t.SendBatch(ctx, all[w])
				if tenth := count / 10 / size * size; tenth >= 100_000 && at%tenth == 0 {
					report.Say("%d of %d messages queued", at, count)
				}
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return n.Failed(err)
	}
	return n.hold(ctx, t, float64(count/size*size))
}

// Drain receives and acknowledges a hundred at a time, one consumer, until count
// messages have come. Latencies are those of both calls together.
func (b *Bench) Drain(ctx context.Context, n *Node, w Wire, count int) (report.Result, error) {
	t, err := n.Topic(w, "bench", 1)
	if err != nil {
		return report.Result{}, err
	}
	defer t.Close()
	var took []time.Duration
	begun := time.Now()
	for got := 0; got < count; {
		at := time.Now()
		list, err := t.Receive(ctx, 100, 0)
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("the topic is empty after %d of %d messages", got, count)
		}
		if err == nil {
			err = whole(list)
		}
		if err == nil {
			err = t.Ack(ctx, list)
		}
		if err != nil {
			return report.Result{}, n.Failed(err)
		}
		got += len(list)
		took = append(took, time.Since(at))
	}
	r := drive.Of(took, time.Since(begun))
	r.Rate = float64(count) / time.Since(begun).Seconds()
	return r, nil
}

// whole checks that payloads are as long as they were.
func whole(list []Delivery) error {
	for _, d := range list {
		if len(d.Payload) != Bytes {
			return fmt.Errorf("a payload of %d bytes came, not of %d", len(d.Payload), Bytes)
		}
	}
	return nil
}
