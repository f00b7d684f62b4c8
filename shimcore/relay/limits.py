"""Everything that a peer can make the relay keep, with the reason for each bound.

What others can grow is bounded where it is kept: answers of registries in
`registry/http/transport.py`, `manifest.py`, `token.py` and `challenge.py`; what is remembered of
images in `cache.py`, `images/hints.py` and `images/names.py`; names of images in
`reference/parsing.py`; text in logs and refusals in `images/wording.py`; files in
`config/files.py`; messages of the runtime to the shim itself in `runtime/channel.py`. The
number of connections is what the process's limit of open files allows, two for each.

Memory of one connection is bounded, whatever its peers do:

- 64 KiB of send buffer for each side, at which the other side's reading stops, and one chunk
  as it was read (256 KiB) on top: 640 KiB, of which an idle connection has none;
- answers of the relay's own: what one slice of the client's frames can cause, 6 MiB of refusals
  at worst, since a client that does not take them is not read either;
- held requests: CONNECTION_LIMIT_BYTES, 25 MiB, of which a client that keeps to its windows
  gets 9 and upstream's connection window (CONNECTION_HELD_BYTES), and 9 MiB more for what
  compressed ones inflate to;
- answers of calls made on the side, and upstream's DATA that waits behind them: REPLY_BYTES,
  10 MiB;
- header tables, blocks and queued frames, and metadata: 12 MiB.

That is 64 MiB against a client that wants to do harm, and 4 KiB for one that is idle. Beyond
each connection's share, the credit for held requests (PROCESS_HELD_BYTES) and the requests that are
decided on (PROCESS_REQUEST_BYTES, PROCESS_PULL_BYTES) are bounded for all connections together.
"""

from __future__ import annotations

# kubelet's metadata can be large, and has no bound; clients that allow it send up to 1 MiB.
HEADER_BLOCK_BYTES = 1 << 20

# What is decoded of a header block before others have their turn: 0.3 ms of Huffman code or of
# fields of one byte each. A block that is not remembered and is longer than kubelet's usual ones
# has a piece of its own; of shorter ones, a slice's frames have less than that together.
BLOCK_PIECE_BYTES = 1024
BLOCK_AT_ONCE_BYTES = 256

# What the shortest fragment of a block counts: frames without content cost memory as well.
FRAGMENT_BYTES = 64

# The dynamic table that a peer may announce for the headers sent to it: 256 times the
# default (RFC 9113 §6.5.2). A connection that uses a larger one is relayed unread.
HEADER_TABLE_BYTES = 1 << 20

# Announcements of settings without an ACK that are kept apart. A peer that never
# acknowledges is given up on by the other one long before (RFC 9113 §6.5.3).
PENDING_SETTINGS = 64

# Of a message that is read: kubelet and containerd accept 16 MiB, mainly for lists. Image
# calls are answered by name, and a container of which more than 2 MiB of arguments and
# environment are said cannot be executed (execve(2): a quarter of an 8 MiB stack). A longer one is
# handed on unread.
MESSAGE_BYTES = 4 << 20

# What is inflated of a compressed message before others have their turn: 0.3 ms of zeros.
INFLATED_BYTES = 32_768

# The length of a frame that must be seen whole. A peer may announce up to 2^24-1
# (RFC 9113 §6.5.2), and no frame is larger than its three length bytes allow.
FRAME_BYTES = (1 << 24) - 1

# Names and values of one decoded header list, RFC 7541 §4.1's 32 bytes a field included:
# what a block of that size can spell out in Huffman code and in short fields.
HEADER_LIST_BYTES = 4 * HEADER_BLOCK_BYTES

# Fields of one decoded header list, which are gone through in one go once it is whole: 0.4 ms for a
# call that is held. kubelet's requests have ten; proxies and servers at large accept a hundred.
HEADER_FIELDS = 512

# Request bytes that are held, and what compressed ones inflate to: two of the largest messages
# at once on one connection. A connection has a share that others cannot take: four
# windows of the default size, which is fifty large containers at once and less than its buffers.
# What is over the shares of all is bounded for the process; with more there is no credit, and
# what came without goes on unread.
CONNECTION_HELD_BYTES = 2 * MESSAGE_BYTES + (1 << 20)
HELD_SHARE_BYTES = 256 << 10
PROCESS_HELD_BYTES = 4 * MESSAGE_BYTES

# Request bytes that one connection can have here at all: what it gets credit for, and a
# connection window as large as grpc-go's grows. A client gets this far only against its
# windows or with a runtime whose window is larger; it is told to calm down.
CONNECTION_LIMIT_BYTES = CONNECTION_HELD_BYTES + (16 << 20)

# Messages and metadata of image calls that are being decided on, which are read then. Each
# connection has a share, and in common they have two of the largest; a call over both stays held
# as it came, and waits. Pulls, which may hang for a quarter of an hour, have bytes of their own: a
# pull has some hundred of them, and at most its pod's annotations (256 KiB), which kubelet sends
# twice, for the image and for the sandbox. A container has some thousand, and 400 for each service
# of its namespace (enableServiceLinks).
REQUEST_SHARE_BYTES = 512 << 10
PROCESS_REQUEST_BYTES = 2 * MESSAGE_BYTES
PULL_SHARE_BYTES = 2 * (256 << 10) + (64 << 10)
PROCESS_PULL_BYTES = 2 * MESSAGE_BYTES

