# Functions for the tests in this folder that need a bucket: SeaweedFS in a container. They source this file after
# project.sh.
# shellcheck shell=bash

BUCKET_KEY=retort BUCKET_SECRET=known-to-this-test-only

# start_bucket BUCKET NETWORK IMAGE: starts SeaweedFS, which scripts/setup --tests installs, in a container of the image,
# and creates the bucket. In the network, its endpoint is http://bucket:8333.
start_bucket() {
    local program=.deps/seaweedfs/weed
    [ -x "$program" ] || fail "$program is missing: run scripts/setup --tests"
    bucket="$1" bucket_container="$COMPOSE_PROJECT_NAME-bucket"
    # With credentials in its environment, the server refuses callers without them.
    docker run --detach --name "$bucket_container" --label "$COMPOSE_PROJECT_NAME" --network "$2" --network-alias bucket \
        --user 65532:65532 --read-only --cap-drop ALL --security-opt no-new-privileges \
        --tmpfs /tmp:size=1g,mode=1777 --workdir /tmp --env HOME=/tmp \
        --env "AWS_ACCESS_KEY_ID=$BUCKET_KEY" --env "AWS_SECRET_ACCESS_KEY=$BUCKET_SECRET" \
        --volume "$(realpath "$program"):/weed:ro" --entrypoint /weed "$3" \
        -logtostderr=true server -filer -s3 -dir=/tmp -ip=127.0.0.1 -ip.bind=0.0.0.0 -s3.port=8333 \
        -s3.port.iceberg=0 -s3.port.lance=0 -master.telemetry=false -master.volumeSizeLimitMB=64 >/dev/null
    wait_for 60 "the bucket $bucket is there" bucket_request "" -X PUT
}

# bucket_environment: prints the variables of a program that uses the bucket, one per line
bucket_environment() {
    cat <<VARIABLES
AWS_ACCESS_KEY_ID=$BUCKET_KEY
AWS_SECRET_ACCESS_KEY=$BUCKET_SECRET
AWS_REGION=us-east-1
AWS_ENDPOINT_URL=http://bucket:8333
AWS_ALLOW_HTTP=true
VARIABLES
}

# bucket_request WHAT [OPTION...]: a request of curl for an object, or for what follows the name of the bucket in the URL
bucket_request() {
    local what="$1"
    shift
    curl --silent --show-error --fail --max-time 60 --aws-sigv4 aws:amz:us-east-1:s3 --user "$BUCKET_KEY:$BUCKET_SECRET" \
        "$@" "http://$(address "$bucket_container"):8333/$bucket$what"
}

# bucket_names PREFIX: prints the names of the objects below a prefix, at most 1,000
bucket_names() {
    local listed
    listed="$(bucket_request "?list-type=2&prefix=${1//\//%2F}")"
    grep -q '<IsTruncated>false' <<<"$listed" || fail "more than 1,000 objects are below $1"
    { grep -o '<Key>[^<]*' <<<"$listed" || true; } | sed 's/<Key>//'
}

# bucket_digests PREFIX: prints the SHA-256 of every object below a prefix, as sha256sum prints those of files
bucket_digests() {
    local name
    bucket_names "$1" | while read -r name; do
        printf '%s  ./%s\n' "$(bucket_request "/$name" | sha256sum | cut -d' ' -f1)" "${name#"$1"}"
    done
}
