"""The few icons of the pages, as inline SVG that takes the colour of its text."""

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

_PATHS = {
    "check": '<path d="M3 8.5l3.2 3.2L13 4.8"/>',
    "cross": '<path d="M4 4l8 8M12 4l-8 8"/>',
    "warning": '<path d="M8 2.2L14.6 13.6H1.4zM8 6.4v3.4M8 11.6v.4"/>',
    "info": '<circle cx="8" cy="8" r="6.3"/><path d="M8 7.2v4M8 4.6v.5"/>',
    "clock": '<circle cx="8" cy="8" r="6.3"/><path d="M8 4.4V8l2.4 1.6"/>',
    "lock": '<rect x="3.2" y="7" width="9.6" height="6.6" rx="1.2"/>'
    '<path d="M5.2 7V5a2.8 2.8 0 0 1 5.6 0v2"/>',
    "up": '<path d="M8 13V3.4M4 7.2l4-4 4 4"/>',
    "down": '<path d="M8 3v9.6M4 8.8l4 4 4-4"/>',
    "arrow": '<path d="M3 8h9.6M8.8 4l4 4-4 4"/>',
    "question": '<circle cx="8" cy="8" r="6.3"/>'
    '<path d="M6.2 6.3a1.9 1.9 0 1 1 2.6 1.8c-.5.2-.8.6-.8 1.2M8 11.6v.3"/>',
    "half": '<circle cx="8" cy="8" r="6.3"/>'
    '<path d="M8 1.7v12.6A6.3 6.3 0 0 1 8 1.7z" fill="currentColor"/>',
    "dash": '<path d="M3 8h10"/>',
    "plus": '<path d="M8 3v10M3 8h10"/>',
    "ring": '<circle class="mark-ring" cx="8" cy="8" r="5.4"/>',
}


def icon(name: str, size: int = 16) -> SafeString:
    """An icon hidden from assistive technology: its meaning always stands beside it in words.

    Raises:
        KeyError: there is no icon of that name.
    """
    return format_html(
        '<svg viewBox="0 0 16 16" width="{0}" height="{0}" fill="none" stroke="currentColor" '
        'stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">'
        "{1}</svg>",
        size,
        mark_safe(_PATHS[name]),  # noqa: S308 - our own constant
    )
