#!/usr/bin/env bash
# Checks that each broken deployment names its mistake in the container's log.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'USAGE'
Usage: deploy/bad-deployments.sh

Makes one mistake after another and looks for the message that names it. Needs the images (deploy/build.sh).
USAGE
}

case "${1:-}" in
"") ;;
--help | -h) usage && exit 0 ;;
*) usage >&2 && exit 64 ;;
esac

export COMPOSE_PROJECT_NAME=retort-mistakes
. deploy/project.sh
docker info >/dev/null 2>&1 || fail "no Docker engine answers"
folder="$(mktemp -d)"
chmod 755 "$folder"

finish() {
    local status=$?
    rm -rf "$folder"
    down || true
    exit "$status"
}
trap finish EXIT

# expect TEXT COMMAND...: requires a line with the text in the command's output
expect() {
    local text="$1" output line
    shift
    output="$("$@" 2>&1)" || true
    line="$(grep -F -m 1 -- "$text" <<<"$output")" || fail "no line contains \"$text\":
$output"
    say "$(cut -c 1-230 <<<"$line")"
}

# start IMAGE [options of docker run] [-- ARGUMENT...]: runs a container until it ends, for at most a minute
start() {
    local image="retort-$1:$RETORT_VERSION" options=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    [ $# -eq 0 ] || shift
    timeout 60 docker run --rm --cap-drop ALL --read-only ${options[@]+"${options[@]}"} "$image" "$@"
}

# ended RUN [--set ...]: submits a run, waits until it has ended, prints the trainer's log
ended() {
    submit "$@" >/dev/null 2>&1
    retort runs watch "$1" >/dev/null 2>&1 || true
    compose logs --no-color trainer
}

prepared() {
    compose logs --no-color prepare | grep -q "prepare: done"
}

step "a volume that cannot be written to"
expect "cannot write to /runs (runs_folder) as user 65532" start trainer -v "$folder:/runs"
expect "cannot write to /models (store) as user 65532" start inference -v "$folder:/models"
expect "cannot write to /data as user 65532" start prepare -v "$folder:/data"

step "no teacher trained"
expect "cannot read /runs/teacher/artifact/model.toml" start teacher -- serve --model /runs/teacher/artifact

step "a memory limit too small for libtorch"
expect "needs at least 192 MiB of memory, and this container may use 48 MiB" start teacher --memory 48m
expect "needs at least 512 MiB of memory, and this container may use 256 MiB" start trainer --memory 256m

step "a configuration with a typo"
expect "unknown field \`listn\`" start teacher -e RETORT_TEACHER__GRPC__LISTN=0.0.0.0:50051
expect "unknown field \`run_folder\`" start trainer -e RETORT_TRAINER__RUN_FOLDER=/runs
expect "invalid type: string \"many\"" start inference -e RETORT_INFERENCE__BATCHING__MAX_BATCH_SIZE=many

step "a port that is in use, inside and outside of the container"
expect "metrics.listen = 127.0.0.1:7000: is taken by grpc.listen" start inference \
    -e RETORT_INFERENCE__GRPC__LISTEN=127.0.0.1:7000 -e RETORT_INFERENCE__METRICS__LISTEN=127.0.0.1:7000
taken="$(docker run --detach --rm -p "127.0.0.1:$RETORT_ADMIN_PORT:8003" "retort-inference:$RETORT_VERSION")"
wait_for 60 "a service listens" docker exec "$taken" /usr/local/bin/inference-service healthcheck 127.0.0.1:8001
expect "(grpc.listen): Address already in use" start inference --network "container:$taken" \
    --tmpfs /models:uid=65532,gid=65532
expect "port is already allocated" start inference -p "127.0.0.1:$RETORT_ADMIN_PORT:8003"
docker rm --force "$taken" >/dev/null

step "a port open to the network by mistake"
expect "set grpc.access = \"anyone_who_reaches_the_port\"" start trainer -e RETORT_TRAINER__GRPC__LISTEN=0.0.0.0:50052

step "runs that cannot succeed: no teacher, no inference service, a typo"
down || true
compose up --detach --no-build trainer prepare >/dev/null 2>&1
wait_for 300 "the teacher is trained" prepared
expect "no teacher for 3 s: teacher:50051" ended alone --set teacher.wait_timeout_seconds=3
compose up --detach --no-build teacher >/dev/null 2>&1
wait_for 300 "teacher is healthy" healthy teacher
expect "the inference service at inference:8003 cannot be reached" ended unpublished \
    --set publish.endpoint=inference:8003 --set publish.model=fashion-mnist
expect "unknown field \`temprature\`" submit typo --set teacher.temprature=2.0

printf '\nbad deployments: each log names its mistake (%d s)\n' "$SECONDS"
