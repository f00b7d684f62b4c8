// A container runtime that does nothing, fast: CRI v1 and v1alpha2 with answers that were
// encoded before the first question, so that what stands in front of it is what is measured.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"image-cri-shim/benchmarks/raw"
)

const (
	// The filter of a ListImages that asks for so many images.
	listPrefix = "bench-"
	// How many messages GetContainerEvents sends.
	messagesKey = "bench-messages"
	digest      = "sha256:6a0f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7"
)

type answer func(request []byte) (raw.Bytes, error)

func encoded(message proto.Message) raw.Bytes {
	bytes, err := proto.Marshal(message)
	if err != nil {
		log.Fatal(err)
	}
	return bytes
}

func always(message proto.Message) answer {
	bytes := encoded(message)
	return func([]byte) (raw.Bytes, error) { return bytes, nil }
}

func image(name string, number int) *cri.Image {
	return &cri.Image{
		Id:          fmt.Sprintf("sha256:%064x", number+1),
		RepoTags:    []string{name},
		RepoDigests: []string{fmt.Sprintf("docker.io/library/app-%d@%s", number, digest)},
		Size:        uint64(10_000_000 + number),
		Username:    "nobody",
		Spec:        &cri.ImageSpec{Image: name},
	}
}

func images(count int) raw.Bytes {
	list := &cri.ListImagesResponse{}
	for number := range count {
		name := fmt.Sprintf("docker.io/library/app-%d:1.%d", number, number%100)
		list.Images = append(list.Images, image(name, number))
	}
	return encoded(list)
}

// listImages has as many images as the filter says, one without it.
func listImages() answer {
	lists := map[int]raw.Bytes{1: images(1), 200: images(200), 5000: images(5000)}
	return func(request []byte) (raw.Bytes, error) {
		var asked cri.ListImagesRequest
		if err := proto.Unmarshal(request, &asked); err != nil {
			return nil, err
		}
		text := strings.TrimPrefix(asked.GetFilter().GetImage().GetImage(), listPrefix)
		count, err := strconv.Atoi(text)
		if err != nil {
			count = 1
		}
		return lists[count], nil
	}
}

// imageStatus knows every image whose name does not say that it is absent.
func imageStatus() answer {
	present := encoded(&cri.ImageStatusResponse{Image: image("docker.io/library/nginx:latest", 0)})
	return func(request []byte) (raw.Bytes, error) {
		var asked cri.ImageStatusRequest
		if err := proto.Unmarshal(request, &asked); err != nil {
			return nil, err
		}
		if strings.Contains(asked.GetImage().GetImage(), "absent") {
			return raw.Bytes{}, nil
		}
		return present, nil
	}
}

func handler(reply answer) grpc.MethodHandler {
	return func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var request raw.Frame
		if err := decode(&request); err != nil {
			return nil, err
		}
		defer request.Data.Free()
		return reply(request.Data.Materialize())
	}
}

func events(_ any, stream grpc.ServerStream) error {
	count := 0
	if asked, ok := metadata.FromIncomingContext(stream.Context()); ok {
		if values := asked.Get(messagesKey); len(values) > 0 {
			count, _ = strconv.Atoi(values[0])
		}
	}
	event := encoded(&cri.ContainerEventResponse{
		ContainerId:        fmt.Sprintf("%064x", 1),
		ContainerEventType: cri.ContainerEventType_CONTAINER_STARTED_EVENT,
		CreatedAt:          1_700_000_000_000_000_000,
		PodSandboxStatus:   &cri.PodSandboxStatus{Id: fmt.Sprintf("%064x", 2)},
	})
	var request raw.Frame
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	request.Data.Free()
	for range count {
		if err := stream.SendMsg(event); err != nil {
			return err
		}
	}
	return nil
}

func service(name string, answers map[string]answer, streams ...grpc.StreamDesc) *grpc.ServiceDesc {
	description := &grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil), Streams: streams}
	for method, reply := range answers {
		description.Methods = append(description.Methods, grpc.MethodDesc{MethodName: method, Handler: handler(reply)})
	}
	return description
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: runtime SOCKET")
	}
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(raw.Codec{}), grpc.MaxRecvMsgSize(16<<20), grpc.MaxSendMsgSize(64<<20))
	for _, version := range []string{"v1", "v1alpha2"} {
		server.RegisterService(service("runtime."+version+".RuntimeService", map[string]answer{
			"Version": always(&cri.VersionResponse{
				Version: "0.1.0", RuntimeName: "bench", RuntimeVersion: "1.0.0", RuntimeApiVersion: version,
			}),
			"Status": always(&cri.StatusResponse{Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{
				{Type: cri.RuntimeReady, Status: true}, {Type: cri.NetworkReady, Status: true},
			}}}),
		}, grpc.StreamDesc{StreamName: "GetContainerEvents", Handler: events, ServerStreams: true}), struct{}{})
		server.RegisterService(service("runtime."+version+".ImageService", map[string]answer{
			"ListImages":  listImages(),
			"ImageStatus": imageStatus(),
			"PullImage":   always(&cri.PullImageResponse{ImageRef: digest}),
			"RemoveImage": always(&cri.RemoveImageResponse{}),
			"ImageFsInfo": always(&cri.ImageFsInfoResponse{}),
		}), struct{}{})
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-ended; server.Stop() }()
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
