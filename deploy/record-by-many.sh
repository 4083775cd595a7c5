#!/usr/bin/env bash
# Checks that workers in containers record what one worker records, also if some are killed and one is doubled.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'USAGE'
Usage: deploy/record-by-many.sh [--s3] [--keep]

Records 100,000 soft targets, two views of 50,000 images of Fashion-MNIST, twice:

  - with one worker;
  - with 8 workers in containers. Three of them are killed (SIGKILL) at random while they work and are started again, and
    one is doubled.

Then compares all files of the two recordings, and those with a recording of other views, which must differ. Prints the
seconds and samples/s of both, with the start of the containers, and the shards that were there when a worker was killed.
All workers ask one teacher of RETORT_TEACHER_CPUS cores, which limits both rates.

  --s3    the 8 workers record into a bucket: SeaweedFS in a container (scripts/setup --tests installs it; needs curl). The
          other recordings are on a volume, so the script compares objects with files.
  --keep  leaves the compose project, which is one of its own and is removed at the end

Needs the images (deploy/build.sh) and a Docker engine. SEED chooses the workers and when they are killed; the script
prints it.
USAGE
}

s3=no keep=no
for argument in "$@"; do
    case "$argument" in
    --s3) s3=yes ;;
    --keep) keep=yes ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 64 ;;
    esac
done

# The workers must still have work when the last one has started: a whole core records all samples in some seconds.
export COMPOSE_PROJECT_NAME=retort-record RETORT_TEACHER_CPUS="${RETORT_TEACHER_CPUS:-0.2}"
. deploy/project.sh
. deploy/bucket.sh
docker info >/dev/null 2>&1 || fail "no Docker engine answers"

WORKERS=8 DOUBLED=5 SHARDS=100 SAMPLES=100000
SEED="${SEED:-$$}"
RANDOM="$SEED"
# Where the workers record, and what they need for it.
many=/soft-targets/many settings=() variables=()
if [ "$s3" = yes ]; then
    many=s3://recordings/many settings=(--set soft_targets.cache=/tmp/copies)
    mapfile -t variables < <(bucket_environment | sed 's/^/--env=/')
fi

finish() {
    local status=$?
    if [ "$status" -ne 0 ]; then
        compose logs --tail 40 || true
        [ "$s3" = no ] || docker logs --tail 40 "$COMPOSE_PROJECT_NAME-bucket" || true
    fi
    [ "$keep" = yes ] || { remove_labelled && down; } || true
    exit "$status"
}
trap finish EXIT

