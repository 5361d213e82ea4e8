"""The WSGI application that gunicorn serves. It never imports torch or transformers."""

import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "curation.settings")
application = get_wsgi_application()
get_resolver().url_patterns  # noqa: B018  imports the views now, not with the first visitor waiting
