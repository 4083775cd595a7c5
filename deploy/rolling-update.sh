#!/usr/bin/env bash
# Runs the chart's pods on a Docker engine, and a rolling update of the inference service under load without a failed call.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'USAGE'
Usage: deploy/rolling-update.sh [--keep]

Renders the Helm chart with two replicas of the inference service on a bucket, and runs the containers of its pods with
`docker run`, under the users, security contexts, limits, variables, arguments and volumes of their manifests:

  1. The trainer trains a teacher; a teacher starts; a run distils a student and publishes it. All of them become ready by
     the probes of their manifests, and end with exit code 0 after SIGTERM.
  2. Six gRPC clients, which keep their connections, and two HTTP clients, which open one per call, call the student through
     a proxy that distributes connections as a Service does.
  3. Both replicas are replaced as by a Deployment with maxSurge 1 and maxUnavailable 0. A deleted pod still gets new
     connections for 3 s, sleeps as preStop says, gets SIGTERM, and must end with exit code 0 in its grace period.
     No call may fail.
  4. A replica is killed: the same load must notice it.

  --keep  leaves the containers

Needs the images (deploy/build.sh), a Docker engine whose containers this machine can reach, curl, and scripts/setup --tests.
USAGE
}

keep=no
case "${1:-}" in
"") ;;
--keep) keep=yes ;;
--help | -h) usage && exit 0 ;;
*) usage >&2 && exit 64 ;;
esac

export COMPOSE_PROJECT_NAME=retort-rolling
. deploy/project.sh
. deploy/bucket.sh
docker info >/dev/null 2>&1 || fail "no Docker engine answers"
python=.deps/python/bin/python
[ -x "$python" ] && [ -d .deps/kubernetes ] || fail "Python, Helm or SeaweedFS is missing: run scripts/setup --tests"
for image in inference teacher trainer cli prepare; do
    docker image inspect "retort-$image:$RETORT_VERSION" >/dev/null 2>&1 || fail "retort-$image is missing: run deploy/build.sh"
done

remove_all() {
    remove_labelled
    docker volume rm --force "$COMPOSE_PROJECT_NAME"-{data,runs,soft-targets} >/dev/null 2>&1 || true
    docker network rm "$COMPOSE_PROJECT_NAME" >/dev/null 2>&1 || true
}

finish() {
    local status=$? id
    if [ "$status" -ne 0 ]; then
        for id in $(labelled); do
            docker inspect -f '--- {{.Name}}: {{.State.Status}}, exit code {{.State.ExitCode}}' "$id" >&2 || true
            docker logs --tail 30 "$id" >&2 || true
        done
    fi
    [ "$keep" = yes ] || remove_all || true
    exit "$status"
}
trap finish EXIT

step "network, data set, bucket"
remove_all
docker network create "$COMPOSE_PROJECT_NAME" >/dev/null
docker run --rm --label "$COMPOSE_PROJECT_NAME" --volume "$COMPOSE_PROJECT_NAME-data:/data" --entrypoint cp \
    "retort-prepare:$RETORT_VERSION" -r /usr/share/retort/fashion-mnist /data/
start_bucket models "$COMPOSE_PROJECT_NAME" "retort-inference:$RETORT_VERSION"
BUCKET_VARIABLES="$(bucket_environment)"
export BUCKET_VARIABLES

# Containers are reached without a proxy.
unset http_proxy https_proxy all_proxy grpc_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
PYTHONPATH=deploy PYTHONDONTWRITEBYTECODE=1 "$python" -m rolling_update
printf '\nrolling update: passed in %d s\n' "$SECONDS"
