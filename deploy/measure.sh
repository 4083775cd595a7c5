#!/usr/bin/env bash
# Prints the table of docs/deploy.md: sizes of the images and cold starts of the services.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
"") ;;
*)
    cat <<'USAGE'
Usage: deploy/measure.sh

Starts the services in a compose project of their own, restarts each (its files are then in the page cache), and prints
the times until its log says that it serves and until Docker's health check succeeds, and its memory. Needs the images
(deploy/build.sh).
USAGE
    exit 0
    ;;
esac

export COMPOSE_PROJECT_NAME=retort-measure
. deploy/project.sh
trap 'down || true' EXIT

# since FROM TO: prints the seconds between two times
since() {
    awk -v from="$(date -d "$1" +%s.%N)" -v to="$(date -d "$2" +%s.%N)" 'BEGIN {printf "%.1f s", to - from}'
}

# first_check CONTAINER STARTED: prints the end of the first successful health check after STARTED
first_check() {
    local end
    for end in $(docker inspect -f '{{range .State.Health.Log}}{{if eq .ExitCode 0}}{{json .End}} {{end}}{{end}}' "$1"); do
        end="${end//\"/}"
        if [ "$(date -d "$end" +%s%N)" -gt "$(date -d "$2" +%s%N)" ]; then
            echo "$end"
            return
        fi
    done
}

# memory CONTAINER: prints the memory of its processes, without the page cache
memory() {
    docker stats --no-stream --format '{{.MemUsage}}' "$1" | cut -d' ' -f1
}

down || true
compose up --detach --no-build >/dev/null 2>&1
printf '| image | unpacked | serves after | healthy after | memory, idle |\n| --- | --- | --- | --- | --- |\n'
for service in inference teacher trainer; do
    container="$(containers "$service")"
    docker restart "$container" >/dev/null
    wait_for 60 "$service" healthy "$service" >/dev/null
    started="$(docker inspect -f '{{.State.StartedAt}}' "$container")"
    serving="$(docker logs --since "$started" "$container" 2>&1 | grep -E 'serving|serves' | sed -n 1p | cut -d' ' -f1)"
    checked="$(first_check "$container" "$started")"
    printf '| `retort-%s` | %s | %s | %s | %s |\n' "$service" \
        "$(docker image inspect -f '{{.Size}}' "retort-$service:$RETORT_VERSION" | awk '{printf "%.0f MB", $1 / 1e6}')" \
        "$(since "$started" "$serving")" "$(since "$started" "$checked")" \
        "$(memory "$container")"
done
for target in cli prepare; do
    printf '| `retort-%s` | %s | | | |\n' "$target" \
        "$(docker image inspect -f '{{.Size}}' "retort-$target:$RETORT_VERSION" | awk '{printf "%.0f MB", $1 / 1e6}')"
done
