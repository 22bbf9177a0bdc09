# Two images of one service:
#   docker build --target cpu -t derain:0.1.0-cpu .
#   docker build --target gpu -t derain:0.1.0-gpu .    onnxruntime-gpu, CUDA and cuDNN from pip
# and one for `derain bulk --engine ray`:
#   docker build --target ray -t derain:0.1.0-ray .    Ray, for its head, its workers and who submits jobs
# All take --build-arg COMMIT=... and --build-arg MODEL_SHA256=..., which the labels repeat.
#
# Debian's own Python: it comes without pip and compiler, and Debian mends it. CUDA comes from pip and not
# from an nvidia base: hashes pin it, and only the libraries that onnxruntime loads are in it, no second cuDNN.
ARG DEBIAN=bookworm-slim

FROM debian:${DEBIAN} AS python
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM python AS installer
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
# Bytecode is made here: the root is read-only later, and a start without it takes seconds longer.
RUN python3 -m venv /opt/derain
WORKDIR /install
COPY scripts/install_packages.sh ./

FROM installer AS packages-cpu
COPY requirements/serve.txt ./
RUN sh install_packages.sh serve.txt

FROM installer AS packages-gpu
COPY requirements/serve-gpu.txt ./
RUN sh install_packages.sh serve-gpu.txt

FROM installer AS packages-ray
COPY requirements/ray.txt ./
RUN sh install_packages.sh ray.txt

FROM python AS service
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin derain
WORKDIR /srv/derain
COPY derain/ derain/
COPY serving/ serving/
COPY LICENSE ./
COPY examples/ examples/
# To serve other models, mount a folder over this one.
COPY models/ models/
# All that is written is under /tmp: BENTOML_HOME has the metrics of the running service.
ENV PATH=/opt/derain/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BENTOML_HOME=/tmp/bentoml \
    BENTOML_DO_NOT_TRACK=True \
    OPENBLAS_NUM_THREADS=1 \
    HOME=/tmp
USER 10001
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s --interval=15s --timeout=5s CMD ["python", "-m", "serving.healthcheck"]
CMD ["bentoml", "serve", "serving.service:DerainService", "--host", "0.0.0.0", "--port", "3000"]

# Ray's workers start in folders of their own. The commands of its pods are KubeRay's, and so are the probes.
FROM service AS ray
COPY --from=packages-ray /opt/derain /opt/derain
ENV PYTHONPATH=/srv/derain \
    RAY_USAGE_STATS_ENABLED=0
HEALTHCHECK NONE
CMD ["python", "-m", "derain", "bulk", "--help"]
ARG VERSION=0.1.0
ARG COMMIT=unknown
ARG MODEL_SHA256=unknown
LABEL org.opencontainers.image.title="derain" \
      org.opencontainers.image.description="Takes rain out of archives of photographs, on Ray." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT" \
      derain.model.sha256="$MODEL_SHA256"

FROM service AS gpu
COPY --from=packages-gpu /opt/derain /opt/derain
# Without a GPU it does not start, unless told that it may: DERAIN_PROVIDER=auto falls back to the CPU.
ENV DERAIN_PROVIDER=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VERSION=0.1.0
ARG COMMIT=unknown
ARG MODEL_SHA256=unknown
LABEL org.opencontainers.image.title="derain" \
      org.opencontainers.image.description="Takes rain out of photographs, on a GPU." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT" \
      derain.model.sha256="$MODEL_SHA256"

FROM service AS cpu
COPY --from=packages-cpu /opt/derain /opt/derain
ARG VERSION=0.1.0
ARG COMMIT=unknown
ARG MODEL_SHA256=unknown
LABEL org.opencontainers.image.title="derain" \
      org.opencontainers.image.description="Takes rain out of photographs." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT" \
      derain.model.sha256="$MODEL_SHA256"
