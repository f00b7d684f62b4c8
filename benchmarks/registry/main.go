// Three registries at some distance, in one process. Each knows every manifest, except that
// repositories of `second/` are not on the first, and those of `third/` only on the third.
// Prints the address of each as a line, then serves.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"
)

const digest = "sha256:6a0f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7"

func has(number int, path string) bool {
	switch {
	case strings.HasPrefix(path, "/v2/second/"):
		return number > 0
	case strings.HasPrefix(path, "/v2/third/"):
		return number > 1
	default:
		return true
	}
}

func main() {
	delay := flag.Duration("delay", 20*time.Millisecond, "time to an answer")
	flag.Parse()
	failed := make(chan error)
	for number := range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("http://%s\n", listener.Addr())
		answer := func(response http.ResponseWriter, request *http.Request) {
			time.Sleep(*delay)
			if !has(number, request.URL.Path) {
				response.WriteHeader(http.StatusNotFound)
				return
			}
			response.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			response.Header().Set("Docker-Content-Digest", digest)
			response.WriteHeader(http.StatusOK)
		}
		go func() { failed <- http.Serve(listener, http.HandlerFunc(answer)) }()
	}
	log.Fatal(<-failed)
}
