#!/usr/bin/env bash
# A day of docs/deploy.md with two inference services whose model store is a bucket.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'USAGE'
Usage: deploy/day-on-a-bucket.sh [--keep]

Does what docs/deploy.md describes with a model store in a bucket: SeaweedFS in a container. Two inference
services share the store. The steps: first start, a run, more teachers, a new teacher, publish and roll back, a publish
gate, a service that is killed, a bucket that does not answer, backup and restore, upgrade, loss of the machine. From the
first published student on, a client calls each service without a pause; only calls to a service that restarts may fail.

  --keep  leaves the compose project and the bucket

Needs root, the images (deploy/build.sh), a Docker engine, Compose, curl, and scripts/setup --tests.
USAGE
}

keep=no
case "${1:-}" in
"") ;;
--keep) keep=yes ;;
--help | -h) usage && exit 0 ;;
*) usage >&2 && exit 64 ;;
esac

export COMPOSE_PROJECT_NAME=retort-day RETORT_TEACHER_CPUS=1
. deploy/project.sh
. deploy/bucket.sh
docker info >/dev/null 2>&1 || fail "no Docker engine answers"
python=.deps/python/bin/python
"$python" -c 'import tritonclient.grpc' 2>/dev/null || fail "tritonclient is missing: run scripts/setup --tests"
folder="$(mktemp -d)"
network="$COMPOSE_PROJECT_NAME-bucket-network"
export COMPOSE_FILE="docker-compose.yml:$folder/override.yml"
MODEL=fashion-mnist
SERVICES=(inference inference-2)
# The calls reach the containers without a proxy.
unset http_proxy https_proxy all_proxy grpc_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

finish() {
    local status=$?
    if [ "$status" -ne 0 ]; then
        compose ps || true
        compose logs --tail 30 || true
    fi
    end_calls || true
    [ "$keep" = yes ] || { down || true; remove_bucket; } || true
    rm -rf "$folder"
    exit "$status"
}
trap finish EXIT

remove_bucket() {
    remove_labelled || true
    docker network rm "$network" >/dev/null 2>&1 || true
}

# override PREFIX: writes the override of docs/deploy.md, with a second service and the bucket's network
override() {
    local service
    {
        echo "services:"
        for service in "${SERVICES[@]}"; do
            echo "  $service:"
            [ "$service" = inference ] || inference_like
            echo "    command: [serve, --store, \"s3://models/$1\"]"
            echo "    networks: [default, bucket]"
            echo "    environment:"
            echo "      RETORT_INFERENCE__MODEL_STORE__CACHE: /models/cache"
            [ "$service" = inference ] || open_ports
            bucket_environment | sed 's/^\([^=]*\)=\(.*\)$/      \1: "\2"/'
        done
        echo "volumes: { models-2: {} }"
        echo "networks: { bucket: { external: true, name: $network } }"
    } >"$folder/override.yml"
}

# inference_like, open_ports: the keys of the second service that the compose file has for the first
inference_like() {
    cat <<YAML
    image: retort-inference:\${RETORT_VERSION:-0.1.0}
    user: "65532:65532"
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    tmpfs: ["/tmp:size=64m,mode=1777"]
    restart: unless-stopped
    volumes: ["models-2:/models"]
    stop_grace_period: 15s
    mem_limit: 512m
    healthcheck:
      test: ["CMD", "/usr/local/bin/inference-service", "healthcheck", "127.0.0.1:8001"]
      interval: 5s
      timeout: 5s
      retries: 3
      start_period: 60s
YAML
}

open_ports() {
    local name port
    for name in GRPC:8001 HTTP:8000 METRICS:8002 ADMIN:8003; do
        port="${name#*:}" name="${name%:*}"
        echo "      RETORT_INFERENCE__${name}__LISTEN: 0.0.0.0:$port"
        echo "      RETORT_INFERENCE__${name}__ACCESS: anyone_who_reaches_the_port"
    done
}

up() {
    compose up --detach --no-build "$@" >/dev/null 2>&1 || fail "docker compose up $* failed"
}

ready() {
    local service
    for service in "$@"; do
        wait_for 300 "$service is healthy" healthy "$service"
    done
}

# active SERVICE: prints the version that the service serves
active() {
    curl -sf "http://$(address "$(containers "$1")"):8002/metrics" |
        awk -v name="retort_inference_active_version{model=\"$MODEL\"}" '$1 == name {print $2}'
}