# start NAME WHERE [OPTION...]: starts a container that records into a folder of the volume, or into the bucket
start() {
    local name="$COMPOSE_PROJECT_NAME-$1" where="$2"
    shift 2
    docker run --detach --name "$name" --label "$COMPOSE_PROJECT_NAME" --network "${COMPOSE_PROJECT_NAME}_default" \
        --user 65532:65532 --read-only --cap-drop ALL --tmpfs /tmp:size=64m,mode=1777 --memory 1g \
        ${variables[@]+"${variables[@]}"} \
        --volume "${COMPOSE_PROJECT_NAME}_data:/data:ro" --volume "${COMPOSE_PROJECT_NAME}_soft-targets:/soft-targets" \
        --volume "$PWD/configs:/etc/retort:ro" "retort-trainer:$RETORT_VERSION" \
        record "/etc/retort/$RETORT_RECIPE/student.toml" \
        --set data.path=/data/fashion-mnist --set data.train_samples=50000 --set 'teacher.endpoints=["teacher:50051"]' \
        --set "soft_targets.folder=$where" --set soft_targets.views=2 \
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

# recorded: prints the names of what the workers have recorded
recorded() {
    if [ "$s3" = yes ]; then
        bucket_names many/
    else
        in_volume find many -type f 2>/dev/null || true
    fi
}

# share WORKER: counts the shards of the worker's share among the names on standard input
share() {
    sed -n 's|.*/view-0*\([0-9][0-9]*\)/shard-0*\([0-9][0-9]*\)\.safetensors$|\1 \2|p' |
        awk -v worker="$1" -v workers="$WORKERS" '($1 * 50 + $2) % workers == worker {count++} END {print count + 0}'
}

# has_shards WORKER COUNT: whether so many shards of the worker's share are there
has_shards() {
    [ "$(recorded | share "$1")" -ge "$2" ]
}

# rate WHO BEGIN: prints the time since BEGIN, in which all samples were recorded, and the samples/s
rate() {
    local seconds=$((SECONDS - $2))
    [ "$seconds" -gt 0 ] || fail "$1 recorded $SAMPLES samples in less than a second"
    say "$1: $SAMPLES samples in $seconds s, $((SAMPLES / seconds)) samples/s"
}

# digests WHERE: prints the SHA-256 of every file of recordings, except the locks
digests() {
    if [[ $1 = s3://* ]]; then
        bucket_digests "${1#s3://*/}/"
    else
        # shellcheck disable=SC2016
        in_volume sh -c 'cd "$1" && find . -type f ! -name .lock -print0 | xargs -0 sha256sum' sh "$1"
    fi | LC_ALL=C sort -k 2
}

# first_shard DIGESTS: prints the digest of the first shard
first_shard() {
    awk '/view-0000\/shard-00000/ {print $1}' <<<"$1"
}

step "teacher"
remove_labelled
down || true
compose up --detach --no-build prepare >/dev/null 2>&1
code="$(docker wait "$(compose ps --all --quiet prepare)")"
[ "$code" = 0 ] || fail "the teacher was not trained"
compose up --detach --no-build teacher >/dev/null 2>&1
wait_for 300 "teacher is healthy" healthy teacher

if [ "$s3" = yes ]; then
    step "bucket"
    start_bucket recordings "${COMPOSE_PROJECT_NAME}_default" "retort-trainer:$RETORT_VERSION"
fi

step "one worker"
begin=$SECONDS
start one /soft-targets/one
ended one
rate "one worker" "$begin"

step "$WORKERS workers record into $many, SEED=$SEED"
begin=$SECONDS
start_worker() {
    start "$1" "$many" --index "$2" --of "$WORKERS" ${settings[@]+"${settings[@]}"}
}
for worker in $(seq 0 $((WORKERS - 1))); do
    start_worker "worker-$worker" "$worker"
    [ "$worker" != "$DOUBLED" ] || start_worker twin "$worker"
done
there="$(recorded | share "$DOUBLED")"
[ "$there" -lt $((SHARDS / WORKERS)) ] || fail "worker $DOUBLED ended before its twin began: lower RETORT_TEACHER_CPUS"
say "worker $DOUBLED has a twin: $there shards of their share are there"
killed=()
while [ "${#killed[@]}" -lt 3 ]; do
    worker=$((RANDOM % WORKERS))
    case " ${killed[*]} $DOUBLED " in *" $worker "*) continue ;; esac
    killed+=("$worker")
    # Each has 12 or 13 shards.
    wait_for 600 "worker $worker has some shards" has_shards "$worker" $((1 + RANDOM % 4))
    docker kill --signal KILL "$COMPOSE_PROJECT_NAME-worker-$worker" >/dev/null 2>&1 ||
        fail "worker $worker has ended already: lower RETORT_TEACHER_CPUS"
    there="$(recorded)"
    left="$(share "$worker" <<<"$there")"
    [ "$left" -lt $((SHARDS / WORKERS)) ] || fail "worker $worker was killed too late: lower RETORT_TEACHER_CPUS"
    all="$(grep -c '/shard-[0-9]*\.safetensors$' <<<"$there" || true)"
    say "killed worker $worker: $left shards of its share were there, $all of all $SHARDS"
    docker start "$COMPOSE_PROJECT_NAME-worker-$worker" >/dev/null
done
for worker in $(seq 0 $((WORKERS - 1))); do
    ended "worker-$worker"
done
ended twin
rate "$WORKERS workers, ${#killed[@]} of them killed, and a twin" "$begin"

step "comparison"
start other /soft-targets/other --set soft_targets.view_seed=2 --set soft_targets.views=1
ended other
one="$(digests /soft-targets/one)"
by_many="$(digests "$many")"
other="$(digests /soft-targets/other)"
[ "$(grep -c safetensors <<<"$one")" = "$SHARDS" ] || fail "one worker did not record $SHARDS shards"
[ "$one" = "$by_many" ] || { diff <(echo "$one") <(echo "$by_many") >&2 || true; fail "the recordings differ"; }
[ "$(first_shard "$one")" != "$(first_shard "$other")" ] || fail "a recording of other views has the same shard"
say "both recordings have the same $(wc -l <<<"$one") files: sha256 $(sha256sum <<<"$one" | cut -d' ' -f1)"
printf '\nrecord by many: passed in %d s\n' "$SECONDS"
