"""Everything that a peer can make the relay keep, with the reason for each bound."""

from __future__ import annotations

# kubelet's metadata can be large: 1 MiB is sixteen times what grpc-go accepts by
# default, and still nothing a node would notice.
HEADER_BLOCK_BYTES = 1 << 20

# kubelet and containerd both limit a CRI message to 16 MiB; a longer one is refused by
# the runtime itself, so the relay hands it on unread.
MESSAGE_BYTES = 16 << 20

# The length of a frame that must be seen whole. A peer may announce up to 2^24-1
# (RFC 9113 §6.5.2), and no frame is larger than its three length bytes allow.
FRAME_BYTES = (1 << 24) - 1

# Names and values of one decoded header list, RFC 7541 §4.1's 32 bytes a field included:
# what a block of that size can spell out in Huffman code and in short fields.
HEADER_LIST_BYTES = 4 * HEADER_BLOCK_BYTES

# Credit that the relay gives for request bytes it holds: two of the largest messages at
# once on one connection, and for the whole process what a 4 GiB node can spare.
CONNECTION_HELD_BYTES = 2 * MESSAGE_BYTES + (1 << 20)
PROCESS_HELD_BYTES = 256 << 20

# Calls of one connection that may wait or be in work on the side. kubelet has a few
# dozen; more stay open and wait, they are not refused.
CONNECTION_CALLS_IN_WORK = 64
PROCESS_CALLS_IN_WORK = 256

# Streams whose method is remembered until they end. A server that sets no limit of its
# own accepts more; such a client is told to calm down (RFC 9113 §7).
TRACKED_STREAMS = 1 << 16

# Refused streams on which upstream's late frames are still recognised.
REFUSED_STREAMS = 1024

# grpc-message of a refusal: a header block of one frame must hold it percent-encoded,
# and 16,384 is the smallest frame size that every peer accepts (RFC 9113 §4.2).
REFUSAL_TEXT_BYTES = 4096

# Distinct header blocks remembered between two changes of a dynamic table, the size up to
# which they are, and Huffman-coded strings remembered for the process.
REMEMBERED_BLOCKS = 64
REMEMBERED_BLOCK_BYTES = 1024
REMEMBERED_STRINGS = 512
