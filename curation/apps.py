"""Django's registration of the application and of its review site."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class CurationConfig(AppConfig):
    name = "curation"
    verbose_name = "Hunch"

    def ready(self) -> None:
        from workers.celery import app  # noqa: F401  the producer side: configures Celery's default app


class CurationAdminConfig(AdminConfig):
    default_site = "curation.review_site.ReviewSite"
