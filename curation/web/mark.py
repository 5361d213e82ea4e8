"""The mark “hypothesis, not a guarantee”, for charts; templates include the same component."""

from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe


def hypothesis_mark() -> SafeString:
    written = render_to_string("components/hypothesis_mark.html")
    return mark_safe(written.strip())  # noqa: S308 - a template without variables
