#!/usr/bin/env bash
# Checks that workers in containers record what one worker records, also if some are killed and one is doubled.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'USAGE'
Usage: deploy/record-by-many.sh [--keep]

Records 100,000 soft targets, two views of 50,000 images of Fashion-MNIST, twice:

  - with one worker;
  - with 8 workers in containers, of which 3 are killed (SIGKILL) at random while they work and are started again, and one
    is doubled.

Then compares all files of the two recordings, and those with a recording of other views, which must differ.

Needs the images (deploy/build.sh) and a Docker engine. The compose project is one of its own and is removed at the end;
--keep leaves it. SEED chooses the workers and when they are killed; the script prints it.
USAGE
}

keep=no
case "${1:-}" in
"") ;;
--keep) keep=yes ;;
--help | -h) usage && exit 0 ;;
*) usage >&2 && exit 64 ;;
esac

export COMPOSE_PROJECT_NAME=retort-record
. deploy/project.sh
docker info >/dev/null 2>&1 || fail "no Docker engine answers"

WORKERS=8 DOUBLED=5 SHARDS=100
SEED="${SEED:-$$}"
RANDOM="$SEED"

finish() {
    local status=$?
    [ "$status" -eq 0 ] || compose logs --tail 40 || true
    [ "$keep" = yes ] || { remove_workers && down; } || true
    exit "$status"
}
trap finish EXIT

remove_workers() {
    local ids
    ids="$(docker ps --all --quiet --filter "label=$COMPOSE_PROJECT_NAME")"
    # shellcheck disable=SC2086
    [ -z "$ids" ] || docker rm --force $ids >/dev/null
}

# start NAME FOLDER [OPTION...]: starts a container that records into the folder of the volume
start() {
    local name="$COMPOSE_PROJECT_NAME-$1" folder="$2"
    shift 2
    docker run --detach --name "$name" --label "$COMPOSE_PROJECT_NAME" --network "${COMPOSE_PROJECT_NAME}_default" \
        --user 65532:65532 --read-only --cap-drop ALL --tmpfs /tmp:size=64m,mode=1777 --memory 1g \
        --volume "${COMPOSE_PROJECT_NAME}_data:/data:ro" --volume "${COMPOSE_PROJECT_NAME}_soft-targets:/soft-targets" \
        --volume "$PWD/configs:/etc/retort:ro" "retort-trainer:$RETORT_VERSION" \
        record "/etc/retort/$RETORT_RECIPE/student.toml" \
        --set data.path=/data/fashion-mnist --set data.train_samples=50000 --set 'teacher.endpoints=["teacher:50051"]' \
        --set "soft_targets.folder=/soft-targets/$folder" --set soft_targets.views=2 \
        --set soft_targets.samples_per_shard=1000 "$@" >/dev/null
}

# ended NAME: waits until the container ends, and fails if it failed
ended() {
    local name="$COMPOSE_PROJECT_NAME-$1" code
    code="$(docker wait "$name")"
    [ "$code" = 0 ] || { docker logs --tail 20 "$name" >&2 && fail "$1 ended with exit code $code"; }
    say "$1: $(docker logs "$name" 2>&1 | grep '^recorded ')"
}

# in_volume COMMAND...: runs a command in the folder of recordings
in_volume() {
    docker run --rm --user 65532:65532 --volume "${COMPOSE_PROJECT_NAME}_soft-targets:/soft-targets" \
        --workdir /soft-targets --entrypoint "$1" "retort-prepare:$RETORT_VERSION" "${@:2}"
}

# share WORKER: counts the shards that are there of the worker's share
share() {
    { in_volume find many -name 'shard-*' 2>/dev/null || true; } |
        sed 's|.*/view-0*\([0-9][0-9]*\)/shard-0*\([0-9][0-9]*\)\..*|\1 \2|' |
        awk -v worker="$1" -v workers="$WORKERS" '($1 * 50 + $2) % workers == worker {count++} END {print count + 0}'
}

# has_shards WORKER COUNT: whether so many shards of the worker's share are there
has_shards() {
    [ "$(share "$1")" -ge "$2" ]
}

# digests FOLDER: prints the SHA-256 of every file in a folder of recordings, except the locks
digests() {
    # shellcheck disable=SC2016
    in_volume sh -c 'cd "$1" && find . -type f ! -name .lock -print0 | sort -z | xargs -0 sha256sum' sh "$1"
}

# first_shard DIGESTS: prints the digest of the first shard
first_shard() {
    awk '/view-0000\/shard-00000/ {print $1}' <<<"$1"
}

step "teacher"
remove_workers
down || true
compose up --detach --no-build prepare >/dev/null 2>&1
code="$(docker wait "$(compose ps --all --quiet prepare)")"
[ "$code" = 0 ] || fail "the teacher was not trained"
compose up --detach --no-build teacher >/dev/null 2>&1
wait_for 300 "teacher is healthy" healthy teacher

step "one worker"
start one one
ended one

step "$WORKERS workers, SEED=$SEED"
for worker in $(seq 0 $((WORKERS - 1))); do
    start "worker-$worker" many --index "$worker" --of "$WORKERS"
done
start twin many --index "$DOUBLED" --of "$WORKERS"
killed=()
while [ "${#killed[@]}" -lt 3 ]; do
    worker=$((RANDOM % WORKERS))
    case " ${killed[*]} $DOUBLED " in *" $worker "*) continue ;; esac
    killed+=("$worker")
    # Each has 12 or 13 shards.
    wait_for 600 "worker $worker has some shards" has_shards "$worker" $((1 + RANDOM % 4))
    docker kill --signal KILL "$COMPOSE_PROJECT_NAME-worker-$worker" >/dev/null 2>&1 ||
        fail "worker $worker has ended already: lower RETORT_TEACHER_CPUS"
    left="$(share "$worker")"
    [ "$left" -lt $((SHARDS / WORKERS)) ] || fail "worker $worker was killed too late: lower RETORT_TEACHER_CPUS"
    say "killed worker $worker after $left of its shards"
    docker start "$COMPOSE_PROJECT_NAME-worker-$worker" >/dev/null
done
for worker in $(seq 0 $((WORKERS - 1))); do
    ended "worker-$worker"
done
ended twin

step "comparison"
start other other --set soft_targets.view_seed=2 --set soft_targets.views=1
ended other
one="$(digests one)"
many="$(digests many)"
other="$(digests other)"
[ "$(grep -c safetensors <<<"$one")" = "$SHARDS" ] || fail "one worker did not record $SHARDS shards"
[ "$one" = "$many" ] || { diff <(echo "$one") <(echo "$many") >&2 || true; fail "the recordings differ"; }
[ "$(first_shard "$one")" != "$(first_shard "$other")" ] || fail "a recording of other views has the same shard"
say "both recordings have the same $(wc -l <<<"$one") files: sha256 $(sha256sum <<<"$one" | cut -d' ' -f1)"
printf '\nrecord by many: passed in %d s\n' "$SECONDS"
