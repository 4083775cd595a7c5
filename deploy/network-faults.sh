#!/usr/bin/env bash
# Checks that a run gives the same bytes when one of its teachers is cut off and then has a slow and lossy link.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'USAGE'
Usage: deploy/network-faults.sh [--keep]

Runs one configuration twice, with two teachers. During the first run, one teacher

  - is cut off for 20 s: its packets are dropped in both directions, without any reset;
  - then answers over a link with a delay of 100 ms and a packet loss of 1 %.

If the run ends before that, the script repeats it with twice as many epochs.

Needs root, the images (deploy/build.sh), iptables, nsenter and curl. Delay and loss come from tc netem if the kernel has
it, otherwise from deploy/delay-packets and iptables.
USAGE
}

keep=no
case "${1:-}" in
"") ;;
--keep) keep=yes ;;
--help | -h) usage && exit 0 ;;
*) usage >&2 && exit 64 ;;
esac

# Slow teachers, so that training depends on their links.
export COMPOSE_PROJECT_NAME=retort-faults RETORT_TEACHER_CPUS="${RETORT_TEACHER_CPUS:-0.2}"
. deploy/project.sh
[ "$(id -u)" = 0 ] || fail "changing the network of a container needs root"
docker info >/dev/null 2>&1 || fail "no Docker engine answers"

CUT_SECONDS=20 DELAY_MILLISECONDS=100 LOSS_PERCENT=1
delayer=""

finish() {
    local status=$?
    [ -z "$delayer" ] || kill "$delayer" 2>/dev/null || true
    [ "$status" -eq 0 ] || compose logs --tail 40 || true
    [ "$keep" = yes ] || down || true
    exit "$status"
}
trap finish EXIT

# within COMMAND...: runs the command in the network namespace of the disturbed teacher
within() {
    nsenter --target "$pid" --net "$@"
}

cut_off() {
    within iptables -I INPUT -i eth0 -j DROP
    within iptables -I OUTPUT -o eth0 -j DROP
}

reconnect() {
    within iptables -D INPUT -i eth0 -j DROP
    within iptables -D OUTPUT -o eth0 -j DROP
}

slow_link() {
    if within tc qdisc add dev eth0 root netem delay "${DELAY_MILLISECONDS}ms" loss "$LOSS_PERCENT%" 2>/dev/null; then
        say "link: ${DELAY_MILLISECONDS} ms, $LOSS_PERCENT % lost (netem)"
        return
    fi
    within iptables -A OUTPUT -o eth0 -m statistic --mode random --probability "0.0$LOSS_PERCENT" -j DROP
    within iptables -A OUTPUT -o eth0 -j NFQUEUE --queue-num 1 --queue-bypass
    nsenter --target "$pid" --net deploy/delay-packets --queue 1 --milliseconds "$DELAY_MILLISECONDS" &
    delayer=$!
    say "link: ${DELAY_MILLISECONDS} ms, $LOSS_PERCENT % lost (netfilter queue; this kernel has no netem)"
}

# fresh_teachers: starts two teachers with undisturbed links
fresh_teachers() {
    [ -z "$delayer" ] || kill "$delayer" 2>/dev/null || true
    delayer=""
    compose up --detach --no-build --force-recreate --scale teacher=2 teacher >/dev/null 2>&1
    wait_for 300 "teacher is healthy" healthy teacher
}

# starts RUN: waits until the submitted run distils with both teachers
starts() {
    begin=$SECONDS waited_before="$(metric retort_trainer_wait_seconds_sum)"
    wait_for 600 "the run distils" begun "$1"
    still "2 teachers are connected" metric_is retort_trainer_teachers 2
}

# disturb: cuts one teacher off, then slows its link, while the run distils; status 2 if the run ended too early
disturb() {
    starts "$outlasting" || return
    pid="$(docker inspect -f '{{.State.Pid}}' "$(containers teacher | sed -n 1p)")"
    cut_off
    say "cut off one teacher"
    for _ in $(seq "$CUT_SECONDS"); do
        sleep 1
    done
    say "after $CUT_SECONDS s: $(metric retort_trainer_teachers) teachers connected, step $(metric retort_trainer_step)"
    reconnect
    slow_link
    still "2 teachers are connected again" metric_is retort_trainer_teachers 2
}

try_disturb() {
    local status=0
    disturb || status=$?
    if [ "$status" -ne 0 ]; then
        retort runs watch "$outlasting" >/dev/null 2>&1 || true
        fresh_teachers
    fi
    return "$status"
}

# end RUN: waits until the run has ended; sets `seconds` and `waited`
end() {
    retort runs watch "$1" >/dev/null 2>&1 || fail "the run failed: $(retort runs show "$1" 2>/dev/null)"
    seconds=$((SECONDS - begin))
    waited="$(awk -v all="$(metric retort_trainer_wait_seconds_sum)" -v before="${waited_before:-0}" \
        'BEGIN {printf "%.1f", all - before}')"
    say "took $seconds s; training waited $waited s for soft targets; batches resent so far: $(
        metric retort_trainer_batches_requeued_total)"
}

step "two teachers"
down || true
compose up --detach --no-build --scale teacher=2 2>&1 | tail -n 3
for service in trainer teacher; do
    wait_for 300 "$service is healthy" healthy "$service"
done

step "disturbed"
outlasts disturbed try_disturb
disturbed_run="$outlasting"
end "$disturbed_run"
disturbed="$seconds s ($waited s waiting for soft targets)"

step "undisturbed"
fresh_teachers
submit undisturbed "${size[@]}" 2>/dev/null
starts undisturbed || true
end undisturbed

[ "$(weights undisturbed)" = "$(weights "$disturbed_run")" ] || fail "the weights differ"
say "both runs have the same weights: sha256 $(weights "$disturbed_run")"
compose logs --no-color trainer | grep "teacher teacher:50051" | tail -n 8 | sed 's/^/   /'
printf '\nnetwork faults: the same bytes; undisturbed %s, disturbed %s\n' \
    "$seconds s ($waited s waiting for soft targets)" "$disturbed"
