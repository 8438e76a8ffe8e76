# syntax=docker/dockerfile:1
# Two targets: `api` (no torch, about 400 MB) and `worker` (CUDA build of torch from the package index).
#   docker build --target api -t graft-api .
#   docker build --target worker -t graft-worker .
# A CPU-only worker: --build-arg TORCH_INDEX=<index with CPU builds>
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    GRAFT_DATA_DIR=/data \
    GRAFT_LOG=json
RUN useradd --uid 10001 --create-home graft \
    && install --directory --owner=graft --group=graft /data
WORKDIR /srv/graft
COPY pyproject.toml README.md LICENSE constraints.txt ./

FROM base AS api
COPY core core
COPY app app
COPY worker worker
COPY graftd graftd
COPY migrations migrations
RUN pip install --constraint constraints.txt ".[api,postgres]"
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["graftd"]
CMD ["api", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS worker
ARG TORCH_INDEX=""
# torch first, in a layer of its own: it is some gigabytes and changes rarely.
RUN if [ -n "$TORCH_INDEX" ]; then \
      pip install --index-url "$TORCH_INDEX" "torch>=2.10" "torchvision>=0.25"; \
    else \
      pip install --constraint constraints.txt "torch>=2.10" "torchvision>=0.25"; \
    fi
COPY core core
COPY app app
COPY worker worker
COPY graftd graftd
COPY migrations migrations
RUN if [ -n "$TORCH_INDEX" ]; then pip install ".[worker,postgres]"; else pip install --constraint constraints.txt ".[worker,postgres]"; fi
USER 10001:10001
VOLUME /data
# SIGTERM lets the worker hand its job back before it goes.
STOPSIGNAL SIGTERM
ENTRYPOINT ["graftd"]
CMD ["worker"]
