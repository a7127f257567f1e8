# The trainer in an image that holds the program, its libraries and nothing else:
#
#     docker build --build-arg REVISION=$(git rev-parse --short=12 HEAD) --tag trainer .
#     docker run --read-only --network none --cap-drop ALL --security-opt no-new-privileges --memory 1g \
#         --volume "$PWD/data:/data:ro" --volume trainer-logs:/logs trainer --run-name first
#
# What the image holds is listed in one place, scripts/rootfs.py; tests/deploy runs the same files without a container engine.

# By digest, since a tag moves: this is the multi-platform index of rust:1.95.0-slim-bookworm. Its Debian 12 is also where
# the C and the C++ library of the image come from.
FROM rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils g++ libc-bin make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# First what decides which libtorch is fetched: half a gigabyte does not come again when a source file changes.
COPY Makefile Cargo.toml ./
COPY scripts scripts
RUN make setup
COPY . .
# The checkout's history stays outside; it tells its revision here.
ARG REVISION=unknown
ENV TRAINER_BUILD_REVISION=${REVISION}
# Dependencies are compiled once. The crate itself is touched: a file that is older than the cached build, as those of
# another checkout are, would pass for unchanged.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    touch build.rs src/lib.rs src/main.rs \
    && make build rootfs \
    && cp --archive target/rootfs /rootfs

# No base image: there is nothing to start but the program, and nothing to patch but what the build stage brought.
FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="trainer" \
      org.opencontainers.image.description="Trains convolutional networks on libtorch, to be watched in TensorBoard" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
# Directory by directory, the largest first: copied whole, the root would give /logs back to root.
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
# Data sets are only read: mount them so (`:ro`). Runs, checkpoints and event files are written below /logs, and nothing
# anywhere else.
VOLUME ["/data", "/logs"]
# The first asks for a checkpoint and exit code 75.
STOPSIGNAL SIGTERM
# A job says how it went by its exit code. This is for one that hangs, as on a dead network disk: healthy means that some
# run below /logs ended an epoch or wrote a checkpoint within this time. Kubernetes does not look at it.
HEALTHCHECK --interval=5m --timeout=30s --start-period=10m --retries=2 CMD ["trainer", "runs", "/logs", "--max-age", "30m"]
ENTRYPOINT ["trainer"]
