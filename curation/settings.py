"""All settings, read from the environment. Without DATABASE_URL and REDIS_URL the embedded parts
are used."""

import os
import secrets
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from environs import Env, validate

from curation.operations.logs import logging_settings
from embedded.urls import ServiceConfigurationError, service_urls

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env()

VAR = env.path("HUNCH_VAR", BASE_DIR / "var")
try:
    SERVICES = service_urls(VAR)
except ServiceConfigurationError as error:
    raise ImproperlyConfigured(str(error)) from error
EMBEDDED = SERVICES.embedded


SHORTEST_KEY = 32


def _secret(name: str) -> str:
    """A secret from the variable of this name, or from the file that `NAME_FILE` names."""
    value = env.str(name, "")
    file = env.str(f"{name}_FILE", "")
    return value or (Path(file).read_text().strip() if file else "")


def _secret_key() -> str:
    """A key from the environment or a file; an embedded site makes its own on the first start."""
    key = _secret("SECRET_KEY")
    if not key and EMBEDDED:
        path = VAR / "secret_key"
        if not path.exists():
            aside = VAR / f"secret_key.{os.getpid()}"
            VAR.mkdir(parents=True, exist_ok=True)
            aside.touch(mode=0o600)
            aside.write_text(secrets.token_urlsafe(50))
            with suppress(FileExistsError):  # another process was first: its key counts
                path.hardlink_to(aside)
            aside.unlink()
        key = path.read_text().strip()
    if len(key) < SHORTEST_KEY:
        raise ImproperlyConfigured(
            f"Set SECRET_KEY or SECRET_KEY_FILE to at least {SHORTEST_KEY} random characters: a "
            "site with servers of its own never starts with a default key."
        )
    return key


def object_storage() -> dict[str, Any]:
    """The bucket that the variables name; any server that speaks S3."""
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": env.str("S3_BUCKET"),
            "endpoint_url": env.str("S3_ENDPOINT_URL", "") or None,
            "region_name": env.str("S3_REGION", "") or None,
            # Without keys boto3 looks where it always does: its own variables, the machine's role.
            "access_key": _secret("S3_ACCESS_KEY") or None,
            "secret_key": _secret("S3_SECRET_KEY") or None,
            "addressing_style": env.str("S3_ADDRESSING_STYLE", "auto"),
            "signature_version": "s3v4",
            "default_acl": None,  # the bucket's own rules: private
            "file_overwrite": True,  # a name is a hash: the same content again
            "max_memory_size": 8 * 1024**2,  # more goes through a temporary file
        },
    }


SECRET_KEY = _secret_key()
DEBUG = env.bool("DEBUG", False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
SITE_ADDRESS = env.str("SITE_ADDRESS", "")

INSTALLED_APPS = [
    "curation.apps.CurationConfig",
    "curation.web",
    "curation.apps.CurationAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "csp",
    "ninja",
]

MIDDLEWARE = [
    "curation.operations.requests.RequestMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "curation.unavailable.UnavailableMiddleware",
]

ROOT_URLCONF = "curation.urls"
WSGI_APPLICATION = "curation.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
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

DATABASES = {
    "default": dj_database_url.parse(
        SERVICES.database_url, conn_max_age=env.int("CONN_MAX_AGE", 60), conn_health_checks=True
    )
}
# A server that went without a word is noticed within half a minute; no effect on unix sockets.
DATABASES["default"]["OPTIONS"] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,  # milliseconds
    **DATABASES["default"].get("OPTIONS", {}),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": SERVICES.redis_url,
        "KEY_PREFIX": "hunch",
    }
}

CELERY_BROKER_URL = SERVICES.celery_url
JOB_VISIBILITY_TIMEOUT = env.int("JOB_VISIBILITY_TIMEOUT", 4 * 3600)
JOB_LEASE_SECONDS = env.int("JOB_LEASE_SECONDS", 60)
JOB_TIME_LIMIT_SECONDS = env.int("JOB_TIME_LIMIT_SECONDS", 4 * 3600)
JOB_MEMORY_LIMIT_BYTES = env.int("JOB_MEMORY_LIMIT_BYTES", 0)  # 0: most of the machine's memory
JOB_REQUEUE_AFTER_SECONDS = env.int("JOB_REQUEUE_AFTER_SECONDS", 30)
JOB_SWEEP_SECONDS = env.int("JOB_SWEEP_SECONDS", 15)
FILE_GRACE_SECONDS = env.int("FILE_GRACE_SECONDS", 86_400)
DELETION_GRACE_SECONDS = env.int("DELETION_GRACE_SECONDS", 7 * 86_400)

DEVICE = env.str("HUNCH_DEVICE", "cpu")
MEDIA_ROOT = env.path("HUNCH_FILES", VAR / "files")
WORK_ROOT = env.path("HUNCH_WORK", VAR / "work")
GRADIENTS_ROOT = env.path("HUNCH_GRADIENTS", WORK_ROOT / "gradients")
GRADIENTS_MAX_BYTES = env.int("GRADIENTS_MAX_BYTES", 40 * 1024**3)
DOWNLOAD_SECONDS = 300  # how long the address of a download in object storage holds
FILE_CACHE_MAX_BYTES = env.int("FILE_CACHE_MAX_BYTES", 20 * 1024**3)
STORAGES = {
    "default": object_storage()
    if env.str("S3_BUCKET", "")
    else {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
STATIC_URL = "static/"
STATIC_ROOT = env.path("STATIC_ROOT", VAR / "static")
UPLOAD_MAX_BYTES = env.int("UPLOAD_MAX_BYTES", 2 * 1024**3)
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024**2
API_REQUESTS_PER_MINUTE = env.int("API_REQUESTS_PER_MINUTE", 600)
API_STARTS_PER_MINUTE = env.int("API_STARTS_PER_MINUTE", 60)
WEBHOOK_ALLOW_PRIVATE_ADDRESSES = env.bool("WEBHOOK_ALLOW_PRIVATE_ADDRESSES", False)
FILE_UPLOAD_TEMP_DIR = env.str("FILE_UPLOAD_TEMP_DIR", "") or None

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
PASSWORD_HASHERS = ["curation.password_hashers.ModestArgon2"]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"
REGISTRATION_OPEN = env.bool("REGISTRATION_OPEN", False)

BEHIND_TLS = env.bool("BEHIND_TLS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SESSION_COOKIE_HTTPONLY = True
SECURE_SSL_REDIRECT = BEHIND_TLS
SECURE_HSTS_SECONDS = 31_536_000 if BEHIND_TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = BEHIND_TLS
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", int(BEHIND_TLS))
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

VERSION: str = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]
LOGGING = logging_settings(
    form=env.str(
        "LOG_FORMAT", "plain" if EMBEDDED else "json", validate=validate.OneOf(["plain", "json"])
    ),
    level=env.str("LOG_LEVEL", "INFO"),
)
METRICS_TOKEN = _secret("METRICS_TOKEN")
SENTRY_DSN = _secret("SENTRY_DSN")
OTEL_EXPORTER_OTLP_ENDPOINT = env.str("OTEL_EXPORTER_OTLP_ENDPOINT", "")
