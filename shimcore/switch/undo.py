"""The undo: a script that needs no Python, and the units that start it.

It ends a switch that is under way: what the journal has is put back, units and all, and the last
step is that `state.json` says so. Where that says already how the switch ended, it only clears away
what the switch needed. Killed at any point, it does the same again.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from shimcore.switch.exchange import LOCK, ROOM, UNDO, VERSIONS
from shimcore.systemd.entries import PARTIAL
from shimcore.systemd.kubelet import UNIT as KUBELET
from shimcore.systemd.root import Root
from shimcore.systemd.units import BYPASS, SERVICE, SOCKET, UNITS

SWITCH_UNIT = "image-cri-shim-switch"
UNDO_SERVICE = "image-cri-shim-undo.service"
UNDO_AT_BOOT = "image-cri-shim-undo-boot.service"
UNDO_TIMER = "image-cri-shim-undo.timer"
WANTS = f"{UNITS}/sysinit.target.wants"
BOOT_LINK = f"{WANTS}/{UNDO_AT_BOOT}"
# What may not start, after a reboot, before it is settled with what.
_STARTED_AFTER = (
    f"{SOCKET} {SERVICE} {KUBELET} containerd.service crio.service docker.service "
    "cri-docker.service k3s.service k3s-agent.service rke2-server.service rke2-agent.service"
)
# Lines of the journal that are no files.
AGAIN, HALT, SETTLE = "again", "halt", "settle"
HALT_DUE, KUBELET_DUE = "due halt", "due kubelet"
"""Noted after the lines that stand for what is to be done, which without them do nothing."""


def starting(command: str) -> tuple[str, ...]:
    """What has systemd start a switch, `command` being that of the bundle.

    When its process has ended, however that came, what it has left is undone or cleared away at
    once; where it was killed before the undo had its units, by the script itself. On a machine that
    goes down the next boot does it.
    """
    left = f"[ ! -e {UNDO} ] || systemctl is-system-running | grep -qx stopping"
    undone = f"systemctl --no-block start {UNDO_SERVICE} || exec /bin/sh {UNDO}"
    return (
        *("systemd-run", f"--unit={SWITCH_UNIT}", "--collect", "--no-block"),
        f"--property=ExecStopPost=-/bin/sh -c '{left} || {undone}'",
        *(command, "switch", "run"),
    )


def read_again(what: str, then: str, *, runs: bool) -> str:
    """The line that has a unit read its files once more; `then` is `restart UNIT`, `reload UNIT`.

    `what`: `unit`, or `kubelet` for that of kubelet, if KUBELET_DUE comes before it. One that
    `runs` is there after, and no other is started.
    """
    verb, unit = then.split(" ")
    verb = "try-restart" if verb == "restart" and not runs else verb
    return f"{what} {shlex.quote(verb)} {shlex.quote(unit)}"


@dataclass(frozen=True, slots=True)
class Before:
    """Whether the shim's socket was there, its process, and whether a boot's wants had a place."""

    serving: bool
    process: int
    wants: bool


def unit_texts(deadline_s: int) -> dict[str, str]:
    """The units, by name: they are on a node while a switch is under way."""
    return {
        UNDO_SERVICE: _SERVICE.format(undo=UNDO, timer=UNDO_TIMER),
        UNDO_AT_BOOT: _AT_BOOT.format(undo=UNDO, timer=UNDO_TIMER, room=ROOM, later=_STARTED_AFTER),
        UNDO_TIMER: _TIMER.format(service=UNDO_SERVICE, deadline=deadline_s),
    }


def script(root: Root, before: Before) -> str:
    """The script, for the paths that this process has."""

    def host(path: str) -> str:
        return shlex.quote(str(root.host(path, last=False)))

    units = [f"{UNITS}/{name}" for name in (UNDO_SERVICE, UNDO_AT_BOOT, UNDO_TIMER)]
    values = {
        "room": host(ROOM),
        "versions": host(VERSIONS),
        "lock": host(LOCK),
        "serving": "yes" if before.serving else "no",
        "process": str(before.process),
        "wants": "" if before.wants else host(WANTS),
    }
    named = {
        "values": "\n".join(f"{name}={value}" for name, value in values.items()),
        "units": " ".join(host(path) for path in (BOOT_LINK, *units)),
        "bypass": BYPASS,
        "service": SERVICE,
        "socket": SOCKET,
        "partial": PARTIAL,
        "timer": UNDO_TIMER,
    }
    text = _SCRIPT
    for name, value in named.items():
        text = text.replace(f"@{name}@", value)
    return text


_SERVICE = """\
[Unit]
Description=Undoes a switch of image-cri-shim that has not ended well
ConditionPathExists={undo}
# Ended before it was done, it is tried again.
OnFailure={timer}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/sh {undo}
TimeoutStartSec=infinity
"""

_AT_BOOT = """\
[Unit]
Description=Undoes a switch of image-cri-shim during which the machine went down
DefaultDependencies=no
ConditionPathExists={undo}
OnFailure={timer}
RequiresMountsFor={room} /etc /opt
After=local-fs.target
Before=sysinit.target {later}

