"""Exchanges over HTTP with a registry, and what bounds them.

`transport` sends one question over the connections of `pools`, directly or through a `proxy`;
`wire` bounds what an answer may cost, `url` says what may be asked, `tls` whom to believe.
"""
