"""Django's own admin: review of retrain results, stuck jobs, quotas, users."""
