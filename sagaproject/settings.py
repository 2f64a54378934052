"""Django settings."""

import os
from urllib.parse import urlparse

url = urlparse(os.environ.get("DATABASE_URL", "postgresql://postgres@127.0.0.1/postgres"))
SECRET_KEY = os.environ.get("SECRET_KEY", "dev")
DEBUG = True
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = [
    "sagaproject",
    "sagas",
    "compensation",
    "bridge",
    "django.contrib.auth",
    "django.contrib.contenttypes",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path.lstrip("/") or "postgres",
        "USER": url.username or "postgres",
        "PASSWORD": url.password or "",
        "HOST": url.hostname or "",
        "PORT": url.port or "",
    }
}
BRIDGE_CATALOG = "sagaproject.composition.bridge_catalog"
WAKEUPS = {"apply": "sagas.apply", "publish": "compensation.publish"}