[Service]
Type=oneshot
ExecStart=/bin/sh {undo} boot
TimeoutStartSec=infinity

[Install]
WantedBy=sysinit.target
"""

_TIMER = """\
[Unit]
Description=Undoes a switch of image-cri-shim unless it is known to be well in time
# It is started anew again and again, and would else be left alone after the fifth time.
StartLimitIntervalSec=0

[Timer]
OnActiveSec={deadline}
AccuracySec=250ms
RemainAfterElapse=no
Unit={service}
"""

_SCRIPT = """\
#!/bin/sh
# Ends a switch of image-cri-shim: puts back what its journal has, unless state.json says how it
# ended. With `boot` nothing runs yet, and nothing is waited for. Written anew by each switch.
@values@
boot=${1:-}
failed=

# The line of state.json that has the phase.
phase() {
  [ -f state.json ] || return 0
  while read -r key value; do
    [ "$key" != '"phase":' ] || { value=${value#?}; echo "${value%%\\"*}"; }
  done <state.json
}

# A unit that hangs does not keep the others from being put back.
tell() {
  if [ "$boot" = boot ]; then systemctl --no-block "$@"
  elif command -v timeout >/dev/null; then timeout 40 systemctl "$@"
  else systemctl "$@"; fi
}

# The process that switches, unless its number has gone to another one.
end_switch() {
  [ -f process ] && read -r pid began <process && [ -r "/proc/$pid/stat" ] || return 0
  read -r line <"/proc/$pid/stat"
  set -- ${line##*) }
  [ "${20}" = "$began" ] || return 0
  kill -9 "$pid"
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -d "/proc/$pid" ] || return 0
    sleep 0.2
  done
}

partials() {
  for each in "${1%/*}/.${1##*/}@partial@"*; do
    { [ ! -e "$each" ] && [ ! -L "$each" ]; } || rm -rf "$each"
  done
}

# copy KEPT NEW: where the disk is full, the kept one itself has a second name.
copy() {
  cp -a "$1" "$2" && { [ -L "$2" ] || sync "$2" 2>/dev/null || sync; } && return
  rm -rf "$2"
  cp -al "$1" "$2"
}

# as_it_was KEPT PLACE: immutable, or a mount of its own, it never was changed.
as_it_was() {
  [ -f "$2" ] && [ ! -L "$2" ] && [ ! "$2" -nt "$1" ] && [ ! "$2" -ot "$1" ] &&
    [ "$(stat -c %s.%f.%u.%g "$1")" = "$(stat -c %s.%f.%u.%g "$2")" ]
}

# back NUMBER PLACE: what was at the place is there again.
back() {
  [ -w "${2%/*}" ] || [ ! -d "${2%/*}" ] || return 0 # read-only: it could not be changed
  partials "$2"
  if [ -d "journal/$1.kept" ] && [ ! -L "journal/$1.kept" ]; then
    [ ! -d "$2" ] || return 0
  fi
  kept="journal/$1.kept" new="${2%/*}/.${2##*/}@partial@undone"
  if copy "$kept" "$new" && mv -f -T "$new" "$2"; then return 0; fi
  rm -rf "$new"
  as_it_was "$kept" "$2" || { failed=yes; echo "<3>$2 is not as it was" >&2; }
}

# gone PLACE: nothing was there. A directory in which somebody else has something stays.
gone() {
  partials "$1"
  if [ ! -e "$1" ] && [ ! -L "$1" ]; then return 0; fi
  if [ -d "$1" ] && [ ! -L "$1" ]; then rmdir "$1" 2>/dev/null || :
  else rm -f "$1" || failed=yes; fi
}

# What runs gets its old files, and the shim its old command.
unit() {
  [ "$boot" != boot ] || return 0
  due runtime
  tell "$@" || :
}
due() { due="$due $1 "; }
is_due() { case "$due" in *" $1 "*) ;; *) return 1 ;; esac; }
kubelet() {
  [ "$boot" != boot ] && is_due kubelet || return 0
  systemctl daemon-reload
  tell "$@" || :
  # One that starts before its runtime answers ends. Left alone for its RestartSec=, it is restarted
  # by `restart` alone: `start` waits for that time.
  [ "$1" = restart ] && is_due runtime || return 0
  for _ in 1 2 3; do
    sleep 2
    systemctl --quiet is-active "$2" || tell "$@" || :
  done
}
# Not while kubelet's file may still lead to the shim.
halt() {
  [ "$boot" != boot ] && [ -z "$failed" ] && is_due halt || return 0
  tell stop @bypass@ @socket@ @service@ || :
}
again() {
  [ "$boot" != boot ] && [ "$serving" = yes ] || return 0
  systemctl daemon-reload
  # One that never was asked to make way, or said that it could not, has served all the time.
  if [ ! -f handing ] && [ "$process" != 0 ] &&
    [ "$(systemctl show --property=MainPID --value @service@)" = "$process" ]
  then tell reload @service@ || :
  else tell restart @service@ || :; fi
}
settle() {
  systemctl daemon-reload
  if [ "$serving" = yes ]; then tell start @socket@ @service@ || :
  else
    tell stop @bypass@ @socket@ @service@ 2>/dev/null || :
    systemctl reset-failed @bypass@ @socket@ @service@ 2>/dev/null || :
  fi
}

