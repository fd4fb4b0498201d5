# syntax=docker/dockerfile:1
FROM python:3.12-slim AS build
WORKDIR /srv/switchwise
COPY requirements-service.lock ./
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements-service.lock

FROM python:3.12-slim
ENV PATH="/opt/venv/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/srv/switchwise \
    SWITCHWISE_HOME=/var/lib/switchwise \
    LOG_FORMAT=json
RUN useradd --system --uid 10001 --home-dir /var/lib/switchwise --create-home switchwise
WORKDIR /srv/switchwise
COPY --from=build /opt/venv /opt/venv
COPY alembic.ini ./
COPY alembic ./alembic
COPY app ./app
COPY config ./config
RUN python -m compileall -q app
COPY docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
USER 10001
VOLUME /var/lib/switchwise
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-m", "app", "status", "--health"]
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["serve"]