# What counts at most of one that has gone on, until its answer has come: who decided on it keeps
# the image's name (`HeldCall`).
SETTLED_CALL_BYTES = 1024

# Header blocks and other frames without a window that wait behind a stream's DATA, and
# what each counts beside its bytes. A client that sends more is told to calm down.
QUEUED_FRAME_BYTES = 4 << 20
QUEUED_FRAME_COST_BYTES = 128

# Frames of the relay's own that wait until the runtime has ended the frame that it is in;
# with more, the client is not read. One is a refusal or the ACK of a PING at most.
OWN_FRAMES = 1024

# The relay's own answers that a client has not made room for, or not yet paid for with
# WINDOW_UPDATEs: one of the largest messages, or thousands of usual ones (PullImage's has 80
# bytes; grpc-go pays after a quarter of its window). A call over this is refused.
ANSWER_BYTES = MESSAGE_BYTES + (1 << 20)
ANSWERS_WAITING = 1024

# Those, and upstream's DATA that waits since upstream does not know of them, which is as much
# again. A client that keeps more waiting is told to calm down.
REPLY_BYTES = 2 * ANSWER_BYTES

# What a client may send before its upstream connection stands, one chunk more or less.
EARLY_BYTES = 65_536

# Calls of one connection that may be in work on the side at once, and of the process beyond
# each connection's share. kubelet has a few dozen pulls; more stay open and wait, they are not
# refused. The others are short, but a sandbox may wait a minute for its image: as many as
# a node has pods by kubelet's default (110) never keep a container waiting.
CONNECTION_PULLS_IN_WORK = 64
PROCESS_PULLS_IN_WORK = 128
SHARE_OF_PULLS_IN_WORK = 4
CONNECTION_CALLS_IN_WORK = 256
PROCESS_CALLS_IN_WORK = 512
SHARE_OF_CALLS_IN_WORK = 16

# Streams whose method is remembered until they end: 1 KiB for one that is opened. A server
# that sets no limit of its own accepts more; such a client is told to calm down (RFC 9113 §7).
TRACKED_STREAMS = 1 << 13

# Calls under way of one process, whatever its connections: one that is neither held nor ended is a
# goroutine and some 10 KiB of the runtime's. A kubelet has a few for each of its pods (250 at most
# by what Kubernetes is tested with): execs, attaches, pulls, events. What is over the shares of
# all may be as much again; after that calls are begun at the pace of those that are given up. A
# process with as many as one connection may have is told to calm down.
OPEN_SHARE = 512
SHARED_OPEN = 1024
OPEN_CALLS = TRACKED_STREAMS

# Calls that a process may give up without letting others finish: at once, and a second. Of those in
# common a kubelet takes a few hundred when the runtime has hung for two minutes and all
# its calls time out; servers at large end a connection at a hundred to a thousand.
RESETS_SHARE = 64
RESETS_PER_S = 20
SHARED_RESETS = 1024
SHARED_RESETS_PER_S = 100

# Connections that a process may begin, and all together: at once, and a second. One costs the shim
# 0.7 ms, and the runtime as much or more. A kubelet has two for its whole life, a crictl one or
# two; some agents make one for each call.
CONNECTS_SHARE = 64
CONNECTS_PER_S = 50
SHARED_CONNECTS = 256
SHARED_CONNECTS_PER_S = 100

# Processes that are remembered, of 600 bytes each, unless more have a connection. Whoever was quiet
# for as long as it takes so many others to come has no debt that counts.
KEPT_CLIENTS = 1024

# A longer method than the CRI has is remembered and counted by its beginning; distinct
# methods that are counted apart (the CRI has about sixty).
METHOD_BYTES = 256
COUNTED_METHODS = 256

# Refused streams on which upstream's late frames are still recognised.
REFUSED_STREAMS = 1024

# grpc-message of a refusal: a header block of one frame must hold it percent-encoded,
# and 16,384 is the smallest frame size that every peer accepts (RFC 9113 §4.2). As much is
# read of the runtime's.
REFUSAL_TEXT_BYTES = 4096

# The caller's metadata of one held call (trace context and the like), and of all calls of a
# connection whose message is not whole yet, RFC 7541 §4.1's 32 bytes a field included.
# More is not kept: it goes to the runtime, and not into calls on the side.
METADATA_BYTES = 65_536
CONNECTION_METADATA_BYTES = 16 * METADATA_BYTES

# Distinct header blocks remembered between two changes of a dynamic table, the size up to
# which they are, and Huffman-coded strings remembered for the process, likewise.
REMEMBERED_BLOCKS = 64
REMEMBERED_BLOCK_BYTES = 1024
REMEMBERED_STRINGS = 512
REMEMBERED_STRING_BYTES = 64

# A chunk of at most so many bytes is gone through at once. It is a handful of calls or a
# hundred frames, for each of which its sender has paid with a system call of its own.
FREE_BYTES = 1024
# More frames than there are in it.
FREE_FRAMES = 128

# Frames that are gone through between two looks at the clock; one of them may cost as much as
# a piece of a block's decoding. In a chunk of DATA of the usual size (16 KiB) there are no more.
SLICE_FRAMES = 16

# What a connection takes of the event loop before others have their turn, and what all larger
# chunks together take of one turn. A chunk of 256 KiB in frames of the usual size needs a
# tenth of that, the answers of a hundred calls as much; and a call of somebody else's, which
# needs three turns, is 6 ms late.
SLICE_S = 0.0005
TURN_S = 0.002
