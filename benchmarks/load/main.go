// The load: calls of one kind over one connection, as JSON on standard output
// `{"calls", "warm_up_calls", "seconds", "calls_per_s", "mean_us", "p50_us", "p99_us"}`.
//
// It ends after -calls calls or -seconds seconds, whichever comes first. The first answer is
// checked; a call that fails ends it with exit status 1.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"image-cri-shim/benchmarks/raw"
)

type options struct {
	socket, scenario          string
	inFlight, calls, messages int
	progress, connections     int
	seconds, warmUp           time.Duration
}

type report struct {
	Calls     int     `json:"calls"`
	WarmUp    int     `json:"warm_up_calls"`
	Seconds   float64 `json:"seconds"`
	CallsPerS float64 `json:"calls_per_s"`
	MeanUs    float64 `json:"mean_us"`
	P50Us     float64 `json:"p50_us"`
	P99Us     float64 `json:"p99_us"`
}

func dial(socket string) *grpc.ClientConn {
	connection, err := grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw.Codec{}), grpc.MaxCallRecvMsgSize(64<<20)),
	)
	if err != nil {
		log.Fatal(err)
	}
	return connection
}

// run makes calls from `inFlight` goroutines until either bound, and has their durations.
func run(asked options, call call, connection *grpc.ClientConn, calls int, limit time.Duration) ([]time.Duration, time.Duration) {
	var number atomic.Int64
	var done atomic.Int64
	took := make([][]time.Duration, asked.inFlight)
	var workers sync.WaitGroup
	start := time.Now()
	deadline := start.Add(limit)
	for worker := range asked.inFlight {
		workers.Go(func() {
			mine := make([]time.Duration, 0, min(calls/asked.inFlight+1, 1<<16))
			for {
				this := int(number.Add(1))
				began := time.Now()
				if this > calls || began.After(deadline) {
					break
				}
				if err := call(context.Background(), connection, this); err != nil {
					log.Fatalf("call %d of %s: %v", this, asked.scenario, err)
				}
				mine = append(mine, time.Since(began))
				if ended := int(done.Add(1)); asked.progress > 0 && ended%asked.progress == 0 {
					fmt.Printf("{\"done\": %d}\n", ended)
				}
			}
			took[worker] = mine
		})
	}
	workers.Wait()
	return slices.Concat(took...), time.Since(start)
}

func summary(took []time.Duration, whole time.Duration) report {
	if len(took) == 0 {
		log.Fatal("no time for a single call")
	}
	slices.Sort(took)
	total := time.Duration(0)
	for _, one := range took {
		total += one
	}
	at := func(share float64) float64 {
		return float64(took[int(share*float64(len(took)-1))].Nanoseconds()) / 1e3
	}
	return report{
		Calls:     len(took),
		Seconds:   whole.Seconds(),
		CallsPerS: float64(len(took)) / whole.Seconds(),
		MeanUs:    float64(total.Nanoseconds()) / 1e3 / float64(len(took)),
		P50Us:     at(0.5),
		P99Us:     at(0.99),
	}
}

// hold opens connections with a call on each, says so, and keeps them until standard input ends.
func hold(asked options, call call) {
	open := make([]*grpc.ClientConn, asked.connections)
	for number := range open {
		open[number] = dial(asked.socket)
		if err := call(context.Background(), open[number], number); err != nil {
			log.Fatalf("connection %d: %v", number, err)
		}
	}
	fmt.Printf("{\"open\": %d}\n", len(open))
	_, _ = io.Copy(io.Discard, os.Stdin)
	for _, connection := range open {
		_ = connection.Close()
	}
}

func main() {
	var asked options
	flag.StringVar(&asked.socket, "socket", "", "socket to call")
	flag.StringVar(&asked.scenario, "scenario", "version", "kind of call: "+scenarios())
	flag.IntVar(&asked.inFlight, "inflight", 1, "calls at the same time")
	flag.IntVar(&asked.calls, "calls", 1<<40, "calls to make")
	flag.IntVar(&asked.messages, "messages", 10_000, "messages of a stream")
	flag.IntVar(&asked.progress, "progress", 0, "say when so many more calls are done")
	flag.IntVar(&asked.connections, "connections", 0, "only open so many connections and hold them")
	flag.DurationVar(&asked.seconds, "seconds", time.Hour, "time to take")
	flag.DurationVar(&asked.warmUp, "warm-up", 0, "time to take before, not counted")
	flag.Parse()
	if asked.scenario == "ready" {
		untilReady(asked.socket)
		return
	}
	call := scenario(asked)
	if asked.connections > 0 {
		hold(asked, call)
		return
	}
	connection := dial(asked.socket)
	if err := check(asked, connection); err != nil {
		log.Fatalf("first answer of %s: %v", asked.scenario, err)
	}
	warmUp := 2 // of check
	if asked.warmUp > 0 {
		quiet := asked
		quiet.progress = 0
		took, _ := run(quiet, call, connection, asked.calls, asked.warmUp)
		warmUp += len(took)
	}
	took, whole := run(asked, call, connection, asked.calls, asked.seconds)
	said := summary(took, whole)
	said.WarmUp = warmUp
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		log.Fatal(err)
	}
}
