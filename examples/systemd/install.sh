#!/bin/sh
# Shipped with failover (examples/systemd): puts the units on this host. It starts and stops nothing.
set -eu

usage() {
    cat <<'USAGE'
Usage: install.sh guard --database-unit UNIT [--data-dir DIR] [--program FILE]
       install.sh controller | vantage [--program FILE]

  --database-unit UNIT  the distribution's unit of the database, such as postgresql@15-main.service
  --data-dir DIR        its data directory, where guard.yaml does not say 'dataDir: DIR' on a line of its own
  --program FILE        copy this program to /usr/local/bin/failover; without it one has to be there

DESTDIR=FOLDER works below a folder, and asks nothing of systemd.
USAGE
}

say() { printf 'install.sh: %s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
wrong() { printf 'install.sh: %s\n' "$*" >&2; usage >&2; exit 2; }

from=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}
units=$root/etc/systemd/system
program=$root/usr/local/bin/failover
document=$root/etc/failover/guard.yaml
before=$root/var/lib/failover/before-guard
mark='# Shipped with failover (examples/systemd)'

# Whole or not at all, and never over a file that is somebody else's.
put() { # SOURCE TARGET
    if [ -e "$2" ] || [ -L "$2" ]; then
        if [ ! -L "$2" ] && cmp -s "$1" "$2"; then
            return
        fi
        [ ! -L "$2" ] && grep -qF "$mark" "$2" || fail "$2 is there and not ours: move it away first"
    fi
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new"
    chmod 0644 "$2.new"
    mv -f "$2.new" "$2"
    say "wrote $2"
}

put_program() { # SOURCE
    [ -f "$1" ] || fail "there is no program $1"
    cmp -s "$1" "$program" && return
    # A program that was there before stays ours to leave alone when we go.
    if [ -e "$program" ] && [ ! -e "$program.installed" ]; then
        fail "$program is there and not ours: move it away first, or leave out --program"
    fi
    mkdir -p "$(dirname "$program")"
    cp "$1" "$program.new"
    chmod 0755 "$program.new"
    # A running guard keeps the old file until it is started again.
    mv -f "$program.new" "$program"
    : >"$program.installed"
    say "wrote $program"
}

# One value of a block-style document.
value() { # KEY
    [ -r "$document" ] || return 0
    sed -n "s/^[[:space:]]*$1:[[:space:]]*//p" "$document" | sed -n '1p' |
        sed "s/[[:space:]]*#.*\$//; s/^[\"']//; s/[\"'][[:space:]]*\$//"
}

# What the data directory was before any guard touched it: the guard puts standby.signal at every site.
remember() { # DATA
    [ ! -e "$before" ] || return 0
    [ ! -e "$root/var/lib/failover/guard/promise.0" ] || {
        say "a guard was here before: what $1 was before it is not known, and not written down"
        return 0
    }
    [ -d "$root$1" ] || fail "there is no data directory $root$1"
    role=primary
    [ ! -e "$root$1/standby.signal" ] || role=standby
    mkdir -p "$(dirname "$before")"
    printf 'unit=%s\ndata=%s\nrole=%s\n' "$unit" "$1" "$role" >"$before.new"
    mv -f "$before.new" "$before"
    say "noted in $before that $1 is a $role's"
}

[ $# -gt 0 ] || wrong 'which part? guard, controller or vantage'
part=$1
shift
unit='' data='' source=''
while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || wrong "$1 wants a value, or is not known"
    case $1 in
        --database-unit) unit=$2 ;;
        --data-dir) data=$2 ;;
        --program) source=$2 ;;
        *) wrong "$1 is not known" ;;
    esac
    shift 2
done

case $part in
    guard)
        case $unit in
            *.service) ;;
            *) wrong '--database-unit names the unit that starts the database today, with .service' ;;
        esac
        [ -n "$data" ] || data=$(value dataDir)
        case $data in
            /*) ;;
            *) wrong "--data-dir is needed: $document does not say it on a line of its own" ;;
        esac
        ;;
    controller | vantage) [ -z "$unit$data" ] || wrong 'only the guard has a database' ;;
    *) wrong "there is no part $part" ;;
esac

if [ -n "$source" ]; then
    put_program "$source"
elif [ ! -x "$program" ]; then
    fail "$program is not there: --program FILE copies it"
fi
if [ "$part" = guard ]; then
    remember "$data"
    put "$from/postgresql-under-guard.conf" "$units/$unit.d/failover-guard.conf"
fi
put "$from/failover-$part.service" "$units/failover-$part.service"

if [ -z "$root" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
say "done; nothing was started: README.md says what comes next"
