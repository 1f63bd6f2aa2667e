# CPU:  docker build -t resteutils .
# CUDA: docker build -t resteutils:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
# docs/running.md runs it: with --user, and with folders that are there before.
# docker run --rm -p 127.0.0.1:8888:8888 --entrypoint jupyter resteutils lab --ip=0.0.0.0 --no-browser notebooks
ARG PYTHON_VERSION=3.12
FROM python:${PYTHON_VERSION}-slim-bookworm

# The 1-bit kernels are compiled on the machine that uses them; git writes the commit into each result.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/*

# CUDA's libraries come with torch's wheels: the host brings the driver and its container toolkit only.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" torch torchvision

# Any user may run it (docker run --user, Apptainer): nothing lies in a home, and git trusts a checkout of another owner.
RUN useradd --create-home --uid 1000 user && mkdir -p /data /out && chown user /data /out \
    && git config --system --add safe.directory /opt/reste
WORKDIR /opt/reste
COPY --chown=user . .
RUN pip install --no-cache-dir --editable '.[app,cluster,export]' && chown user .

USER 1000
ENV DATA_DIR=/data RUNS_DIR=/out/runs RESULTS_DIR=/out/results XDG_CACHE_HOME=/out/cache USER=user
VOLUME ["/data", "/out"]
ENTRYPOINT ["resteutils"]
CMD ["--help"]
