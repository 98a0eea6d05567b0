#!/bin/sh
# Shipped with failover (examples/systemd): takes a part off this host. After the guard's the database starts by its own
# unit as what the site is: a primary as a primary, a standby as a standby. State stays, unless --purge.
set -eu

usage() {
    cat <<'USAGE'
Usage: uninstall.sh guard [--site-is-primary | --site-is-standby] [--data-dir DIR] [--purge]
       uninstall.sh controller | vantage [--purge]

  --site-is-primary  a person's word, where the guard cannot tell: no other site is or becomes the primary
  --site-is-standby  a person's word: the database is to start read-only
  --data-dir DIR     the data directory, where neither the note of install.sh nor guard.yaml says it
  --purge            also remove state: promise and notes, or journal and lists; documents and keys stay

DESTDIR=FOLDER works below a folder.
USAGE
}

say() { printf 'uninstall.sh: %s\n' "$*"; }
fail() { printf 'uninstall.sh: %s\n' "$*" >&2; exit 1; }
wrong() { printf 'uninstall.sh: %s\n' "$*" >&2; usage >&2; exit 2; }

root=${DESTDIR:-}
units=$root/etc/systemd/system
program=$root/usr/local/bin/failover
document=$root/etc/failover/guard.yaml
state=$root/var/lib/failover
before=$state/before-guard
orderly=$root/run/systemd/system/failover-guard.service.d
mark='# Shipped with failover (examples/systemd)'

value() { # KEY
    [ -r "$document" ] || return 0
    sed -n "s/^[[:space:]]*$1:[[:space:]]*//p" "$document" | sed -n '1p' |
        sed "s/[[:space:]]*#.*\$//; s/^[\"']//; s/[\"'][[:space:]]*\$//"
}

noted() { # KEY
    [ -r "$before" ] || return 0
    sed -n "s/^$1=//p" "$before"
}

status() { "$program" guard status -f "$document" -o json 2>/dev/null; }

# Until the guard answers and has seen its database.
answered() {
    tries=0
    while [ $tries -lt 60 ]; do
        told=$(status) || told=''
        case $told in
            *'"database":null'* | '') ;;
            *) return 0 ;;
        esac
        tries=$((tries + 1))
        sleep 0.5
    done
    return 1
}

# What the site is, from what the guard says: primary, standby, or why nobody can tell but a person.
judge() {
    role=$(printf '%s' "$told" | sed -n 's/.*"promise":{"epoch":[0-9]*,"role":"\([a-z]*\)".*/\1/p')
    epoch=$(printf '%s' "$told" | sed -n 's/.*"promise":{"epoch":\([0-9]*\),.*/\1/p')
    leased=$(printf '%s' "$told" | sed -n 's/.*"leased":\([a-z]*\).*/\1/p')
    case $role in
        primary)
            if [ "$leased" = true ]; then
                site=primary
            else
                why="the guard was promoted in epoch $epoch and has no lease: another site may be the primary now"
            fi
            ;;
        fenced)
            why="the guard promised in epoch $epoch that this site writes no more, and its data may have forked. Let it
rejoin first: README.md of the project, 'Rejoining the old primary by hand'. Then --site-is-standby starts it read-only"
            [ "$word" != primary ] || fail "--site-is-primary cannot be: $why"
            ;;
        standby)
            if [ "$epoch" -gt 0 ] || [ "$(noted role)" = standby ]; then
                site=standby
            else
                why="no controller ever told this guard anything, and the data was no standby's that is known of"
            fi
            ;;
        *) why="the guard's promise is lost, or its answer is not understood: $told" ;;
    esac
}

# The database ends in its own order: a guard with --stop-database does that, under the leases that it goes on renewing.
stop_guard() {
    mkdir -p "$orderly"
    cat >"$orderly/50-uninstall.conf" <<'DROPIN'
[Service]
ExecStart=
ExecStart=/usr/local/bin/failover guard run -f /etc/failover/guard.yaml --stop-database
TimeoutStopSec=infinity
DROPIN
    systemctl daemon-reload
    say 'starting the guard again with --stop-database, and stopping it'
    systemctl restart failover-guard.service
    stopped=no
    if answered; then
        systemctl stop failover-guard.service
        stopped=yes
    fi
    # Left here it would stop the database at the next stop of the guard.
    rm -f "$orderly/50-uninstall.conf"
    leave "$orderly"
    systemctl daemon-reload
    [ $stopped = yes ] || fail 'the guard does not answer: see journalctl -u failover-guard; nothing was removed'
    # A server that ends in order takes this file away.
    [ ! -e "$root$data/postmaster.pid" ] ||
        fail "$data/postmaster.pid is still there: the database did not end in order. Nothing was removed"
}

drop() { # FILE
    [ -e "$1" ] || return 0
    grep -qF "$mark" "$1" || { say "left $1, which is not ours"; return 0; }
    rm -f "$1"
    say "removed $1"
}

