"""Django's registration of the application and of its review site."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class CurationConfig(AppConfig):
    name = "curation"
    verbose_name = "Hunch"

    def ready(self) -> None:
        from django.conf import settings

        from curation.operations import errors, tracing
        from workers.celery import app  # noqa: F401  the producer side: configures Celery's default app

        if settings.SENTRY_DSN:
            errors.report_errors(settings.SENTRY_DSN, release=settings.VERSION)
        if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
            tracing.trace_to(release=settings.VERSION)


class CurationAdminConfig(AdminConfig):
    default_site = "curation.review_site.ReviewSite"
