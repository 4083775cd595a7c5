# Retort's images, one target each: inference, teacher, trainer, cli, prepare.
#
#   deploy/build.sh                                              builds all images, tagged with the version
#   docker build --target inference -t retort-inference .        builds one image
#   docker build --target teacher --build-arg DEVICE=cuda .      for NVIDIA GPUs
#
# Needs BuildKit (DOCKER_BUILDKIT=1 if it is not the default) with its built-in frontend. Behind a private root CA, pass
# this host's CA bundle to the build: --secret id=host_ca,src=/etc/ssl/certs/ca-certificates.crt
# Without a registry, deploy/base-images.sh builds the base images.

ARG RUST_IMAGE=rust:1.95.0-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot
ARG DEVICE=cpu

# The toolchain for builds and downloads.
FROM ${RUST_IMAGE} AS tools
RUN python3 -m pip --version >/dev/null 2>&1 || \
    { apt-get update && apt-get install -y --no-install-recommends python3 python3-pip && rm -rf /var/lib/apt/lists/*; }
COPY --chmod=0755 deploy/with-host-ca /usr/local/bin/
WORKDIR /src
# Mount points of the volumes: a new named volume takes its owner from the mount point.
RUN install -d -o 65532 -g 65532 /volumes/data /volumes/runs /volumes/soft-targets /volumes/models

# The pinned parts of the set-up, one stage each.
FROM tools AS dependencies
COPY scripts/dependencies scripts/dependencies
ENV PYTHONPATH=scripts PYTHONDONTWRITEBYTECODE=1

FROM dependencies AS libtorch
ARG DEVICE
# Debug symbols are a fifth of libtorch's size.
RUN --mount=type=secret,id=host_ca \
    with-host-ca python3 -m dependencies --device "$DEVICE" libtorch && \
    find .deps/libtorch/lib -name 'lib*torch*.so' -type f -exec strip --strip-unneeded {} + && \
    mv .deps/libtorch /opt/libtorch

FROM dependencies AS onnxruntime
RUN --mount=type=secret,id=host_ca \
    with-host-ca python3 -m dependencies onnxruntime && mv .deps/onnxruntime /opt/onnxruntime

FROM dependencies AS fashion-mnist
RUN --mount=type=secret,id=host_ca \
    with-host-ca python3 -m dependencies fashion-mnist && mv .deps/fashion-mnist /opt/fashion-mnist

# The programs. Both stages compile into one cache, so that shared crates are compiled once. Cargo compares modification
# times; touching the sources makes them newer than the output of earlier builds in the cache.
FROM tools AS sources
COPY . .

FROM sources AS programs
RUN --mount=type=cache,id=retort-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=retort-target,target=/src/target,sharing=locked \
    --mount=type=secret,id=host_ca \
    find . -path ./target -prune -o -type f -exec touch {} + && \
    with-host-ca cargo build --profile dist --locked --target-dir target/cpu -p inference-service -p cli -p common && \
    install -D -m 0555 -t /out target/cpu/dist/inference-service target/cpu/dist/retort target/cpu/dist/require-memory

FROM sources AS torch-programs
# Cached objects depend on libtorch's folder, not on its content, so each device has its own target folder.
ARG DEVICE
RUN --mount=type=cache,id=retort-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=retort-target,target=/src/target,sharing=locked \
    --mount=type=bind,from=libtorch,source=/opt/libtorch,target=/opt/libtorch \
    --mount=type=secret,id=host_ca \
    find . -path ./target -prune -o -type f -exec touch {} + && \
    LIBTORCH=/opt/libtorch with-host-ca cargo build --profile dist --locked --target-dir "target/$DEVICE" -p teacher-service -p student-trainer && \
    install -D -m 0555 -t /out "target/$DEVICE/dist/teacher-service" "target/$DEVICE/dist/student-trainer"

# The base of all images, and the base of the images with libtorch.
FROM ${RUNTIME_IMAGE} AS runtime
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.vendor="Retort" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY LICENSE-APACHE LICENSE-MIT NOTICE /usr/share/doc/retort/
USER 65532:65532

FROM runtime AS torch-runtime
COPY --from=libtorch /opt/libtorch/licenses /usr/share/doc/libtorch
COPY --from=libtorch /opt/libtorch/lib /opt/libtorch/lib
COPY --from=programs /out/require-memory /usr/local/bin/

FROM runtime AS inference
LABEL org.opencontainers.image.title="retort-inference" \
      org.opencontainers.image.description="Serves students over the Open Inference Protocol v2"
COPY --from=onnxruntime /opt/onnxruntime /opt/onnxruntime
ENV ORT_DYLIB_PATH=/opt/onnxruntime/lib/libonnxruntime.so ORT_DISABLE_TELEMETRY=1
COPY --from=tools --chown=65532:65532 /volumes/models /models
COPY --from=programs /out/inference-service /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/inference-service"]
CMD ["serve", "--store", "/models"]

FROM torch-runtime AS teacher
LABEL org.opencontainers.image.title="retort-teacher" \
      org.opencontainers.image.description="Streams a teacher's logits to trainers"
# For teachers in ONNX.
COPY --from=onnxruntime /opt/onnxruntime /opt/onnxruntime
ENV ORT_DYLIB_PATH=/opt/onnxruntime/lib/libonnxruntime.so ORT_DISABLE_TELEMETRY=1
COPY --from=torch-programs /out/teacher-service /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/require-memory", "192", "/usr/local/bin/teacher-service"]
CMD ["serve"]

FROM torch-runtime AS trainer
LABEL org.opencontainers.image.title="retort-trainer" \
      org.opencontainers.image.description="Trains teachers and distils students"
# The exported model is compared with libtorch before it is published.
COPY --from=onnxruntime /opt/onnxruntime /opt/onnxruntime
ENV ORT_DYLIB_PATH=/opt/onnxruntime/lib/libonnxruntime.so ORT_DISABLE_TELEMETRY=1
COPY --from=tools --chown=65532:65532 /volumes/runs /runs
COPY --from=tools --chown=65532:65532 /volumes/soft-targets /soft-targets
COPY --from=torch-programs /out/student-trainer /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/require-memory", "512", "/usr/local/bin/student-trainer"]
CMD ["serve", "--set", "runs_folder=/runs"]

FROM runtime AS cli
LABEL org.opencontainers.image.title="retort" \
      org.opencontainers.image.description="Retort's command line: runs, models, predictions"
COPY configs /etc/retort
COPY --from=programs /out/retort /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/retort"]
CMD ["--help"]

# This image has a shell, because it runs a script.
FROM ${DEBIAN_IMAGE} AS prepare
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="retort-prepare" \
      org.opencontainers.image.description="Puts the data set into its volume and has the teacher trained" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.vendor="Retort" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY LICENSE-APACHE LICENSE-MIT NOTICE /usr/share/doc/retort/
COPY --from=fashion-mnist /opt/fashion-mnist /usr/share/retort/fashion-mnist
COPY --from=tools --chown=65532:65532 /volumes/data /data
COPY configs /etc/retort
COPY --from=programs /out/retort /usr/local/bin/
COPY --chmod=0555 deploy/prepare.sh /usr/local/bin/prepare
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/prepare"]
