# An image with only the trainer and its libraries:
#
#     docker build --build-arg REVISION=$(git rev-parse --short=12 HEAD) --tag trainer .
#     docker run --read-only --network none --cap-drop ALL --security-opt no-new-privileges --memory 1g \
#         --volume "$PWD/data:/data:ro" --volume trainer-logs:/logs trainer --run-name first
#
# scripts/rootfs.py holds the only list of the image's contents; tests/deploy runs the same files without a container engine.

# Pinned by digest, since a tag moves: the multi-platform index of rust:1.95.0-slim-bookworm. Its Debian 12 also provides the
# image's C and C++ libraries.
FROM rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils g++ libc-bin make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# These files decide which libtorch is fetched, so they come first: a change of a source file does not download half a gigabyte.
COPY Makefile Cargo.toml ./
COPY scripts scripts
RUN make setup
COPY . .
# The checkout's history is not copied; this argument gives its revision.
ARG REVISION=unknown
ENV TRAINER_BUILD_REVISION=${REVISION}
# Dependencies are compiled once. The crate itself is touched: a file older than the cached build, as in another checkout,
# would count as unchanged.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    touch build.rs src/lib.rs src/main.rs \
    && make build rootfs \
    && cp --archive target/rootfs /rootfs

# No base image: nothing starts except the program, and nothing needs patches except the files of the build stage.
FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="trainer" \
      org.opencontainers.image.description="Trains convolutional networks on libtorch, to be watched in TensorBoard" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
# Directory by directory, the largest first: a copy of the whole root would give /logs back to root.
COPY --from=build /rootfs/usr/local/lib /usr/local/lib
COPY --from=build /rootfs/lib /lib
COPY --from=build /rootfs/lib64 /lib64
COPY --from=build /rootfs/etc /etc
COPY --from=build /rootfs/data /data
COPY --from=build /rootfs/tmp /tmp
COPY --from=build --chown=65532:65532 /rootfs/logs /logs
COPY --from=build /rootfs/usr/local/share /usr/local/share
COPY --from=build /rootfs/usr/local/bin /usr/local/bin
ENV PATH=/usr/local/bin
ENV TRAINER_DATA_DIR=/data
ENV TRAINER_LOGDIR=/logs
USER 65532:65532
WORKDIR /logs
# Data sets are only read: mount them read-only (`:ro`). Runs, checkpoints and event files are written below /logs; nothing is
# written elsewhere.
VOLUME ["/data", "/logs"]
# The first SIGTERM requests a checkpoint and exit code 75.
STOPSIGNAL SIGTERM
# The exit code reports the outcome of a job. This check is for one that hangs, as on a dead network disk: healthy means that
# some run below /logs ended an epoch or wrote a checkpoint within this time. Kubernetes ignores it.
HEALTHCHECK --interval=5m --timeout=30s --start-period=10m --retries=2 CMD ["trainer", "runs", "/logs", "--max-age", "30m"]
ENTRYPOINT ["trainer"]
