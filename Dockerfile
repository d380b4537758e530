# cutback in a container.
#
#   docker build -t cutback .
#   docker run --rm -v "$PWD:/models" cutback inspect network.onnx
#
# Recipe in, engines and report out, the profile database kept in a volume between runs:
#
#   docker run --rm -v "$PWD:/models" -v cutback-profiles:/profiles cutback run recipe.yaml
#   docker run --rm -v "$PWD:/models" cutback check bundle --max-drop 1.0
#
# EXTRAS names what is installed beside the core, by commas: torch (training, and sources in torch), and the runtimes openvino, mnn, ncnn,
# executorch and tensorrt-rtx (engines for RTX cards, built with no GPU); postgresql for a profile database on a server:
#
#   docker build --build-arg EXTRAS=torch,openvino,tensorrt-rtx -t cutback .
#
# A Jetson needs no image: cutback pack gives it a folder (docs/jetson.md).
#
# This file was not built where it was written: there was nothing to build it with.
#
# For an NVIDIA device give one of NVIDIA's images as BASE, and SITE=--system-site-packages to use the torch and TensorRT it brings:
#
#   docker build --build-arg BASE=<image with TensorRT> --build-arg SITE=--system-site-packages --build-arg EXTRAS= -t cutback .
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ARG EXTRAS=torch
ARG SITE=
WORKDIR /source
RUN python3 -m venv ${SITE} /opt/cutback
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY targets targets
COPY calibration calibration
COPY pipeline pipeline
# A base that brings its own torch keeps it: the pinned versions are for what is installed here.
RUN if [ -z "${SITE}" ]; then constrain="-c constraints.txt"; fi; \
    /opt/cutback/bin/python -m pip install --no-cache-dir ${constrain:-} ".${EXTRAS:+[${EXTRAS}]}"

FROM ${BASE}
RUN useradd --create-home --uid 10001 cutback && install -d -o cutback /models /profiles
COPY --from=build /opt/cutback /opt/cutback
ENV PATH=/opt/cutback/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    CUTBACK_DB=/profiles/profiles.sqlite
USER cutback
WORKDIR /models
ENTRYPOINT ["cutback"]
CMD ["--help"]
