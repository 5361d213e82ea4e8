"""Recipe: everything besides data and model that makes training deterministic."""

from django.conf import settings as django_settings
from django.db import models

from curation.models.base import Identified
from curation.models.project import Project


class Recipe(Identified):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="recipes")
    name = models.CharField(max_length=120)
    settings = models.JSONField(help_text="The fields of workers.training.recipe.Recipe.")
    created_by = models.ForeignKey(django_settings.AUTH_USER_MODEL, on_delete=models.PROTECT)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="recipe_name_once_per_project")
        ]

    def __str__(self) -> str:
        return self.name
