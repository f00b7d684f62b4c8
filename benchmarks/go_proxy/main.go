// A CRI proxy in Go to compare with. It works as the sealos image-cri-shim does: the image
// service is decoded and encoded again, ImageStatus asks the runtime for the image's ID first,
// and the registries are asked in turn for an image that was not asked for before. Every
// other call passes through undecoded.
package main

import (
	"context"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"image-cri-shim/benchmarks/raw"
)

const limitBytes = 64 << 20

type proxy struct{ upstream *grpc.ClientConn }

// pass relays one call of any shape.
func (p *proxy) pass(_ any, client grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(client)
	received, _ := metadata.FromIncomingContext(client.Context())
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(client.Context(), received))
	defer cancel()
	shape := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	upstream, err := p.upstream.NewStream(ctx, shape, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			frame := &raw.Frame{}
			if err := client.RecvMsg(frame); err == io.EOF {
				_ = upstream.CloseSend()
				return
			} else if err != nil {
				cancel()
				return
			}
			if err := upstream.SendMsg(frame); err != nil {
				return
			}
		}
	}()
	for first := true; ; first = false {
		frame := &raw.Frame{}
		err := upstream.RecvMsg(frame)
		if first {
			if header, failed := upstream.Header(); failed == nil {
				_ = client.SetHeader(header)
			}
		}
		if err != nil {
			client.SetTrailer(upstream.Trailer())
			if err == io.EOF {
				return nil
			}
			return err
		}
		if err := client.SendMsg(frame); err != nil {
			return err
		}
	}
}

// registries remember which of them has an image.
type registries struct {
	addresses []string
	client    http.Client
	lock      sync.RWMutex
	found     map[string]string
}

// rewritten is the image's name on the first registry that has it, or the name as it came.
func (r *registries) rewritten(ctx context.Context, image string) string {
	r.lock.RLock()
	name, known := r.found[image]
	r.lock.RUnlock()
	if known {
		return name
	}
	name = r.ask(ctx, image)
	r.lock.Lock()
	r.found[image] = name
	r.lock.Unlock()
	return name
}

func (r *registries) ask(ctx context.Context, image string) string {
	path := strings.TrimPrefix(image, "docker.io/")
	repository, tag, _ := strings.Cut(path, ":")
	if tag == "" {
		tag = "latest"
	}
	for _, address := range r.addresses {
		url := address + "/v2/" + repository + "/manifests/" + tag
		request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
		if err != nil {
			continue
		}
		answer, err := r.client.Do(request)
		if err != nil {
			continue
		}
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return strings.TrimPrefix(address, "http://") + "/" + repository + ":" + tag
		}
	}
	return image
}

type imageService struct {
	cri.UnimplementedImageServiceServer
	runtime    cri.ImageServiceClient
	registries *registries
}

func (s *imageService) ListImages(ctx context.Context, request *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	return s.runtime.ListImages(ctx, request)
}

func (s *imageService) ImageFsInfo(ctx context.Context, request *cri.ImageFsInfoRequest) (*cri.ImageFsInfoResponse, error) {
	return s.runtime.ImageFsInfo(ctx, request)
}

func (s *imageService) idOf(ctx context.Context, image string) string {
	asked := &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image}}
	answer, err := s.runtime.ImageStatus(ctx, asked)
	if err != nil || answer.Image == nil {
		return ""
	}
	return answer.Image.Id
}

func (s *imageService) onNode(ctx context.Context, image *cri.ImageSpec) {
	if image == nil {
		return
	}
	if id := s.idOf(ctx, image.Image); id != "" {
		image.Image = id
	} else {
		image.Image = s.registries.rewritten(ctx, image.Image)
	}
}

func (s *imageService) ImageStatus(ctx context.Context, request *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	s.onNode(ctx, request.Image)
	return s.runtime.ImageStatus(ctx, request)
}

func (s *imageService) RemoveImage(ctx context.Context, request *cri.RemoveImageRequest) (*cri.RemoveImageResponse, error) {
	s.onNode(ctx, request.Image)
	return s.runtime.RemoveImage(ctx, request)
}

func (s *imageService) PullImage(ctx context.Context, request *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	if request.Image != nil {
		request.Image.Image = s.registries.rewritten(ctx, request.Image.Image)
	}
	return s.runtime.PullImage(ctx, request)
}

func main() {
	socket := flag.String("socket", "", "socket to serve")
	runtime := flag.String("runtime", "", "the runtime's socket")
	addresses := flag.String("registries", "", "registries in their order, http://host:port,...")
	flag.Parse()
	upstream, err := grpc.NewClient("unix:"+*runtime,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw.Codec{}), grpc.MaxCallRecvMsgSize(limitBytes), grpc.MaxCallSendMsgSize(limitBytes)),
	)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(
		grpc.ForceServerCodecV2(raw.Codec{}),
		grpc.UnknownServiceHandler((&proxy{upstream}).pass),
		grpc.MaxRecvMsgSize(limitBytes), grpc.MaxSendMsgSize(limitBytes),
	)
	cri.RegisterImageServiceServer(server, &imageService{
		runtime: cri.NewImageServiceClient(upstream),
		registries: &registries{
			addresses: strings.Split(*addresses, ","),
			client:    http.Client{Timeout: 3 * time.Second},
			found:     map[string]string{},
		},
	})
	listener, err := net.Listen("unix", *socket)
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-ended; server.Stop() }()
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
