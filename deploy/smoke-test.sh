#!/usr/bin/env bash
# Takes the compose project from a first start to a served student; scales and kills teachers during a run.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'USAGE'
Usage: deploy/smoke-test.sh [--no-build] [--keep]

Needs root, a Docker engine, Compose (v2 or 1.29), curl, and Python with tritonclient (scripts/setup --tests installs it).
The test uses a compose project and ports of its own, and removes the project at the end.

  --no-build  uses the existing images
  --keep      leaves the project running

COMPOSE names the program: COMPOSE=docker-compose deploy/smoke-test.sh
USAGE
}

build=yes keep=no
for argument in "$@"; do
    case "$argument" in
    --help | -h) usage && exit 0 ;;
    --no-build) build=no ;;
    --keep) keep=yes ;;
    *) usage >&2 && exit 64 ;;
    esac
done

. deploy/project.sh
docker info >/dev/null 2>&1 || fail "no Docker engine answers"
python=.deps/python/bin/python
"$python" -c 'import tritonclient.grpc' 2>/dev/null || fail "tritonclient is missing: run scripts/setup --tests"
folder="$(mktemp -d)"

finish() {
    local status=$?
    if [ "$status" -ne 0 ]; then
        compose ps || true
        compose logs --tail 40 || true
    fi
    rm -rf "$folder"
    [ "$keep" = yes ] || down || true
    exit "$status"
}
trap finish EXIT

# predict ARTIFACT: predicts from the host with Triton's client, and compares with the model file in ONNX Runtime
predict() {
    "$python" examples/python/predict.py --url "127.0.0.1:$RETORT_INFERENCE_PORT" --model fashion-mnist \
        --artifact "$1" --compare
}

# trainer_says TEXT: whether the trainer's log contains the text
trainer_says() {
    compose logs --no-color trainer 2>/dev/null | grep -qF "$1"
}

# png FILE: writes an image of 28 by 28 pixels, a white square of 20 by 20 on black
png() {
    "$python" - "$1" <<'PROGRAM'
import struct, sys, zlib

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

row = bytes([0] * 5 + [255] * 20 + [0] * 4)  # the first byte is the row's filter
rows = bytes(29) * 4 + row * 20 + bytes(29) * 4
header = struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)
with open(sys.argv[1], "wb") as file:
    file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
PROGRAM
}

# disturb: scales the teachers up, kills one and scales them down while the run distils; status 2 if the run ended too
# early
disturb() {
    wait_for 600 "the run distils" begun "$outlasting" || return
    distilling || return 2
    compose up --detach --no-build --no-recreate --scale teacher=3 teacher >/dev/null 2>&1
    still "3 teachers are connected" metric_is retort_trainer_teachers 3 || return

    # A stopped teacher keeps its batches. Once the trainer sends one of them to another teacher too, the stopped teacher
    # certainly had work.
    victim="$(containers teacher | sed -n 1p)" hedged="$(metric retort_trainer_batches_hedged_total)"
    victim_address="$(address "$victim")" victim_process="$(docker inspect -f '{{.State.Pid}}' "$victim")"
    kill -STOP "$victim_process"
    still "a batch of the stopped teacher goes to another" more_than "$hedged" retort_trainer_batches_hedged_total || {
        kill -CONT "$victim_process"
        return 2
    }
    kill -9 "$victim_process"
    say "killed the teacher at $victim_address, pid $victim_process"
    # From the log: the teacher may be back before a metric shows its absence.
    still "the trainer has lost it" trainer_says "teacher teacher:50051 ($victim_address:50051) is unavailable" || return
    still "3 teachers are connected again" metric_is retort_trainer_teachers 3 || return

    compose up --detach --no-build --no-recreate --scale teacher=1 teacher >/dev/null 2>&1
    still "1 teacher is connected" metric_is retort_trainer_teachers 1
}

