// Package raw has a gRPC codec that leaves a message as the bytes it is on the wire, and
// encodes what is a protobuf message as usual.
package raw

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Frame is one message, not decoded. Its buffers belong to whoever sends it on.
type Frame struct{ Data mem.BufferSlice }

// Bytes is one message to send, as often as wanted.
type Bytes []byte

// Codec says "proto" on the wire.
type Codec struct{}

var usual = encoding.GetCodecV2(proto.Name)

// Name is the content subtype.
func (Codec) Name() string { return proto.Name }

// Marshal hands a Frame's buffers over, without a copy.
func (Codec) Marshal(value any) (mem.BufferSlice, error) {
	switch message := value.(type) {
	case *Frame:
		data := message.Data
		message.Data = nil
		return data, nil
	case Bytes:
		return mem.BufferSlice{mem.SliceBuffer(message)}, nil
	default:
		return usual.Marshal(value)
	}
}

// Unmarshal keeps the buffers of a Frame beyond the call.
func (Codec) Unmarshal(data mem.BufferSlice, value any) error {
	switch message := value.(type) {
	case *Frame:
		data.Ref()
		message.Data = data
		return nil
	case *Bytes:
		return fmt.Errorf("receive into a Frame")
	default:
		return usual.Unmarshal(data, value)
	}
}
