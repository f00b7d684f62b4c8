"""Client of container registries: is an image there, and is the registry itself well?

One file for each step of the protocol (distribution-spec): `challenge`, `token`, `auth`,
`manifest`, `ping` over the exchanges of `http`; `health` keeps the questions cheap,
`condition` remembers what they told of each registry.
Proxies: HTTP_PROXY, HTTPS_PROXY and NO_PROXY are honoured by containerd's rules (`http.proxy`).
"""
