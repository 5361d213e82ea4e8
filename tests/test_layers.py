"""What must not be loaded where."""

import subprocess
import sys


def test_the_web_process_starts_without_torch_or_transformers():
    program = (
        "import curation.wsgi, sys; from django.urls import get_resolver; "
        "get_resolver().url_patterns; "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
