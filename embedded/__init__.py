"""PostgreSQL and Valkey as child processes, and the supervisor that runs them beside the site.

Nothing here knows Django, the models or the tasks; importing this package starts nothing.
"""
