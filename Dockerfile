# Small, non-root, and content with a read-only root file system: it writes to /data only.
# Behind a package mirror: --build-arg PIP_INDEX_URL=…, or put wheels into wheelhouse/ and no index is asked:
#   pip download --require-hashes --only-binary=:all: --python-version 3.13 -d wheelhouse -r requirements/run.txt -r requirements/build.txt
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
# `wheelhouse*` because there may be none; COPY takes the contents of both directories.
COPY requirements wheelhouse* ./
# pip and the build backend live in a virtual environment of their own and stay behind.
RUN python3 -m venv tools && python3 -m venv --without-pip /opt/remediator \
 && if ls ./*.whl >/dev/null 2>&1; then printf '[install]\nno-index = true\nfind-links = /build\n' >/etc/pip.conf; fi \
 && tools/bin/pip install --require-hashes -r build.txt \
 && tools/bin/pip --python /opt/remediator/bin/python install --require-hashes --only-binary=:all: -r run.txt
COPY pyproject.toml README.md ./
COPY playbooks playbooks
COPY remediator remediator
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && tools/bin/pip --python /opt/remediator/bin/python install --no-deps --no-index dist/*.whl

FROM ${PYTHON_IMAGE}
RUN mkdir /data && chown 65532:65532 /data
COPY --from=build /opt/remediator /opt/remediator
COPY playbooks /etc/remediator/playbooks
ENV PATH=/opt/remediator/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    REMEDIATOR_PLAYBOOKS=/etc/remediator/playbooks \
    REMEDIATOR_STORE=sqlite:////data/remediator.db
USER 65532:65532
VOLUME /data
EXPOSE 9595
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "\
import http.client, os; \
port = os.environ.get('REMEDIATOR_LISTEN', ':9595').rpartition(':')[2]; \
ask = http.client.HTTPConnection('127.0.0.1', int(port), timeout=2); \
ask.request('GET', '/-/healthy'); \
raise SystemExit(ask.getresponse().status != 200)"]
ENTRYPOINT ["remediator"]
CMD ["serve"]