put_back() {
  due=
  for entry in $list; do . "./$entry"; done
}

undo() {
  end_switch
  [ "$(phase)" = running ] || return 0 # recorded as well in the last moment
  list=
  for each in journal/[0-9][0-9][0-9][0-9][0-9][0-9]; do
    [ ! -f "$each" ] || list="$each $list"
  done
  # Tried before, nobody is told anything again until all can be put back.
  if [ -f tried ]; then
    when=$boot boot=boot
    put_back
    boot=$when
    [ -z "$failed" ] || exit 1
  fi
  put_back
  if [ -n "$failed" ]; then
    : >tried
    [ "$serving" != yes ] || settle
    exit 1
  fi
  settle
  mv -f undone.json state.json
  sync . 2>/dev/null || sync
}

# What the fleet has unpacked. An environment of pip's may lie beside it.
forget_versions() {
  rm -rf "$versions"/[0-9]* "$versions"/.unfinished-* "$versions/current"
  rmdir "$versions" 2>/dev/null || :
}

clear() {
  [ "$(phase)" != removed ] || forget_versions
  rm -rf journal
  [ "$boot" = boot ] || systemctl stop @timer@ 2>/dev/null || :
  for own in @units@; do
    rm -f "$own"
    partials "$own"
  done
  [ -z "$wants" ] || rmdir "$wants" 2>/dev/null || :
  systemctl daemon-reload
  # That of a switch that was killed; one that goes on has it locked.
  ! command -v flock >/dev/null || [ ! -e "$lock" ] || flock -n "$lock" rm -f "$lock" || :
  rm -f process handing tried undone.json undo .*@partial@*
}

main() {
  cd "$room" || exit 1
  if [ "$(phase)" = running ]; then undo; fi
  clear
  exit 0
}
main
"""
