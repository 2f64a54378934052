# One image for every process of the service; docker-compose.yml says which command each runs.
FROM python:3.13-slim AS wheels
WORKDIR /wheels
COPY requirements.txt .
RUN pip download --no-cache-dir --only-binary=:all: --require-hashes --dest /wheels -r requirements.txt

FROM python:3.13-slim
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN useradd --system --create-home --home-dir /home/saga saga
WORKDIR /app
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links=/wheels --require-hashes -r /wheels/requirements.txt
COPY manage.py ./
COPY sagaproject sagaproject
COPY sagas sagas
COPY compensation compensation
COPY bridge bridge
# Static files belong to the image. Collecting them needs settings, but no server, and none of this stays in the image.
RUN ENVIRONMENT=prod SECRET_KEY=collectstatic-needs-none-of-this-0123456789 ALLOWED_HOSTS=build.invalid \
    SAGA_PUBLISHING=paused DATABASE_URL=postgresql://build.invalid/none CELERY_BROKER_URL=redis://build.invalid \
    PULSAR_SERVICE_URL=pulsar://build.invalid:6650 python manage.py collectstatic --no-input
USER saga
EXPOSE 8085
CMD ["python", "manage.py", "serve"]
