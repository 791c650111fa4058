"""Django settings. Everything that differs between installations comes from RETIRE_CLUSTER_* variables."""

from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from retire_cluster import admin_theme, datadir, env, hosts, logs
from retire_cluster.api import rates

PACKAGE_DIR = Path(__file__).resolve().parent
BASE_DIR = PACKAGE_DIR.parent

try:
    DATA_DIR = datadir.location()
    SECRET_KEY = datadir.secret_key(DATA_DIR)
    DEBUG = env.flag("DEBUG", default=False)
    DATABASE_URL = env.text("DATABASE_URL", f"sqlite:///{DATA_DIR / 'retire-cluster.sqlite3'}")
    DATABASE_POOL = env.integer("DATABASE_POOL", 16, 4, 200)  # connections of a process, on PostgreSQL
    REDIS_URL = env.text("REDIS_URL", "")
    BROKER_URL = env.text("BROKER_URL", REDIS_URL)
    EXTRA_ALLOWED_HOSTS = env.items("ALLOWED_HOSTS")
    ALLOWED_ORIGINS = env.items("ALLOWED_ORIGINS")  # of other sites whose pages may use the API
    TRUSTED_PROXIES = env.items("TRUSTED_PROXIES")  # addresses and networks
    env.checked("TRUSTED_PROXIES", lambda: hosts.networks(tuple(TRUSTED_PROXIES)))
    RATE_LIMITS = env.text("RATE_LIMITS", "60/minute;1000/hour")
    env.checked("RATE_LIMITS", lambda: rates.parse(RATE_LIMITS))
    API_KEYS = env.items("API_KEY")  # besides those in the database; these are never stored
    AUTH = env.choice("AUTH", "", ("", "on", "all"))  # on: no privilege for loopback; all: no open reads
    CLUSTER_HOST = env.text("CLUSTER_HOST", "localhost")
    JOIN_HOST = env.text("JOIN_HOST", "")  # how devices reach the gateway, for join lines; else found out
    CLUSTER_PORT = env.integer("CLUSTER_PORT", 8080, 1, 65_535)
    # Requests that may block a thread for ?wait= under WSGI; keep it below the server's threads.
    WSGI_WAITERS = env.integer("WSGI_WAITERS", 1, 0, 1000)
    LOG_FILE = logs.file_options(env.text("LOG_FILE", ""))
except (env.EnvError, datadir.DataDirError) as problem:
    raise ImproperlyConfigured(str(problem)) from None

# HostMiddleware decides: Django's list cannot say "any IP literal and this machine's own names".
ALLOWED_HOSTS = ["*"]

INSTALLED_APPS = [
    "retire_cluster.apps.RetireClusterConfig",
    "retire_cluster.events.apps.EventsConfig",
    "clusterconfig.apps.ClusterconfigConfig",
    "devices.apps.DevicesConfig",
    "tasks.apps.TasksConfig",
    "retire_cluster.dashboard.apps.DashboardConfig",
    "unfold",  # before Django's admin, whose site and templates it replaces
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    "retire_cluster.middleware.ForwardedProtoMiddleware",
    "retire_cluster.middleware.RequestMiddleware",
    "retire_cluster.middleware.SecurityHeadersMiddleware",
    "retire_cluster.middleware.HostMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "retire_cluster.middleware.StrictSessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "retire_cluster.middleware.CrossSiteMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "clusterconfig.throttling.RateLimitMiddleware",  # knows sessions; foreign pages were refused before
    "django.contrib.messages.middleware.MessageMiddleware",
    "retire_cluster.dashboard.guesses.GuessesMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

AUTHENTICATION_BACKENDS = ["clusterconfig.backends.PasswordBackend"]
CSRF_FAILURE_VIEW = "retire_cluster.fallback.csrf_failure"
CSRF_TRUSTED_ORIGINS = [origin for origin in ALLOWED_ORIGINS if "://" in origin]
ROOT_URLCONF = "retire_cluster.urls"
WSGI_APPLICATION = "retire_cluster.api.wsgi.app"
APPEND_SLASH = False  # both slash forms are routes of their own; a redirect would lose a POST's body

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Beside the apps in a checkout, inside the package in a wheel.
        "DIRS": [BASE_DIR / "templates", PACKAGE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def _database(url: str) -> dict[str, Any]:
    """Options of the one database, by kind."""
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(url))
    except (ValueError, KeyError) as error:
        raise ImproperlyConfigured(f"RETIRE_CLUSTER_DATABASE_URL: {error}") from None
    config["ATOMIC_REQUESTS"] = False
    if config["ENGINE"].endswith("sqlite3"):
        config["CONN_MAX_AGE"] = None  # a connection per thread, kept: opening one costs more than a query
        config["OPTIONS"] = {
            # A deferred transaction that turns into a write fails at once when another wrote meanwhile.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,  # seconds; for other processes, ours queue on a lock of their own
            "init_command": (
                "PRAGMA journal_mode=WAL;"
                "PRAGMA synchronous=FULL;"  # a 201 survives a power cut
                "PRAGMA journal_size_limit=67108864;"
                "PRAGMA temp_store=MEMORY;"
            ),
        }
    else:
        if config["ENGINE"].endswith("postgresql"):
            config["ENGINE"] = "retire_cluster.postgres"
        config["CONN_MAX_AGE"] = 0  # the pool keeps connections; Celery's fixup would close persistent ones
        config["OPTIONS"] = {
            "connect_timeout": 3,
            **config.get("OPTIONS", {}),
            # Seconds: for a connection while all are busy, and for the pool's own tries to make one.
            "pool": {"min_size": 1, "max_size": DATABASE_POOL, "timeout": 5, "reconnect_timeout": 5},
            "options": "-c idle_in_transaction_session_timeout=5000",
        }
    return config


DATABASES = {"default": _database(DATABASE_URL)}
WATCH_DATABASE = True  # threads that notice what other processes committed; tests do without
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = "retire_cluster.formats"

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True  # no collectstatic step
WHITENOISE_AUTOREFRESH = DEBUG
# Pages name each file with a hash of what is in it; what a sheet or script names itself may be a day old.
WHITENOISE_MAX_AGE = 0 if DEBUG else 86_400  # seconds
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "retire_cluster.statics.VersionedStorage"},
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

