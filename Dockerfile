# docker build -t derain .                               for the CPU
# docker build -t derain:gpu --build-arg RUNTIME=gpu .   with onnxruntime-gpu, CUDA and cuDNN from pip
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS packages
ARG RUNTIME=cpu
WORKDIR /build
COPY requirements/ requirements/
RUN python -m venv /opt/derain \
 && case "$RUNTIME" in cpu) lock=serve ;; gpu) lock=serve-gpu ;; *) echo "RUNTIME is cpu or gpu" >&2; exit 1 ;; esac \
 && /opt/derain/bin/pip install --no-cache-dir --require-hashes --requirement "requirements/$lock.txt"

FROM python:${PYTHON}
RUN useradd --system --uid 10001 --no-create-home derain
COPY --from=packages /opt/derain /opt/derain
WORKDIR /srv/derain
COPY derain/ derain/
COPY serving/ serving/
COPY models/ models/
COPY examples/ examples/
# The metrics of the running service are in BENTOML_HOME: all that is written is under /tmp.
ENV PATH=/opt/derain/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BENTOML_HOME=/tmp/bentoml \
    BENTOML_DO_NOT_TRACK=True
USER 10001
EXPOSE 3000
HEALTHCHECK --start-period=60s --timeout=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:3000/readyz', timeout=4)"]
CMD ["bentoml", "serve", "serving.service:DerainService", "--host", "0.0.0.0", "--port", "3000"]
