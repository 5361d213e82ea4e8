"""How passwords are hashed: Argon2id at the memory that OWASP's password storage guide gives.

Django's own parameters take 100 MiB a hash: eight threads that answer guesses would take more than
a small web server has. Older hashes are renewed when their owner signs in.
"""

from django.contrib.auth.hashers import Argon2PasswordHasher


class ModestArgon2(Argon2PasswordHasher):
    """19 MiB, two passes, one lane (`argon2id`, OWASP's first recommendation for this memory)."""

    time_cost = 2
    memory_cost = 19_456  # KiB
    parallelism = 1
