#!/usr/bin/env bash
# Builds the base images from Debian's packages and this machine's Rust, for hosts without access to a container
# registry. The images get the names that the Dockerfile and the compose file use.
set -euo pipefail
cd "$(dirname "$0")/.."

DEBIAN=debian:bookworm-slim
RUST=rust:1.95.0-bookworm
RUNTIME=gcr.io/distroless/cc-debian12:nonroot
PROMETHEUS=prom/prometheus:v2.42.0

usage() {
    cat <<USAGE
Usage: deploy/base-images.sh [--force] [debian|rust|runtime|prometheus ...]

Builds the named base images, or all of them, unless they exist:

  debian      $DEBIAN: minbase by debootstrap, without documentation
  rust        $RUST: this machine's Rust toolchain, a C++ compiler, Python, private root CAs
  runtime     $RUNTIME: C and C++ libraries, CA certificates, no shell
  prometheus  $PROMETHEUS: Debian's Prometheus on the runtime image

  --force     rebuilds existing images too

Needs root, a running Docker engine, and on Debian or Ubuntu: apt install debootstrap. The image of Rust also needs
rustup with the toolchain of rust-toolchain.toml. Debian has no Grafana: its image is available from registries only.
USAGE
}

main() {
    local force=no names=()
    while [ $# -gt 0 ]; do
        case "$1" in
        --help | -h) usage && exit 0 ;;
        --force) force=yes ;;
        debian | rust | runtime | prometheus) names+=("$1") ;;
        *) usage >&2 && exit 64 ;;
        esac
        shift
    done
    [ ${#names[@]} -gt 0 ] || names=(debian rust runtime prometheus)
    docker info >/dev/null 2>&1 || fail "no Docker engine answers. Start one, or run this script as a user with access to it."
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    local name tag
    for name in "${names[@]}"; do
        tag="$(tr '[:lower:]' '[:upper:]' <<<"$name")"
        tag="${!tag}"
        if [ "$force" = no ] && docker image inspect "$tag" >/dev/null 2>&1; then
            echo "$tag: exists"
        else
            echo "$tag: building"
            rm -rf "${work:?}"/*
            "make_$name"
            echo "$tag: $(docker image inspect -f '{{.Size}}' "$tag" | awk '{printf "%.0f MB", $1 / 1e6}')"
        fi
    done
}

fail() {
    printf 'deploy/base-images.sh: %s\n' "$1" >&2
    exit 1
}

# need COMMAND WHAT-TO-DO
need() {
    command -v "$1" >/dev/null || fail "$1 is missing. $2"
}

# import FOLDER TAG [options of docker import]: imports the folder as an image of one layer; equal files give equal bytes
import() {
    local folder="$1" tag="$2"
    shift 2
    tar -C "$folder" --numeric-owner --sort=name --mtime=@0 -cf - . |
        docker import -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$@" - "$tag" >/dev/null
}

make_debian() {
    local root="$work/root" mirror
    [ "$(id -u)" = 0 ] || fail "debootstrap needs root: sudo deploy/base-images.sh debian"
    need debootstrap "Install it: apt install debootstrap"
    mirror="${DEBIAN_MIRROR:-$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null)}"
    mirror="${mirror:-http://deb.debian.org/debian}"
    chmod 755 "$work"
    debootstrap --variant=minbase --merged-usr --components=main bookworm "$root" "$mirror" >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2 && fail "debootstrap failed; its last lines are above"; }
    cat >"$root/etc/apt/sources.list.d/debian.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: ${mirror%/debian}/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    rm -f "$root/etc/apt/sources.list"
    # Exclude the files that Debian's slim image excludes, also from packages that are installed later.
    cat >"$root/etc/dpkg/dpkg.cfg.d/docker" <<'DPKG'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-include /usr/share/locale/locale.alias
DPKG
    cat >"$root/etc/apt/apt.conf.d/docker" <<'APT'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Acquire::Languages "none";
APT::Install-Recommends "false";
APT
    find "$root/usr/share/doc" \( -type f -o -type l \) ! -name copyright -delete
    find "$root/usr/share/doc" -mindepth 1 -type d -empty -delete
    rm -rf "$root"/usr/share/{man,info,lintian}/* "$root"/var/log/{bootstrap,dpkg,alternatives}.log "$root"/var/log/apt/*
    find "$root/usr/share/locale" -mindepth 1 -maxdepth 1 ! -name locale.alias -exec rm -rf {} +
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/{tmp,run,dev}/*
    rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
    : >"$root/etc/machine-id"
    import "$root" "$DEBIAN" -c 'CMD ["bash"]'
}

make_rust() {
    local toolchain folder program
    docker image inspect "$DEBIAN" >/dev/null 2>&1 || make_debian
    need rustup "Install Rust with rustup (https://rustup.rs)."
    toolchain="$(rustup show active-toolchain | cut -d' ' -f1)"
    folder="$work/context/rustup/toolchains/$toolchain"
    mkdir -p "$folder" "$work/context/cargo/bin" "$work/context/ca"
    # A toolchain may be a link to another toolchain.
    cp -a "$(rustup which cargo | xargs dirname)/../." "$folder/"
    rm -rf "$folder/share"/{doc,man,zsh}
    printf 'version = "12"\nprofile = "minimal"\ndefault_toolchain = "%s"\n' "$toolchain" >"$work/context/rustup/settings.toml"
    cp -L "$(command -v rustup)" "$work/context/cargo/bin/rustup"
    for program in cargo rustc rustdoc; do
        ln "$work/context/cargo/bin/rustup" "$work/context/cargo/bin/$program"
    done
    private_cas "$work/context/ca"
    cat >"$work/context/Dockerfile" <<DOCKERFILE
FROM $DEBIAN
RUN apt-get update && apt-get install -y --no-install-recommends \
        ca-certificates g++ gcc libc6-dev make pkg-config python3 python3-pip && rm -rf /var/lib/apt/lists/*
COPY ca/ /usr/local/share/ca-certificates/
RUN update-ca-certificates
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo
ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY rustup \$RUSTUP_HOME
COPY cargo \$CARGO_HOME
RUN cargo --version
DOCKERFILE
    DOCKER_BUILDKIT=1 docker build --quiet -t "$RUST" "$work/context" >/dev/null
}

# private_cas FOLDER: writes the CAs that this machine trusts and Debian's package lacks, one file per certificate
private_cas() {
    local bundle=/etc/ssl/certs/ca-certificates.crt known="$work/known" file
    [ -f "$bundle" ] || return 0
    mkdir -p "$work/debs"
    (cd "$work/debs" && apt-get -qq -o APT::Sandbox::User=root download ca-certificates && dpkg-deb -x ./*.deb .)
    for file in "$work"/debs/usr/share/ca-certificates/mozilla/*.crt; do
        fingerprint "$file"
    done >"$known"
    awk -v folder="$1" '/BEGIN CERT/ {file = sprintf("%s/host-%03d.crt", folder, ++n)} file {print > file}' "$bundle"
    for file in "$1"/*.crt; do
        if grep -qxF "$(fingerprint "$file")" "$known"; then
            rm "$file"
        fi
    done
}

fingerprint() {
    openssl x509 -in "$1" -noout -fingerprint -sha256
}

# unpack FOLDER PACKAGE...: unpacks Debian packages without their scripts, with merged /usr as in Debian 12
unpack() {
    local root="$1" package folder
    shift
    need apt-get "This image consists of Debian's packages."
    mkdir -p "$work/packages" "$root/var/lib/dpkg/status.d"
    (cd "$work/packages" && apt-get -qq -o APT::Sandbox::User=root download "$@")
    for package in "$work"/packages/*.deb; do
        dpkg-deb -x "$package" "$root"
        # Vulnerability scanners read the list of packages here.
        dpkg-deb -f "$package" >"$root/var/lib/dpkg/status.d/$(dpkg-deb -f "$package" Package)"
    done
    for folder in bin sbin lib lib64; do
        mkdir -p "$root/usr/$folder"
        if [ -d "$root/$folder" ] && [ ! -L "$root/$folder" ]; then
            cp -a "$root/$folder/." "$root/usr/$folder/"
            rm -rf "${root:?}/$folder"
        fi
        ln -sfn "usr/$folder" "$root/$folder"
    done
}

make_runtime() {
    local root="$work/root"
    unpack "$root" base-files netbase tzdata libc6 libgcc-s1 libstdc++6 libgomp1 zlib1g libssl3 ca-certificates
    mkdir -p "$root"/etc/ssl/certs "$root"/{tmp,run,proc,sys,dev,root} "$root"/var/tmp "$root"/home/nonroot
    find "$root/usr/share/ca-certificates" -name '*.crt' | sort | xargs cat >"$root/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$root"/usr/share/{man,info,lintian,locale,bug,ca-certificates,bash-completion,base-files,debconf} \
        "$root"/usr/{bin,sbin}/* "$root"/etc/ca-certificates* "$root"/usr/lib/x86_64-linux-gnu/gconv \
        "$root"/usr/share/zoneinfo/{posix,right}
    find "$root/usr/share/doc" \( -type f -o -type l \) ! -name copyright -delete
    find "$root/usr/share/doc" -type d -empty -delete
    cat >"$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
PASSWD
    printf 'root:x:0:\ntty:x:5:\nnobody:x:65534:\nnonroot:x:65532:\n' >"$root/etc/group"
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
    chmod 1777 "$root"/tmp "$root"/var/tmp
    chown 65532:65532 "$root/home/nonroot"
    chmod 700 "$root/home/nonroot" "$root/root"
    ldconfig -r "$root"
    import "$root" "$RUNTIME" -c 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
        -c 'USER 65532:65532' -c 'WORKDIR /home/nonroot'
}

make_prometheus() {
    docker image inspect "$RUNTIME" >/dev/null 2>&1 || make_runtime
    rm -rf "${work:?}"/*
    unpack "$work/root" prometheus
    mkdir -p "$work/context/prometheus.d"
    cp "$work"/root/usr/bin/{prometheus,promtool} "$work/context/"
    cat >"$work/context/Dockerfile" <<DOCKERFILE
FROM $RUNTIME
COPY prometheus promtool /bin/
COPY --chown=65534:65534 prometheus.d /prometheus
USER 65534:65534
WORKDIR /prometheus
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
DOCKERFILE
    DOCKER_BUILDKIT=1 docker build --quiet -t "$PROMETHEUS" "$work/context" >/dev/null
}

main "$@"