DATA_UPLOAD_MAX_MEMORY_SIZE = 512 * 1024  # bytes of a request body; beyond it 413
BATCH_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024 * 1024  # of a batch of tasks
SESSION_COOKIE_HTTPONLY = True
FORWARDED_SCHEME = "retire_cluster.forwarded_scheme"  # in META: what a trusted proxy says that it speaks
SECURE_PROXY_SSL_HEADER = (FORWARDED_SCHEME, "https")
# With a certificate of the operator's own this process speaks TLS only. Behind a proxy's the middleware marks them.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = bool(env.text("TLS_CERT", ""))
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
SILENCED_SYSTEM_CHECKS = [
    # A home cluster is reached over plain HTTP on a LAN; TLS is the gateway's and the proxy's business.
    "security.W004",
    "security.W008",
    "security.W010",
    "security.W012",
    "security.W016",
    "security.W020",
]

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_RENDERER_CLASSES": [
        "retire_cluster.api.renderers.EnvelopeRenderer",
        "retire_cluster.api.renderers.EnvelopeBrowsableRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": [
        "retire_cluster.api.parsers.StrictJSONParser",
        "retire_cluster.api.parsers.SessionFormParser",
    ],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "retire_cluster.api.negotiation.LenientNegotiation",
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "clusterconfig.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["clusterconfig.permissions.OpenRead"],
    "DEFAULT_PAGINATION_CLASS": "retire_cluster.api.pagination.EnvelopePagination",
    "DEFAULT_FILTER_BACKENDS": ["retire_cluster.api.filters.StrictFilterBackend"],
    "EXCEPTION_HANDLER": "retire_cluster.api.exceptions.handle",
    "DEFAULT_SCHEMA_CLASS": "retire_cluster.api.schema.EnvelopeSchema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Retire-Cluster",
    "DESCRIPTION": "Retired phones, laptops, Raspberry Pis and NAS boxes as one work cluster.",
    "VERSION": "v1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "PREPROCESSING_HOOKS": ["retire_cluster.api.schema.plain_paths"],
    "POSTPROCESSING_HOOKS": [],
    "COMPONENT_SPLIT_REQUEST": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "/static/retire_cluster/icon.svg",
    "REDOC_DIST": "SIDECAR",
}

UNFOLD = admin_theme.UNFOLD

CELERY_BROKER_URL = BROKER_URL or "memory://"


def _transport_options(url: str) -> dict[str, Any]:
    """What the broker's transport understands: each knows others, and RabbitMQ's none of these."""
    if not url:
        return {"polling_interval": 0.25}  # how often it looks for messages; nothing waits for it
    if url.startswith("redis"):
        return {"socket_timeout": 0.3, "socket_connect_timeout": 0.3}  # seconds
    return {}


CELERY_BROKER_TRANSPORT_OPTIONS = _transport_options(BROKER_URL)
CELERY_BROKER_CONNECTION_TIMEOUT = 1.0  # seconds; the thread that sends hints tries again later
# Named: one broker may serve several programs, and each takes what is in "celery".
CELERY_TASK_DEFAULT_QUEUE = "retire-cluster"
# All jobs are hints that the next beat repeats: not worth a disk's write, nor a second delivery after a worker's
# death, so messages are acknowledged before the job runs (Celery's default, acks_late off).
CELERY_TASK_DEFAULT_DELIVERY_MODE = "transient"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = (
    None  # for ever: a worker that gave up would have to be started by somebody
)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_HIJACK_ROOT_LOGGER = False


def _lifetime(seconds: int) -> dict[str, int]:
    """A message nobody took is void then: `expires` tells the worker, `expiration` has RabbitMQ drop it itself."""
    return {"expires": seconds, "expiration": seconds}


CELERY_BEAT_SCHEDULE = {
    "dispatch": {"task": "tasks.dispatch", "schedule": 5.0, "options": _lifetime(5)},
    "sweep": {"task": "tasks.sweep", "schedule": 5.0, "options": _lifetime(5)},
    "retention": {"task": "tasks.retention", "schedule": 3600.0, "options": _lifetime(3600)},
}

LOGGING = logs.configuration(debug=DEBUG, file=LOG_FILE)
