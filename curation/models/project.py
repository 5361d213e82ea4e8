"""Project and its members: the unit of access. Everything else belongs to one project."""

from django.conf import settings
from django.db import models
from django.db.models import ManyToManyField

from curation.models.base import Deletable


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    EDITOR = "editor", "Editor"
    REVIEWER = "reviewer", "Reviewer"
    VIEWER = "viewer", "Viewer"


class Project(Deletable):
    name = models.CharField(max_length=120)
    description = models.TextField(max_length=4000, blank=True)
    is_sample = models.BooleanField(default=False)
    disk_quota_bytes = models.BigIntegerField(default=20 * 1024**3)
    max_running_jobs = models.PositiveSmallIntegerField(default=2)
    archived_at = models.DateTimeField(null=True, blank=True)
    # By its own name: a project's reverse relation `models` hides the module from type checks.
    members = ManyToManyField(
        settings.AUTH_USER_MODEL, through="Membership", related_name="projects"
    )

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.CharField(max_length=10, choices=Role.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "user"], name="one_membership_per_user"),
            models.CheckConstraint(
                condition=models.Q(role__in=Role.values), name="membership_role_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.get_role_display()}"
