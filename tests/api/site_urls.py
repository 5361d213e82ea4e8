from django.urls import path

from curation.api import api

urlpatterns = [path("api/v1/", api.urls)]
