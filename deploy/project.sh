# Functions for the tests in this folder, which source this file. The compose project under test uses its own name and
# ports, so it can run beside other projects.
# shellcheck shell=bash

export COMPOSE_PROJECT_NAME="${COMPOSE_PROJECT_NAME:-retort-test}"
export RETORT_RECIPE=demo-quick
export RETORT_TRAINER_PORT=15052 RETORT_HTTP_PORT=18000 RETORT_INFERENCE_PORT=18001
export RETORT_INFERENCE_METRICS_PORT=18002 RETORT_ADMIN_PORT=18003 PROMETHEUS_PORT=19090
RETORT_VERSION="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
export RETORT_VERSION
# Slow teachers make runs last long enough to be disturbed.
export RETORT_TEACHER_CPUS="${RETORT_TEACHER_CPUS:-0.5}"

# COMPOSE names the program; the default is Compose v2 if it is installed, otherwise docker-compose.
if [ -z "${COMPOSE:-}" ]; then
    COMPOSE="docker compose"
    docker compose version >/dev/null 2>&1 || COMPOSE=docker-compose
fi

compose() {
    $COMPOSE "$@"
}

step() {
    printf '\n== %s (%d s)\n' "$1" "$SECONDS"
}

say() {
    printf '   %s\n' "$1"
}

fail() {
    printf '\nFAILED: %s\n' "$1" >&2
    exit 1
}

# wait_for SECONDS WHAT COMMAND...: waits until the command succeeds and prints how long that took
wait_for() {
    local limit="$1" what="$2" begin=$SECONDS
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $((SECONDS - begin)) -lt "$limit" ] || fail "$what: not within $limit s"
        sleep 0.3
    done
    say "$what: after $((SECONDS - begin)) s"
}

# Builds the base images from Debian's packages if one of them is missing and cannot be pulled.
base_images() {
    local image
    for image in debian:bookworm-slim rust:1.95.0-bookworm gcr.io/distroless/cc-debian12:nonroot prom/prometheus:v2.42.0; do
        if ! docker image inspect "$image" >/dev/null 2>&1 && ! docker pull --quiet "$image" 2>/dev/null; then
            deploy/base-images.sh
            return
        fi
    done
}

# containers SERVICE: prints the ids of its running containers
containers() {
    compose ps -q "$1" | while read -r id; do
        [ "$(docker inspect -f '{{.State.Running}}' "$id")" = false ] || echo "$id"
    done
}

# address CONTAINER: prints its address in one of its networks; this machine can reach them all
address() {
    docker inspect -f '{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{end}}' "$1" | sed -n 1p
}

# metric NAME: prints one of the trainer's metrics
metric() {
    curl -sf "http://$(address "$(containers trainer)"):50062/metrics" | awk -v name="$1" '$1 == name {print $2}'
}

# metric_is NAME VALUE: whether the metric has the value
metric_is() {
    [ "$(metric "$1")" = "$2" ]
}

# more_than VALUE NAME: whether the metric exceeds the value
more_than() {
    [ "$(metric "$2")" -gt "$1" ]
}

# healthy SERVICE: whether it has running containers, all of them healthy
healthy() {
    local id ids
    ids="$(containers "$1")"
    [ -n "$ids" ] || return 1
    for id in $ids; do
        [ "$(docker inspect -f '{{.State.Health.Status}}' "$id")" = healthy ] || return 1
    done
}

retort() {
    compose run --rm -T retort "$@"
}

# submit NAME [--set ...]: submits a run of the quick student and does not wait for it
submit() {
    local name="$1"
    shift
    retort run "/etc/retort/$RETORT_RECIPE/student.toml" --name "$name" --detach \
        --set data.path=/data/fashion-mnist --set 'teacher.endpoints=["teacher:50051"]' "$@"
}

# distilling: whether the trainer has done some steps of a distill phase
distilling() {
    metric_is 'retort_trainer_phase{kind="distill"}' 1 && [ "$(metric retort_trainer_step)" -gt 5 ]
}

# phases EPOCHS: prints the phases of the quick student, with this number of epochs in the first one
phases() {
    local optimizer='{ kind = "sgd", momentum = 0.9, nesterov = true, weight_decay = 1e-4 }'
    local distill='loss = { kind = "soft_cross_entropy", temperature = 2.0 }'
    local fine_tune='name = "fine_tune", loss = { kind = "cross_entropy" }'
    local template='{ epochs = %s, batch_size = 128, %s, optimizer = %s, schedule = { kind = "one_cycle", max_learning_rate = %s } }'
    # shellcheck disable=SC2059
    printf "[$template, $template]" "$1" "$distill" "$optimizer" 0.2 1 "$fine_tune" "$optimizer" 0.01
}

# over RUN: whether it has ended
over() {
    retort runs show "$1" 2>/dev/null | grep -qE '^state: +(succeeded|failed|cancelled)'
}

# begun RUN: whether it distils or has ended
begun() {
    distilling || over "$1"
}

# outlasts RUN COMMAND...: submits a run that lasts until the command has ended. The command fails with status 2 if the
# run ended too early; then the function tries a run of twice as many epochs, since the speed of the machine decides how
# many are enough. Sets `outlasting`, the run's name, and `size`, the settings of its length. The command must not `fail`
# because the run ended.
outlasts() {
    local name="$1" epochs=2 status
    shift
    while :; do
        outlasting="$name-$epochs" size=(--set data.train_samples=0 --set "phases=$(phases "$epochs")")
        submit "$outlasting" "${size[@]}" 2>/dev/null
        status=0
        "$@" || status=$?
        [ "$status" -ne 0 ] || return 0
        [ "$status" -eq 2 ] || fail "$outlasting could not be carried out"
        say "$outlasting ended too early, after $epochs epochs: repeating it with twice as many"
        epochs=$((2 * epochs))
        [ "$epochs" -le 64 ] || fail "no run lasts long enough: set RETORT_TEACHER_CPUS below $RETORT_TEACHER_CPUS"
    done
}

# still WHAT COMMAND...: waits until the command succeeds while the run distils; status 2 if the run ends first
still() {
    local what="$1" begin=$SECONDS
    shift
    until "$@" >/dev/null 2>&1; do
        distilling || return 2
        [ $((SECONDS - begin)) -lt 600 ] || fail "$what: not within 600 s, although the run continues"
        sleep 0.3
    done
    distilling || return 2
    say "$what: after $((SECONDS - begin)) s"
}

# artifact RUN FOLDER: copies the run's artifact from the volume
artifact() {
    docker cp "$(containers trainer):/runs/$1/artifact" "$2"
}

# weights RUN: prints the digest of the run's weights
weights() {
    docker cp "$(containers trainer):/runs/$1/artifact/weights.safetensors" - | tar -xO | sha256sum | cut -d' ' -f1
}

# labelled: prints the ids of the containers that the test started beside those of the compose project
labelled() {
    docker ps --all --quiet --filter "label=$COMPOSE_PROJECT_NAME"
}

remove_labelled() {
    local ids
    ids="$(labelled)"
    # shellcheck disable=SC2086
    [ -z "$ids" ] || docker rm --force $ids >/dev/null
}

down() {
    compose --profile observability --profile student --profile cli down --volumes --remove-orphans "$@" >/dev/null 2>&1
}
