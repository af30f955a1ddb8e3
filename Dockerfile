# One image for both roles: `docker run IMAGE ingest`, `docker run IMAGE worker`; docs/image.md shows how to run it.
#
# Python 3.11, as it is the version that every test runs on.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv --without-pip /opt/call-processor && python3 -m venv /opt/tools

# The libraries: only a change of the lock makes this layer anew. What is taken out is loaded by nobody: Arrow's clients
# of Flight and S3, copies under a second name, sources of Cython and C, tests. Compiled here, since nothing can be
# written where the image runs.
COPY requirements/runtime.txt /src/requirements/
RUN /opt/tools/bin/python -m pip --python /opt/call-processor/bin/python install --no-compile --only-binary :all: \
        --require-hashes -r /src/requirements/runtime.txt \
    && cd /opt/call-processor/lib/python3.*/site-packages \
    && rm -rf pyarrow/*flight* pyarrow/*_s3* pyarrow/include pyarrow/src \
        pyarrow/libarrow_python.so pyarrow/libarrow_python.so.*.*.* \
    && find . -depth -type d -name tests -exec rm -rf {} + \
    && find . -regex '.*\.\(py[xi]\|px[di]\|[ch]\|a\)' -delete \
    && /opt/call-processor/bin/python -m compileall -q --invalidation-mode unchecked-hash -x 'pygments/(lexers|styles)' .

# The wheel, made and installed into a tree of its own by what the lock names.
COPY requirements/build.txt /src/requirements/
RUN /opt/tools/bin/python -m pip install --require-hashes -r /src/requirements/build.txt
COPY pyproject.toml README.md LICENSE /src/
COPY schemas /src/schemas
COPY processor /src/processor
RUN cd /src \
    && /opt/tools/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/tools/bin/python -m pip --python /opt/call-processor/bin/python install --no-deps --no-compile --root /tree /dist/*.whl \
    && /opt/call-processor/bin/python -m compileall -q --invalidation-mode unchecked-hash -s /tree -p / /tree

FROM ${PYTHON_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="call-processor" \
      org.opencontainers.image.description="LLM calls in, exact totals out: finished calls of the W&B Weave service API, through Kafka" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/call-processor /opt/call-processor
COPY --from=build /tree/opt/call-processor /opt/call-processor
ENV PATH=/opt/call-processor/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Numeric, so that Kubernetes can see that it is not root; no entry in /etc/passwd is needed.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["call-processor"]
CMD ["--help"]
