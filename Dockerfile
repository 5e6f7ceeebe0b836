ARG BASE_IMAGE=python:3.12-slim@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea

FROM ${BASE_IMAGE} AS build
SHELL ["/bin/sh", "-euc"]
WORKDIR /src
RUN python -m venv /opt/lstm-explain && \
    ln -s "$(echo /opt/lstm-explain/lib/python3*/site-packages)" /opt/lstm-explain/packages && \
    python -m venv /opt/tools
ENV PATH=/opt/lstm-explain/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1

# Exactly these files and no others: `make lock` writes the lists. The dependencies are a separate layer, because they
# change less often than the server.
COPY deploy/image/requirements.txt deploy/image/tools.txt ./
RUN pip install --require-hashes --only-binary :all: --requirement requirements.txt && \
    /opt/tools/bin/pip install --require-hashes --only-binary :all: --requirement tools.txt

COPY pyproject.toml README.md LICENSE ./
COPY server server
COPY client/python client/python
COPY proto/python proto/python
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . && \
    pip install --no-deps wheels/*.whl

# Compiles kernels for the processors that the image may run on; see lstm_explain/kernels/cache.py.
ARG KERNEL_CPUS="x86-64-v3 x86-64-v4"
ENV NUMBA_CACHE_DIR=/opt/lstm-explain/kernels
RUN if [ "$(uname -m)" = x86_64 ]; then python -m lstm_explain.kernels.cache ${KERNEL_CPUS}; \
    else python -m lstm_explain.kernels.cache; fi

# Removes what a server never uses: a copy of ONNX Runtime for callers from C, a client of a model hub, tests, and C
# sources. Then writes the bill of materials, with the licences of all packages, and compiles all modules, because
# nothing can be written at run time.
WORKDIR /opt/lstm-explain/packages
RUN pip uninstall --yes hf-xet huggingface-hub setuptools pip && \
    rm -rf onnxruntime/capi/libonnxruntime.so* onnxruntime/transformers onnxruntime/tools onnxruntime/quantization \
           onnx/backend/test numba/tests numba/cuda/tests numpy/f2py/tests numpy/*/tests \
           pkg_resources pygments/lexers/[a-z]*.py && \
    find /opt/lstm-explain \( -name '*.h' -o -name '*.cc' -o -name '*.pyi' -o -name '*.proto' \) -delete && \
    find /opt/lstm-explain -type d -name __pycache__ -prune -exec rm -rf {} + && \
    /opt/tools/bin/cyclonedx-py environment --pyproject /src/pyproject.toml --gather-license-texts \
        --output-reproducible --output-file /opt/lstm-explain/sbom.cdx.json /opt/lstm-explain/bin/python && \
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/lstm-explain/lib && \
    rm /opt/lstm-explain/packages
WORKDIR /
COPY models /models
RUN lstm-explain inspect /models/sentiment/1/model.onnx


# One layer, without the package lists, manuals and pip of the base.
FROM ${BASE_IMAGE} AS root
SHELL ["/bin/sh", "-euc"]
RUN rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /usr/share/doc /usr/share/man /usr/share/locale /usr/share/info \
           /usr/local/lib/python3*/site-packages/pip* /usr/lib/python3/dist-packages/pip* /usr/share/python-wheels && \
    mkdir -p /var/cache /models
COPY --from=build /opt/lstm-explain /opt/lstm-explain
COPY models /models


FROM scratch
# hadolint ignore=DL3067
COPY --from=root / /
ARG KERNEL_CPUS="x86-64-v3 x86-64-v4"
ENV PATH=/opt/lstm-explain/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/opt/lstm-explain/kernels \
    LSTM_EXPLAIN_KERNEL_CPUS=${KERNEL_CPUS} \
    LSTM_EXPLAIN_MODELS=/models \
    LSTM_EXPLAIN_LISTEN=0.0.0.0:50051 \
    LSTM_EXPLAIN_METRICS_LISTEN=0.0.0.0:9090 \
    LSTM_EXPLAIN_LOG_FORMAT=json
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lstm-explain" \
      org.opencontainers.image.description="Explains the predictions of ONNX LSTMs, GRUs and RNNs over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/lstm-explain/lstm-explain" \
      org.opencontainers.image.documentation="https://github.com/lstm-explain/lstm-explain/blob/main/docs/operations.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.12-slim"
USER 10001:10001
EXPOSE 50051 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["lstm-explain", "health"]
ENTRYPOINT ["lstm-explain"]
# Listens on the container's own address without encryption; set --tls-cert and --tls-key instead to encrypt traffic.
CMD ["serve", "--insecure-listen"]
