#!/usr/bin/env bash
# Builds Retort's images under the names that docker-compose.yml uses, with this checkout's version and revision.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'USAGE'
Usage: deploy/build.sh [--device cpu|cuda] [inference|teacher|trainer|cli|prepare ...]

Builds these targets of the Dockerfile, or all of them, as retort-TARGET:VERSION (for cuda, retort-TARGET:VERSION-cuda).
`docker compose --profile student --profile cli build` does the same, except that it does not set the revision. This
script also passes root CAs to the build, for cargo and pip behind a proxy with a private CA: the bundle in HOST_CA, by
default /etc/ssl/certs/ca-certificates.crt. No image contains them.
USAGE
}

device=cpu targets=()
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h) usage && exit 0 ;;
    --device)
        device="${2:-}"
        [ $# -lt 2 ] || shift
        ;;
    inference | teacher | trainer | cli | prepare) targets+=("$1") ;;
    *) usage >&2 && exit 64 ;;
    esac
    shift
done
case "$device" in
cpu) suffix="" ;;
cuda) suffix="-cuda" ;;
*) usage >&2 && exit 64 ;;
esac
[ ${#targets[@]} -gt 0 ] || targets=(inference teacher trainer cli prepare)

version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
revision="$(git rev-parse HEAD 2>/dev/null || echo unknown)"
[ -z "$(git status --porcelain 2>/dev/null)" ] || revision="$revision-modified"

options=(--build-arg "DEVICE=$device" --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
ca="${HOST_CA:-/etc/ssl/certs/ca-certificates.crt}"
[ ! -s "$ca" ] || options+=(--secret "id=host_ca,src=$ca")
[ -t 1 ] || options+=(--progress plain)
for target in "${targets[@]}"; do
    DOCKER_BUILDKIT=1 docker build "${options[@]}" --target "$target" --tag "retort-$target:$version$suffix" .
done
