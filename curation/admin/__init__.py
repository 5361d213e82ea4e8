"""Django's own admin: review of retrain results, stuck jobs, quotas, users."""

from curation.admin import audit, jobs, projects, registrations, retrains, users

__all__ = ["audit", "jobs", "projects", "registrations", "retrains", "users"]