serves() {
    [ "$(active "$1")" = "$2" ]
}

# all_serve VERSION ARTIFACT: both services serve the version, with the logits of the artifact's model
all_serve() {
    local service
    for service in "${SERVICES[@]}"; do
        wait_for 30 "$service serves version $1" serves "$service" "$1"
        predict "$service" "$2" >"$folder/predicted" || { cat "$folder/predicted" >&2 && fail "$service predicts otherwise"; }
    done
    say "both predict as $(basename "$2")/model.onnx in ONNX Runtime"
}

predict() {
    "$python" examples/python/predict.py --url "$(address "$(containers "$1")"):8001" --model "$MODEL" --artifact "$2" --compare
}

# begin_calls: calls each service again and again. After a failed call it asks for the container's address again.
begin_calls() {
    local service
    touch "$folder/calling"
    for service in "${SERVICES[@]}"; do
        : >"$folder/calls-$service"
        while [ -e "$folder/calling" ]; do
            # A service that is replaced has no container for a moment.
            url="http://$(address "$(containers "$service")" || true):8000/v2/models/$MODEL/infer"
            while [ -e "$folder/calling" ] && call "$url"; do
                echo answered >>"$folder/calls-$service"
                sleep 0.05
            done
            [ ! -e "$folder/calling" ] || echo failed >>"$folder/calls-$service"
        done 2>/dev/null &
    done
}

call() {
    curl -sf --connect-timeout 1 --max-time 10 --data-binary "@$folder/request.json" --header 'content-type: application/json' "$1" -o /dev/null
}

end_calls() {
    rm -f "$folder/calling"
    wait
}

# calls RESULT SERVICE: counts the calls with this result
calls() {
    grep -c "$1" "$folder/calls-$2" || true
}

# no_failures SERVICE...: no call to these services has failed since the last check, and some were answered
no_failures() {
    local service
    for service in "$@"; do
        [ "$(calls failed "$service")" = 0 ] || fail "$(calls failed "$service") calls of $service failed"
        [ "$(calls answered "$service")" -gt 0 ] || fail "$service answered no call"
        say "$service: $(calls answered "$service") calls, none failed"
    done
    forget_calls
}

forget_calls() {
    local service
    for service in "${SERVICES[@]}"; do
        : >"$folder/calls-$service"
    done
}

# restarted SERVICE COMMAND...: replaces the service while the other one answers every call
restarted() {
    local service="$1" other before
    other="$(printf '%s\n' "${SERVICES[@]}" | grep -vx "$service")"
    shift
    forget_calls
    "$@"
    ready "$service"
    no_failures "$other"
    wait_for 30 "calls of $service are answered again" is_answered "$service"
    forget_calls
}

is_answered() {
    [ "$(calls answered "$1")" -gt 0 ]
}

# says FILE PATTERN: prints what matches the pattern in a command's output, which must have it
says() {
    grep -m 1 -o "$2" "$1" | sed 's/^/   /' || { cat "$1" >&2 && fail "no line has \"$2\""; }
}

submit_student() {
    local name="$1"
    shift
    retort run "/etc/retort/$RETORT_RECIPE/student.toml" --name "$name" --set data.path=/data/fashion-mnist \
        --set 'teacher.endpoints=["teacher:50051"]' --set publish.endpoint=inference:8003 --set "publish.model=$MODEL" "$@"
}

step "bucket and first start"
docker images --format '   {{.Repository}}:{{.Tag}} {{.Size}}' | grep "retort-.*:$RETORT_VERSION " || true
override retort
down || true
remove_bucket
docker network create "$network" >/dev/null
start_bucket models "$network" "retort-inference:$RETORT_VERSION"
up
ready trainer teacher "${SERVICES[@]}"
[ -z "$(bucket_names retort/)" ] || fail "the store is not empty"

step "a run publishes its student; both services serve it"
compose run --rm -T student 2>/dev/null | tail -n 3 | sed 's/^/   /'
artifact student "$folder/student"
all_serve 1 "$folder/student"
"$python" - "$folder/student/manifest.json" >"$folder/request.json" <<'PROGRAM'
import json, sys
[tensor] = json.load(open(sys.argv[1]))["signature"]["inputs"]
shape = [1, *tensor["dimensions"][1:]]
count = 1
for extent in shape:
    count *= extent
