"""Django's settings, derived from sagaproject.env."""

import ssl
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.utils.translation import gettext_lazy as _

from sagaproject import env, setting
from sagaproject.version import VERSION

ENV = env.load()
BASE_DIR = env.ROOT

# Each setting of these groups under its own name: BRIDGE_…, SAGA_…, APPLY_…, API_….
globals().update(
    setting.flat("BRIDGE", ENV.bridge)
    | setting.flat("SAGA", ENV.sagas)
    | setting.flat("APPLY", ENV.applying)
    | setting.flat("API", ENV.api)
)
ENVIRONMENT = ENV.service.name
NO_STACK = ENV.no_stack
DEBUG = ENV.service.debug
SECRET_KEY = ENV.service.secret_key
ALLOWED_HOSTS = list(ENV.service.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(ENV.service.csrf_trusted_origins)

INSTALLED_APPS = [
    "sagaproject",
    "sagas",
    "compensation",
    "bridge",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "axes",
    "corsheaders",
    # The image and the wheel have none, so no `demo`, `up` or `fill` either.
    *(["devtools"] if ENVIRONMENT == "dev" and env.has_devtools() else []),
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "sagaproject.headers.SecurityHeaders",
    # Before everything that may answer, so that a page of an allowed origin can also read a 401 or a 429.
    "corsheaders.middleware.CorsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "sagaproject.throttling.AnonymousThrottle",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "sagaproject.urls"
WSGI_APPLICATION = "sagaproject.wsgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# Database -------------------------------------------------------------------------------------------------------------
_DATABASE = ENV.database
DATABASES = {
    "default": {
        **_DATABASE,
        # With each BEGIN: behind PgBouncer the session's own default (sagaproject.environment) is ignored.
        "OPTIONS": {**_DATABASE["OPTIONS"], "isolation_level": IsolationLevel.READ_COMMITTED},
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Logins ---------------------------------------------------------------------------------------------------------------
# Five failures of a name from one address lock the name for that address, for 15 minutes from the last failure.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
# Attempts during a lock neither extend it nor are stored.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_USERNAME_CALLABLE = "sagaproject.lockout.username"
AXES_CLIENT_IP_CALLABLE = "sagaproject.clients.address"
AXES_CLIENT_STR_CALLABLE = "sagaproject.lockout.describe_client"
AXES_LOCKOUT_CALLABLE = "sagaproject.lockout.locked_out"
# Masked, like the password, where a failed form is stored.
AXES_SENSITIVE_PARAMETERS = ["username", "next", "csrfmiddlewaretoken"]
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
SESSION_ENGINE = "sagaproject.sessions"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "sagaproject.error_pages.csrf_failure"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"

if ENV.api.https:
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = True
    # Probes speak plain HTTP to the container itself.
    SECURE_REDIRECT_EXEMPT = [r"^health/?$", r"^api/v1/saga/health/?$"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
TRUSTED_PROXIES = ENV.api.proxy_count if ENV.api.behind_proxy else 0
if ENV.api.behind_proxy:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# Languages and time ---------------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("es", _("Spanish"))]
LOCALE_PATHS = [BASE_DIR / "sagas" / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# Static files: whitenoise serves them, in dev straight from the packages ----------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
# Files with fixed addresses: browsers ask for /favicon.ico unasked.
WHITENOISE_ROOT = BASE_DIR / "sagas" / "static" / "sagas" / "root"
WHITENOISE_USE_FINDERS = ENV.is_dev
WHITENOISE_AUTOREFRESH = ENV.is_dev
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if ENV.is_dev
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# Admin ----------------------------------------------------------------------------------------------------------------
UNFOLD = {
    "SITE_TITLE": _("Saga service"),
    "SITE_HEADER": _("Saga service"),
    "SITE_SUBHEADER": _("for support staff"),
    "SITE_SYMBOL": "account_tree",
    "SITE_URL": None,
    "SHOW_LANGUAGES": True,
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "sagas.admin.start.context",
    "STYLES": ["sagas.admin.menu.stylesheet"],
    "SCRIPTS": ["sagas.admin.menu.script"],
    "COLORS": {"primary": "sagas.admin.menu.colour"},
    "SIDEBAR": {"navigation": "sagas.admin.menu.navigation"},
}

# API ------------------------------------------------------------------------------------------------------------------
# In dev reads need no login, so that the quick start works with curl. Writes always need one.
API_OPEN_READS = ENV.is_dev
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "sagas.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        f"rest_framework.permissions.{'IsAuthenticatedOrReadOnly' if API_OPEN_READS else 'IsAuthenticated'}"
    ],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": ["sagaproject.login_throttle.LoginThrottle"],
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
# Pages of other origins may use the API with a token. Never with the session cookie: credentials are not allowed.
CORS_ALLOWED_ORIGINS = list(ENV.api.cors_origins)
CORS_URLS_REGEX = r"^/api/v1/saga/"
CORS_ALLOW_CREDENTIALS = False
CORS_ALLOW_METHODS = ("GET", "POST")
CORS_ALLOW_HEADERS = ("authorization", "content-type", "idempotency-key")
CORS_EXPOSE_HEADERS = ("retry-after",)
# No throttling in dev: the simulator and the tests send more requests than any person.
REQUEST_RATES = {} if ENV.is_dev else {"address": ENV.api.throttle_anon, "login": ENV.api.throttle_user}
REST_KNOX = {
    "SECURE_HASH_ALGORITHM": "hashlib.sha512",
    "TOKEN_TTL": timedelta(days=90),
    "AUTO_REFRESH": False,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Saga service",
    "DESCRIPTION": "Sagas, what they are waiting for, and the decisions that people can make about them.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": REST_FRAMEWORK["DEFAULT_PERMISSION_CLASSES"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "sagas.api.schema.add_health"],
    "ENUM_NAME_OVERRIDES": {
        "SagaStatus": "sagas.models.SagaStatusChoice",
        "StepStatus": "sagas.engine.definition.StepStatus",
        "CommandStatus": "compensation.models.CommandStatus",
        "MessageStatus": "bridge.models.QuarantineStatus",
        "JobStatus": "sagas.models.JobStatus",
        "JobItemStatus": "sagas.models.JobItemStatus",
        "IncidentKind": "sagas.incidents.kinds.CHOICES",
    },
}

# Values for the packages ----------------------------------------------------------------------------------------------
BRIDGE_CATALOG = "sagaproject.composition.bridge_catalog"
ANSWERING_TOPICS = "sagaproject.composition.answering_topics"
REFUSING_TYPES = "sagaproject.composition.refusing_types"
COMMAND_OTHERS = "sagas.applying.shared_entities.others"
COMMAND_SHARERS = "sagas.applying.shared_entities.others_by_saga"
WAKEUPS = {"apply": "sagas.apply", "publish": "compensation.publish", "jobs": "sagas.run_jobs"}
PULSAR: dict[str, Any] = asdict(ENV.pulsar)
SAGA_RETRY: dict[str, Any] = asdict(ENV.retry)

# Celery: the work is stored in PostgreSQL, a task is only a nudge, and beat's sweeps find the work of lost nudges -----
CELERY_BROKER_URL = ENV.celery_broker_url
if CELERY_BROKER_URL.startswith("amqps://"):
    CELERY_BROKER_USE_SSL = {
        "cert_reqs": ssl.CERT_REQUIRED,
        "ca_certs": ENV.celery.broker_tls_ca_file or None,
        "server_hostname": urlsplit(CELERY_BROKER_URL).hostname,
    }
elif CELERY_BROKER_URL.startswith("rediss://") and ENV.celery.broker_tls_ca_file:
    CELERY_BROKER_URL += f"&ssl_ca_certs={quote(ENV.celery.broker_tls_ca_file)}"
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
# Otherwise beat also schedules Celery's daily cleanup of results, which uses the wall clock.
CELERY_RESULT_EXPIRES = None
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_TASK_DEFAULT_QUEUE = "housekeeping"
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_ACKS_ON_FAILURE = True
CELERY_TASK_ACKS_ON_TIMEOUT = True
CELERY_TASK_SOFT_TIME_LIMIT = 50
CELERY_TASK_TIME_LIMIT = 60
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = 1000
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 400_000
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_POOL_ACQUIRE_TIMEOUT = 5
# A new connection costs 5 ms per task, more than a small task; docs/configuration.md describes the cost of reuse.
CELERY_DB_REUSE_MAX = ENV.celery.db_reuse_max
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = (
    {"confirm_publish": True, "connect_timeout": 3, "read_timeout": 30, "write_timeout": 10}
    if CELERY_BROKER_URL.startswith("amqp")
    else {
        "visibility_timeout": ENV.celery.visibility_timeout,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 5,
        "global_keyprefix": "saga:",
    }
)
# In memory: sweeps run every two seconds, so their last run need not be stored in a file.
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"

# Logs: ids and types, never payload -----------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "sagaproject.logs.LineFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": ENV.service.log_level},
    "loggers": {
        "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        # It logs each request that waits for a thread, hundreds per second under load.
        "waitress.queue": {"level": "ERROR"},
        # Celery logs task arguments. Ours are empty or ids, but nothing below INFO is needed.
        "celery": {"level": "INFO"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.worker.request": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    },
}
