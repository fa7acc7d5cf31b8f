// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/lifecycle"
	"github.com/rustyonions/macronode/internal/supervise"
	"github.com/rustyonions/macronode/internal/systemd"
)

// Run runs a node until it is told to stop: by SIGTERM, SIGINT (a second one
// stops at once), an operator, ctx, or a failure that no restart mends. SIGHUP
// reloads.
func Run(ctx context.Context, o Options) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	n, told, err := startUnlessTold(ctx, o, signals)
	switch {
	case err != nil && told:
		return nil // it was asked to stop before it ran
	case err != nil:
		return err
	case told:
		return n.Stop(context.WithoutCancel(ctx))
	}
	n.greet()
	n.notify("READY=1\nSTATUS=ready")
	cause := n.wait(ctx, signals)
	n.notify("STOPPING=1\nSTATUS=draining")
	stopped := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { onSecondSignal(signals, stopped) })
	defer watch.Wait()
	defer close(stopped)
	return errors.Join(cause, n.Stop(context.WithoutCancel(ctx)))
}

// startUnlessTold is Start, which SIGTERM and SIGINT end early: a start that
// waits for shares of the root may take for ever.
func startUnlessTold(ctx context.Context, o Options, signals <-chan os.Signal) (n *Node, told bool, err error) {
	starting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	started := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case s := <-signals:
				if s != syscall.SIGHUP {
					told = true
					cancel(errors.New("told to stop"))
					return
				}
			case <-started:
				return
			}
		}
	})
	n, err = Start(starting, o)
	close(started)
	watch.Wait()
	return n, told, err
}

// signalBurst is how close signals count as one: tools that end a process
// signal it and its group.
const signalBurst = time.Second

// onSecondSignal ends the process at once when it is told to stop again, until
// stopped is closed.
func onSecondSignal(signals <-chan os.Signal, stopped <-chan struct{}) {
	first := time.Now()
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGHUP && time.Since(first) > signalBurst {
				fmt.Fprintln(os.Stderr, "macronode: stopped at once by a second signal")
				os.Exit(macronode.ExitCut)
			}
		case <-stopped:
			return
		}
	}
}

// wait returns when the node is to stop, with the failure that made it so, if
// there was one.
func (n *Node) wait(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGHUP {
				n.notify("RELOADING=1")
				n.Reload(ctx) // logs what it refuses
				n.notify("READY=1")
				continue
			}
			n.bus.Publish(bus.Shutdown(s.String()))
			return nil
		case why := <-n.shutdown:
			n.bus.Publish(bus.Shutdown(why))
			return nil
		case <-ctx.Done():
			n.bus.Publish(bus.Shutdown("asked to"))
			return nil
		case err := <-n.fatal:
			n.bus.Publish(bus.Shutdown("a store failed"))
			return err
		case exit := <-n.services.Fatal():
			n.bus.Publish(bus.Shutdown(exit.Service + " failed"))
			return &datadir.ExitError{Code: exit.Code, Err: exit}
		}
	}
}

// Stop drains and stops the node within the drain timeout. What would not end
// by then is cut, and the error has exit code 7.
func (n *Node) Stop(ctx context.Context) error {
	n.stopping.Store(true)
	n.reload.Lock()
	defer n.reload.Unlock()
	ctx, cancel := context.WithTimeout(ctx, n.config().Server.DrainTimeout)
	defer cancel()
	n.drainer.Seal()
	n.drainer.Drain()
	var cut error
	if err := n.drainer.WaitIdle(ctx); err != nil {
		cut = datadir.Exitf(macronode.ExitCut, "%d calls were cut at the drain deadline", n.gate.Left())
	}
	if err := n.machine.To(lifecycle.Stopping); err != nil {
		n.log.Error("stopping out of order", "event", "stop", "error", err.Error())
	}
	err := errors.Join(n.gateway.Shutdown(ctx), n.oapd.Shutdown(ctx))
	if err != nil && cut == nil {
		cut = datadir.Exitf(macronode.ExitCut, "connections were cut at the drain deadline: %w", err)
	}
	// What is closed now must close even where the deadline has passed.
	rest, cancelRest := context.WithTimeout(context.WithoutCancel(ctx), supervise.BackoffMax)
	defer cancelRest()
	err = n.unwind(rest)
	n.authn.Forget()
	n.access.Wipe()
	if err := n.machine.To(lifecycle.Stopped); err != nil {
		n.log.Error("stopping out of order", "event", "stop", "error", err.Error())
	}
	return errors.Join(cut, err)
}

// greet prints what a newcomer tries next.
func (n *Node) greet() {
	if !n.opts.dev || n.opts.Stdout == nil {
		return
	}
	e := n.endpoints()
	fmt.Fprintf(n.opts.Stdout, "macronode is ready at %s. Try, in another terminal:\n\n"+
		"  export RON_NODE=%s RON_CAP=@%s\n  ronctl put README.md\n  ronctl ls\n\n", e.HTTP, e.HTTP, e.TenantCap)
}

// notify tells systemd, where it listens, how the node is.
func (n *Node) notify(state string) {
	if err := systemd.Notify(state); err != nil {
		n.log.Warn("systemd was not told", "event", "notify", "error", err.Error())
	}
}
