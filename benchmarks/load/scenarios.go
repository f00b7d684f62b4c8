package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"image-cri-shim/benchmarks/raw"
)

// A call makes one call; `number` counts them from 1.
type call func(ctx context.Context, connection *grpc.ClientConn, number int) error

const (
	versionMethod = "/runtime.v1.RuntimeService/Version"
	eventsMethod  = "/runtime.v1.RuntimeService/GetContainerEvents"
	listMethod    = "/runtime.v1.ImageService/ListImages"
	statusMethod  = "/runtime.v1.ImageService/ImageStatus"
	pullMethod    = "/runtime.v1.ImageService/PullImage"
	// Every so many calls of the mixed load, one is an ImageStatus.
	mixedEvery = 10
)

var (
	askVersion = encoded(&cri.VersionRequest{Version: "0.1.0"})
	askStatus  = encoded(&cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: "nginx:latest"}})
)

func encoded(message proto.Message) raw.Bytes {
	bytes, err := proto.Marshal(message)
	if err != nil {
		log.Fatal(err)
	}
	return bytes
}

func askList(count int) raw.Bytes {
	image := &cri.ImageSpec{Image: "bench-" + strconv.Itoa(count)}
	return encoded(&cri.ListImagesRequest{Filter: &cri.ImageFilter{Image: image}})
}

func askPull(image string) raw.Bytes {
	return encoded(&cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}})
}

func unary(method string, request raw.Bytes) call {
	return func(ctx context.Context, connection *grpc.ClientConn, _ int) error {
		var answer raw.Frame
		if err := connection.Invoke(ctx, method, request, &answer); err != nil {
			return err
		}
		answer.Data.Free()
		return nil
	}
}

// cold pulls another image with each call, also across runs of this program.
func cold(repository string) call {
	run := time.Now().UnixNano()
	var next atomic.Int64
	return func(ctx context.Context, connection *grpc.ClientConn, number int) error {
		name := fmt.Sprintf("docker.io/%s/app-%d-%d:1", repository, run, next.Add(1))
		return unary(pullMethod, askPull(name))(ctx, connection, number)
	}
}

func stream(messages int) call {
	request := encoded(&cri.GetEventsRequest{})
	count := strconv.Itoa(messages)
	return func(ctx context.Context, connection *grpc.ClientConn, _ int) error {
		ctx = metadata.AppendToOutgoingContext(ctx, "bench-messages", count)
		open, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, eventsMethod)
		if err != nil {
			return err
		}
		if err := open.SendMsg(request); err != nil {
			return err
		}
		if err := open.CloseSend(); err != nil {
			return err
		}
		for received := 0; ; received++ {
			var message raw.Frame
			if err := open.RecvMsg(&message); err == io.EOF {
				if received != messages {
					return fmt.Errorf("%d messages of %d", received, messages)
				}
				return nil
			} else if err != nil {
				return err
			}
			message.Data.Free()
		}
	}
}

func mixed() call {
	version, status := unary(versionMethod, askVersion), unary(statusMethod, askStatus)
	return func(ctx context.Context, connection *grpc.ClientConn, number int) error {
		if number%mixedEvery == 0 {
			return status(ctx, connection, number)
		}
		return version(ctx, connection, number)
	}
}

var makers = map[string]func(options) call{
	"version":   func(options) call { return unary(versionMethod, askVersion) },
	"list-200":  func(options) call { return unary(listMethod, askList(200)) },
	"list-5000": func(options) call { return unary(listMethod, askList(5000)) },
	"status":    func(options) call { return unary(statusMethod, askStatus) },
	"pull-warm": func(options) call { return unary(pullMethod, askPull("docker.io/second/warm:1")) },
	"pull-2nd":  func(options) call { return cold("second") },
	"pull-3rd":  func(options) call { return cold("third") },
	"stream":    func(asked options) call { return stream(asked.messages) },
	"mixed":     func(options) call { return mixed() },
}

func scenarios() string {
	names := []string{"ready"}
	for name := range makers {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func scenario(asked options) call {
	make, known := makers[asked.scenario]
	if !known {
		log.Fatalf("scenario %q is none of %s", asked.scenario, scenarios())
	}
	return make(asked)
}

// check decodes an answer of each kind that the scenario asks for.
func check(asked options, connection *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	switch asked.scenario {
	case "version", "mixed":
		var answer cri.VersionResponse
		if err := connection.Invoke(ctx, versionMethod, askVersion, &answer); err != nil {
			return err
		}
		if answer.RuntimeName != "bench" {
			return fmt.Errorf("runtime %q", answer.RuntimeName)
		}
	case "list-200", "list-5000":
		count, _ := strconv.Atoi(strings.TrimPrefix(asked.scenario, "list-"))
		var answer cri.ListImagesResponse
		if err := connection.Invoke(ctx, listMethod, askList(count), &answer); err != nil {
			return err
		}
		if len(answer.Images) != count {
			return fmt.Errorf("%d images", len(answer.Images))
		}
	case "status":
		var answer cri.ImageStatusResponse
		if err := connection.Invoke(ctx, statusMethod, askStatus, &answer); err != nil {
			return err
		}
		if answer.GetImage().GetId() == "" {
			return fmt.Errorf("no image")
		}
	}
	return scenario(asked)(ctx, connection, 0)
}

// untilReady prints the time (nanoseconds since 1970) of the first answer on a socket that need
// not be there yet.
func untilReady(socket string) {
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		attempt, err := net.Dial("unix", socket)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		_ = attempt.Close()
		connection := dial(socket)
		err = unary(versionMethod, askVersion)(context.Background(), connection, 0)
		_ = connection.Close()
		if err == nil {
			fmt.Println(time.Now().UnixNano())
			return
		}
		time.Sleep(time.Millisecond)
	}
	log.Print("not ready in 30 s")
	os.Exit(1)
}
