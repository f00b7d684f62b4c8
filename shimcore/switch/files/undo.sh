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
    [ "$key" != '"phase":' ] || { value=${value#?}; echo "${value%%\"*}"; }
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