# Folders that were made for our files go when nothing else is in them.
leave() { # FOLDER
    [ ! -d "$1" ] || rmdir "$1" 2>/dev/null || true
}

remove_gates() {
    command -v nft >/dev/null 2>&1 || return 0
    service=$(value service)
    [ -n "$service" ] || { say "left the gate: $document does not say the service; see 'nft list tables'"; return 0; }
    nft list tables 2>/dev/null | sed -n "s/^table inet \(failover-$service\.[A-Za-z0-9_.-]*\)\$/\1/p" |
        while read -r table; do
            nft delete table inet "$table"
            say "removed the nftables table inet $table"
        done
}

remove_guard() {
    data=${data:-$(noted data)}
    data=${data:-$(value dataDir)}
    if [ ! -e "$units/failover-guard.service" ]; then
        say 'the guard is not installed'
    else
        case $data in
            /*) ;;
            *) wrong "--data-dir is needed: neither $before nor $document says it" ;;
        esac
        [ -e "$document" ] || fail "$document is not there: without it the guard cannot be asked. Put it back"
        site='' why='' told=''
        if systemctl is-active --quiet failover-guard.service; then
            answered || true
        fi
        if [ -z "$told" ]; then
            say 'the guard does not run: it is started, to be asked and to stop the database'
            systemctl start failover-guard.service
            answered || fail 'the guard does not answer: see journalctl -u failover-guard; nothing was changed'
        fi
        # A guard that has just started has no lease yet.
        judge
        waits=0
        while [ "$role" = primary ] && [ "$leased" != true ] && [ -z "$word" ] && [ $waits -lt 20 ]; do
            sleep 0.5
            answered || break
            judge
            waits=$((waits + 1))
        done
        if [ "$role" = primary ] && [ "$leased" = true ] && [ "$word" = standby ]; then
            fail 'this site is the primary and has a lease: --site-is-standby cannot be'
        fi
        if [ "$role" = standby ] && [ "$epoch" -gt 0 ] && [ "$word" = primary ]; then
            fail "this site follows since epoch $epoch: --site-is-primary cannot be; fail over to it first"
        fi
        site=${word:-$site}
        [ -n "$site" ] || fail "$why. Nothing was changed: say --site-is-primary or --site-is-standby if you know"
        say "this site is a $site"
        stop_guard
        if [ "$site" = primary ] && [ -e "$root$data/standby.signal" ]; then
            rm -f "$root$data/standby.signal"
            sync
            say "removed $data/standby.signal: the database starts as a primary"
        elif [ "$site" = standby ] && [ ! -e "$root$data/standby.signal" ]; then
            fail "$data/standby.signal is not there, and this site is a standby. Nothing was removed: put it there"
        fi
        systemctl disable failover-guard.service
        remove_gates
    fi
    drop "$units/failover-guard.service"
    for conf in "$units"/*.service.d/failover-guard.conf; do
        drop "$conf"
        leave "$(dirname "$conf")"
    done
    if [ -n "$(value service)" ]; then
        rm -rf "$root/run/failover/$(value service)"
    fi
    leave "$root/run/failover"
    if [ "$purge" = yes ]; then
        rm -rf "$state/guard" "$before"
        leave "$state"
        say "removed $state/guard: a guard on this host has to be enrolled again"
    fi
}

remove_plain() {
    if [ -e "$units/failover-$part.service" ]; then
        systemctl disable --now "failover-$part.service"
        drop "$units/failover-$part.service"
    else
        say "the $part is not installed"
    fi
    if [ "$purge" = yes ] && [ "$part" = controller ]; then
        rm -rf "$root/var/lib/private/failover-controller" "$root/var/lib/failover-controller"
        say 'removed journal and lists'
    fi
}

remove_program() {
    [ -e "$program.installed" ] || return 0
    for other in guard controller vantage; do
        [ ! -e "$units/failover-$other.service" ] || return 0
    done
    rm -f "$program" "$program.installed"
    say "removed $program"
}

[ $# -gt 0 ] || wrong 'which part? guard, controller or vantage'
part=$1
shift
purge=no word='' data=''
while [ $# -gt 0 ]; do
    case $1 in
        --purge) purge=yes ;;
        --site-is-primary | --site-is-standby)
            [ -z "$word" ] || wrong 'a site is one of the two'
            word=${1#--site-is-}
            ;;
        --data-dir)
            [ $# -gt 1 ] || wrong '--data-dir wants a folder'
            data=$2
            shift
            ;;
        *) wrong "$1 is not known" ;;
    esac
    shift
done
case $part in
    guard) remove_guard ;;
    controller | vantage)
        [ -z "$word$data" ] || wrong 'only the guard has a database'
        remove_plain
        ;;
    *) wrong "there is no part $part" ;;
esac
remove_program
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
say "done"