print(json.dumps({"inputs": [{"name": tensor["name"], "datatype": tensor["data_type"], "shape": shape, "data": [0.5] * count}]}))
PROGRAM
begin_calls

step "more teachers, and a new version of the teacher"
up --no-recreate --scale teacher=2 teacher
wait_for 60 "2 teachers are healthy" healthy teacher
up --no-recreate --scale teacher=1 teacher
retort run "/etc/retort/$RETORT_RECIPE/teacher.toml" --name teacher-2 --set data.path=/data/fashion-mnist --set seed=2 2>/dev/null | tail -n 1
export RETORT_TEACHER_RUN=teacher-2
up teacher
ready teacher
submit_student student-2 2>/dev/null | tail -n 1 | sed 's/^/   /'
artifact student-2 "$folder/student-2"
all_serve 2 "$folder/student-2"
no_failures "${SERVICES[@]}"

step "roll back, activate, publish again: at one service, and the other follows"
retort models rollback "$MODEL" 2>/dev/null | sed 's/^/   /'
all_serve 1 "$folder/student"
retort models --admin inference-2:8003 activate "$MODEL" 2 2>/dev/null | sed 's/^/   /'
all_serve 2 "$folder/student-2"
retort models publish "$MODEL" /runs/student/artifact 2>/dev/null | sed 's/^/   /'
all_serve 1 "$folder/student"
[ "$(retort models versions "$MODEL" 2>/dev/null)" = "$(retort models --admin inference-2:8003 versions "$MODEL" 2>/dev/null)" ] ||
    fail "the services list other versions"
no_failures "${SERVICES[@]}"

step "a publish gate withholds a student"
code=0
submit_student withheld --set data.validation_samples=1000 --set publish.gate.min_accuracy=0.999 >"$folder/withheld" 2>&1 || code=$?
[ "$code" = 3 ] || { cat "$folder/withheld" >&2 && fail "the run ended with exit code $code, not 3"; }
says "$folder/withheld" 'the model was not published.*'
all_serve 1 "$folder/student"
no_failures "${SERVICES[@]}"

step "a service is killed, and starts again from the bucket"
crash() {
    kill -9 "$(docker inspect -f '{{.State.Pid}}' "$(containers inference-2)")"
}
restarted inference-2 crash
all_serve 1 "$folder/student"

step "the bucket does not answer"
docker pause "$bucket_container" >/dev/null
for service in "${SERVICES[@]}"; do
    predict "$service" "$folder/student" >/dev/null || fail "$service does not answer without its bucket"
done
code=0
retort models activate "$MODEL" 2 >"$folder/refused" 2>&1 || code=$?
[ "$code" != 0 ] || fail "a version was activated without the bucket"
says "$folder/refused" '^error: .*'
docker unpause "$bucket_container" >/dev/null
retort models activate "$MODEL" 2 2>/dev/null | sed 's/^/   /'
all_serve 2 "$folder/student-2"
no_failures "${SERVICES[@]}"

step "backup: the objects, copied; restored under another prefix"
backup="$folder/backup"
bucket_names retort/ >"$folder/names"
while read -r name; do
    mkdir -p "$backup/$(dirname "$name")"
    bucket_request "/$name" -o "$backup/$name"
done <"$folder/names"
while read -r name; do
    bucket_request "/restored/${name#retort/}" --upload-file "$backup/$name" -o /dev/null
done <"$folder/names"
say "$(wc -l <"$folder/names") objects, $(du -sh "$backup" | cut -f 1)"
override restored
restarted inference-2 up --no-deps inference-2
restarted inference up --no-deps inference
all_serve 2 "$folder/student-2"

step "upgrade: new images, one service after the other"
docker tag "retort-inference:$RETORT_VERSION" retort-inference:day-upgrade
for service in "${SERVICES[@]}"; do
    RETORT_VERSION=day-upgrade restarted "$service" up --no-deps "$service"
done
all_serve 2 "$folder/student-2"
docker rmi retort-inference:day-upgrade >/dev/null 2>&1 || true

step "the machine is lost with all its volumes: another one serves what the bucket holds"
end_calls
down
up
ready "${SERVICES[@]}"
all_serve 2 "$folder/student-2"

printf '\nday on a bucket: passed in %d s\n' "$SECONDS"
