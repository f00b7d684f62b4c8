"""When the API server is asked. What ten thousand nodes cost it follows from these numbers.

**Steady.** A node holds two watches, one of the ConfigMap and one of the Secret, each on a
single object, both on one HTTP/2 connection. Each lasts 30 to 60 minutes (45 on average; the
API server's own choice, `--min-request-timeout`, for who asks for nothing else), goes on from
where it stopped, and nothing is listed again: 2 / 2700 s = 0.0007 requests a second a node,
**7.4 a second for 10,000 nodes**. A kubelet's watches last 5 to 10 minutes (450 s; client-go's
reflector), about 25 of them on a node with 30 pods (pods, nodes, services, CSI drivers, runtime
classes, and one for each ConfigMap and Secret that a pod uses): 25 / 450 s, 556 a second for
10,000 nodes; and 1,000 a second for their leases. So this adds 1.3 % to the kubelets' watch
requests, 8 % to their open watches. Bookmarks come about once a minute on every watch: 333
small messages a second beside the kubelets' 4,167. A connection without a word for 15 s gets a
PING: up to four a minute, 667 frames of 17 bytes a second, of which the API knows nothing.

**Cut.** A proxy that answers PINGs itself and cuts a watch that was idle for T seconds costs two
requests every T + 15 s: for T = 50, 10,000 x 2 / 65 s = 308 a second, nothing listed. Kubelets'
watches are cut there, too, and begun again at once.

**All at once.** One API server of three restarts: a third of the nodes come back within
RETRY_FIRST_S = 30 s, two requests each: 3,333 x 2 / 30 s = 222 a second (667 if there is but
one). Kubelets come back within their first second or two. All nodes boot: two lists and two
watches each, within 30 s where a kept copy is there: 10,000 x 4 / 30 s = 1,333 a second, the
lists from the server's cache (`resourceVersion=0`), none from etcd. Every version is too old
(410): two watches more, and the lists within another 30 s. Back after hours away: nodes try
every 150 to 300 s, so they come back over that time, and list: 10,000 x 4 / 225 s = 178 a
second. Refused (403): in the end every 450 to 900 s: 10,000 x 2 / 675 s = 30 a second.

A change is pushed to all at once; that is what a watch is for: 10,000 x 1 object.
"""

from __future__ import annotations

import random

WATCH_MIN_S, WATCH_MAX_S = 1800.0, 3600.0
"""How long one watch lasts."""
START_SPREAD_S = 30.0
"""Within this time all nodes that boot together begin, if they have a kept copy."""
FIRST_SPREAD_S = 3.0
"""The same for nodes that know nothing yet: a new node, seldom one of many."""
RETRY_FIRST_S, RETRY_LIMIT_S = 30.0, 300.0
"""After the first failure within the first; then doubling, up to the second."""
REFUSED_FIRST_S, REFUSED_LIMIT_S = 120.0, 900.0
"""The same for a server that answers and says no: somebody has to mend it first."""
STEADY_S = 10.0
"""A connection that was watched for this long is not counted with the failures before it."""
SETTLE_S = 1.0
"""How long changes are gathered: who edits one object often edits the other with it."""


class Pace:
    """Random delays in seconds; every node draws its own."""

    def __init__(self, source: random.Random | None = None) -> None:
        self._random = source or random.Random()  # noqa: S311 - it spreads load

    def start(self, *, known: bool) -> float:
        """Before the first question; `known`: a kept copy is in force meanwhile."""
        return self._random.uniform(0, START_SPREAD_S if known else FIRST_SPREAD_S)

    def watch(self) -> float:
        """How long the next watch is to last."""
        return self._random.uniform(WATCH_MIN_S, WATCH_MAX_S)

    def spread(self) -> float:
        """Before doing what all other nodes are about to do as well."""
        return self._random.uniform(0, RETRY_FIRST_S)

    def retry(self, failures: int) -> float:
        """Before the next try after this many failures in a row (1 or more)."""
        if failures <= 1:
            return self.spread()
        return self._half_to_whole(RETRY_FIRST_S, RETRY_LIMIT_S, failures)

    def refused(self, refusals: int) -> float:
        """Before asking again somebody who said no this many times in a row."""
        return self._half_to_whole(REFUSED_FIRST_S, REFUSED_LIMIT_S, refusals)

    def _half_to_whole(self, first: float, limit: float, count: int) -> float:
        whole = min(first * 2.0 ** min(count - 1, 16), limit)
        return self._random.uniform(whole / 2, whole)
