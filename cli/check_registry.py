"""`check-registry`: are the registries there, is their TLS well, is the login accepted?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import exits, render
from cli.defaults import DEFAULT_FILE
from cli.options import FileOption, Output, OutputOption, named_file, started
from cli.render import BAD, GOOD, WARN, Cell, Column, Columns, table_of
from shimcore.errors import ShimError

if TYPE_CHECKING:
    from shimcore.config import Config, Registry
    from shimcore.config.values import Address
    from shimcore.registry.answers import PingReport, TlsReport

SOON_DAYS = 30
"""A certificate that ends sooner is warned about."""

PROBE_TIMEOUT_S = 3.0
"""The default of `probeTimeout`, where there is no configuration."""

LONGEST_SHOWN = 80
"""Characters of an argument that an error repeats."""

_LOGIN_STYLES = {"accepted": GOOD, "refused": BAD}

_COLUMNS: Columns[tuple[Registry, PingReport]] = {
    Column("REGISTRY"): lambda pair: Cell(pair[0].address),
    Column("OK"): lambda pair: Cell("ok", GOOD) if pair[1].ok else Cell("FAIL", BAD),
    Column("REACHABLE"): lambda pair: Cell("yes") if pair[1].reachable else Cell("no", BAD),
    Column("AUTH"): lambda pair: Cell(pair[1].auth_scheme),
    Column("LOGIN"): lambda pair: Cell(pair[1].login, _LOGIN_STYLES.get(pair[1].login, "")),
    Column("TIME", right=True): lambda pair: Cell(render.duration(pair[1].elapsed_s * 1000)),
    Column("TLS", below=True): lambda pair: _tls(pair[0], pair[1].tls),
    Column("DETAIL", below=True): lambda pair: Cell(pair[1].detail, "" if pair[1].ok else BAD),
}


def check_registry(
    context: typer.Context,
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="[ADDRESS...]", show_default=False)
    ] = None,
    file: FileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check every configured registry, or those named.

    An address that is not configured is checked without a login. Exit status: 0 all well;
    1 any failing, or no address.
    """
    with exits.reported(bad_config=exits.FAILED):
        config = _config(named_file(context, file), named=bool(addresses))
        registries, valid = _chosen(addresses or (), config)
        timeout_s = config.probe_timeout_s if config else PROBE_TIMEOUT_S
        reports = _reports(registries, timeout_s)
    pairs = list(zip(registries, reports, strict=True))
    for registry, report in pairs:
        _warn_of_end(registry, report)
    if pairs or output is not Output.TABLE:
        render.show(output, [_plain(*each) for each in pairs], lambda: [table_of(_COLUMNS, pairs)])
    well = valid and all(report.ok for report in reports)
    raise typer.Exit(exits.OK if well else exits.FAILED)


def _config(path: str | None, *, named: bool) -> Config | None:
    """The configuration; None when there is no file and addresses were named instead."""
    if path is None and named and not os.path.lexists(DEFAULT_FILE):
        return None
    config = started(path or DEFAULT_FILE)
    for notice in config.notices:
        exits.say(notice if config.source in notice else f"{config.source}: {notice}")
    return config


def _chosen(addresses: Sequence[str], config: Config | None) -> tuple[list[Registry], bool]:
    """The registries to check, each once, and whether all addresses were some."""
    configured = config.registries if config else ()
    if not addresses:
        return list(configured), True
    chosen: dict[Registry, None] = {}
    valid = True
    for address in addresses:
        try:
            chosen[_named(address, configured)] = None
        except ShimError as error:
            exits.say(str(error))
            valid = False
    return list(chosen), valid


def _named(text: str, configured: Sequence[Registry]) -> Registry:
    """The configured registry at an address, else one without a login. Raises ShimError."""
    from shimcore.config import Registry  # noqa: PLC0415 - a fast --help

    try:
        wanted = _address(text)
    except ValueError as error:
        # What stands before an @ is a login.
        shown = text.rpartition("@")[2]
        shown = repr(shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + "...")
        raise ShimError(f"{shown}: {error}") from None
    for registry in configured:
        if registry.address == wanted.url:
            return registry
        if "://" not in text and text.rstrip("/") in (registry.host, registry.address):
            return registry
    return Registry.unconfigured(wanted.url, wanted.scheme, wanted.host)


def _address(text: str) -> Address:
    """The address that an argument is. Raises ValueError."""
    from shimcore.config.values import address  # noqa: PLC0415 - a fast --help

    if not text.isprintable() or not text.strip():
        raise ValueError("not an address: host:port, http://host:port or https://host:port")
    return address(text)


def _reports(registries: Sequence[Registry], timeout_s: float) -> list[PingReport]:
    from cli.waiting import answer_of, asking  # noqa: PLC0415 - a fast --help

    if not registries:
        return []
    return answer_of(_ping(registries, timeout_s), asking(len(registries)))


async def _ping(registries: Sequence[Registry], timeout_s: float) -> list[PingReport]:
    import asyncio  # noqa: PLC0415 - a fast --help

    from cli.waiting import registry_client  # noqa: PLC0415

    async with registry_client(registries, timeout_s) as client:
        return list(await asyncio.gather(*(client.ping(registry) for registry in registries)))


def _warn_of_end(registry: Registry, report: PingReport) -> None:
    if report.tls is not None and report.ok and report.tls.days_left < SOON_DAYS:
        ends = _days(report.tls.days_left)
        exits.say(f"warning: {registry.address}: its certificate {ends}; renew it")


def _plain(registry: Registry, report: PingReport) -> dict[str, Any]:
    """The fixed keys of the JSON."""
    return {
        "address": registry.address,
        "ok": report.ok,
        "reachable": report.reachable,
        "auth_scheme": report.auth_scheme,
        "login": report.login,
        "tls": asdict(report.tls) if report.tls else None,
        "elapsed_ms": round(report.elapsed_s * 1000, 1),
        "detail": report.detail,
    }


def _tls(registry: Registry, tls: TlsReport | None) -> Cell:
    if tls is None:
        return Cell("no TLS: plain HTTP", WARN) if registry.scheme == "http" else Cell("")
    ends = _days(tls.days_left)
    if tls.begins_in_days:
        ends = f"valid in {tls.begins_in_days} days only (is the clock right?)"
    parts = [tls.version, ends, f"issued by {tls.issuer or 'an unknown issuer'}"]
    if registry.insecure_skip_verify:
        parts.append("not verified (insecureSkipVerify)")
    elif not tls.verified:
        parts.append("not trusted")
    if tls.days_left < 0 or not (tls.verified or registry.insecure_skip_verify):
        style = BAD
    else:
        style = WARN if tls.days_left < SOON_DAYS or not tls.verified else ""
    return Cell(", ".join(parts), style)


def _days(days_left: int) -> str:
    if days_left < 0:
        return "has expired"
    if days_left == 0:
        return "ends today"
    return f"{days_left} days left" if days_left >= SOON_DAYS else f"ends in {days_left} days"
