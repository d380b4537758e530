# cutback in a container.
#
#   docker build -t cutback .
#   docker run --rm -v "$PWD:/models" cutback inspect network.onnx
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
RUN useradd --create-home --uid 10001 cutback && install -d -o cutback /models
COPY --from=build /opt/cutback /opt/cutback
ENV PATH=/opt/cutback/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1
USER cutback
WORKDIR /models
ENTRYPOINT ["cutback"]
CMD ["--help"]
