# A GPU machine: docker build -t golf-tune . && docker run --gpus all --shm-size 16g -v $PWD/storage:/work/storage golf-tune demo
# PyPI's torch brings CUDA's libraries; the base image has the driver's interface and the compiler that torch.compile uses.
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PYTHONUNBUFFERED=1 PATH=/opt/venv/bin:$PATH
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-dev python3-venv gcc git \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv

WORKDIR /opt/golf-tune
# What is installed changes less often than the code: it is a layer of its own.
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY cluster/constraints.txt cluster/
COPY golf/cli/version.py golf/cli/
RUN pip install --no-cache-dir --constraint cluster/constraints.txt --editable .
COPY . .

WORKDIR /work
ENTRYPOINT ["python", "/opt/golf-tune/run_sweep.py"]
CMD ["--help"]