# try_disturb: disturbs the run; if that was too late, leaves one teacher and no run
try_disturb() {
    local status=0
    disturb || status=$?
    if [ "$status" -ne 0 ]; then
        compose up --detach --no-build --no-recreate --scale teacher=1 teacher >/dev/null 2>&1
        retort runs watch "$outlasting" >/dev/null 2>&1 || true
    fi
    return "$status"
}

if [ "$build" = yes ]; then
    step "base images"
    base_images
    step "images"
    deploy/build.sh >"$folder/build.log" 2>&1 || { tail -n 40 "$folder/build.log" >&2 && fail "the build failed"; }
fi
docker images --format '   {{.Repository}}:{{.Tag}} {{.Size}}' | grep "retort-.*:$RETORT_VERSION " || true

step "first start: data set, teacher, services ($($COMPOSE version --short 2>/dev/null || $COMPOSE version))"
down || true
compose up --detach --no-build 2>&1 | tail -n 5
compose --profile observability up --detach --no-build --no-recreate prometheus >/dev/null 2>&1
compose logs --no-color prepare | sed 's/^/   /'
for service in trainer teacher inference; do
    wait_for 300 "$service is healthy" healthy "$service"
done

step "a run, submitted by the one-shot service; its student, called from the host"
compose run --rm -T student 2>/dev/null | sed 's/^/   /'
artifact student "$folder/student"
predict "$folder/student" | sed 's/^/   /'
http="http://127.0.0.1:$RETORT_HTTP_PORT"
curl -sf -o /dev/null "$http/v2/health/ready" || fail "$http is not ready"
png "$folder/square.png"
curl -sf --data-binary "@$folder/square.png" "$http/v1/models/fashion-mnist:classify?top_k=1" | sed 's/^/   /; $a\' ||
    fail "an image could not be classified at $http"

step "a longer run, disturbed"
outlasts disturbed try_disturb
disturbed_run="$outlasting"
say "batches resent so far: $(metric retort_trainer_batches_requeued_total) by loss, $(metric retort_trainer_batches_hedged_total) by hedging"
retort runs watch "$disturbed_run" >/dev/null 2>&1 ||
    fail "the run failed: $(retort runs show "$disturbed_run" 2>/dev/null)"

step "the same run, undisturbed"
submit undisturbed "${size[@]}" 2>/dev/null
begin=$SECONDS
retort runs watch undisturbed >/dev/null 2>&1 || fail "the run failed: $(retort runs show undisturbed 2>/dev/null)"
say "took $((SECONDS - begin)) s"

compose logs --no-color trainer >"$folder/trainer.log"
for text in "is connected" "is shutting down" "is unavailable"; do
    grep -m 3 "teacher teacher:50051.*$text" "$folder/trainer.log" | sed 's/^/   /' ||
        fail "the trainer's log has no line \"teacher … $text\""
done
undisturbed="$(weights undisturbed)" disturbed="$(weights "$disturbed_run")"
[ "$undisturbed" = "$disturbed" ] || fail "the disturbed run's weights differ: $disturbed, not $undisturbed"
say "both runs have the same weights: sha256 $undisturbed"

step "Prometheus has data for every target, alert rule and panel"
for _ in $(seq 40); do
    predict "$folder/student" >/dev/null
done
wait_for 300 "every query has data" deploy/check-observability "http://127.0.0.1:$PROMETHEUS_PORT"
deploy/check-observability "http://127.0.0.1:$PROMETHEUS_PORT" | sed 's/^/   /'

step "down and up: models and runs stay"
compose --profile observability down >/dev/null 2>&1
compose up --detach --no-build >/dev/null 2>&1
for service in trainer teacher inference; do
    wait_for 300 "$service is healthy" healthy "$service"
done
compose logs --no-color prepare | sed 's/^/   /'
predict "$folder/student" | sed 's/^/   /'
[ "$(weights "$disturbed_run")" = "$disturbed" ] || fail "the run's weights are not those from before"
retort runs list 2>/dev/null | sed 's/^/   /'

printf '\nsmoke test: passed in %d s\n' "$SECONDS"
