"""What the templates call: number formats, icons and the chips of states and outcomes."""

from datetime import datetime
from typing import Any

from django import template
from django.forms import BoundField
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from curation.queries.method_choices import candidate_title
from curation.web import formatting
from curation.web.icons import icon as draw_icon

register = template.Library()

for _name in (
    "number",
    "signed",
    "percentage",
    "count",
    "compact_count",
    "duration",
    "file_size",
    "short_hash",
):
    register.filter(_name, getattr(formatting, _name))

# State or outcome → (look of the chip, icon). Every chip says in words what its colour says.
_CHIPS = {
    "ready": ("good", "check"),
    "succeeded": ("good", "check"),
    "complete": ("good", "check"),
    "supported": ("good", "check"),
    "accepted": ("good", "check"),
    "direction_only": ("warn", "half"),
    "inconclusive": ("", "question"),
    "not_finished": ("", "clock"),
    "contradicted": ("bad", "cross"),
    "invalidated": ("bad", "cross"),
    "abandoned": ("", "dash"),
    "failed": ("bad", "cross"),
    "refused": ("bad", "cross"),
    "cancelled": ("", "dash"),
    "running": ("live", "clock"),
    "training": ("live", "clock"),
    "importing": ("live", "clock"),
    "uploaded": ("live", "clock"),
    "checking": ("live", "clock"),
    "waiting": ("", "clock"),
    "queued": ("", "clock"),
    "inspected": ("warn", "arrow"),
    "locked": ("", "lock"),
    "frozen": ("", "lock"),
    "draft": ("", "dash"),
}


@register.simple_tag
def icon(name: str, size: int = 16) -> SafeString:
    return draw_icon(name, size)


@register.simple_tag
def state_chip(state: str, words: str) -> SafeString:
    """A chip with an icon and words for the state of an object or the outcome of a test."""
    look, name = _CHIPS.get(state, ("", "dash"))
    return format_html(
        '<span class="chip{}">{}{}</span>',
        f" chip-{look}" if look else "",
        draw_icon(name, 13),
        words,
    )


@register.simple_tag
def level(value: float | None, unit: str) -> str:
    return formatting.with_unit(value, unit)


@register.simple_tag
def level_range(low: float, high: float, unit: str) -> str:
    """``0.067 to 0.756``: two levels with the digits that tell them apart, without unit."""
    low, shown = formatting.in_unit(low, unit)  # type: ignore[assignment]
    high, _ = formatting.in_unit(high, unit)  # type: ignore[assignment]
    decimals = formatting.decimals_for(high - low, high)
    text = f"{formatting.number(low, decimals)} to {formatting.number(high, decimals)}"
    return text + ("%" if shown == "%" else "")


@register.simple_tag
def change(
    value: float | None, unit: str, low: float | None = None, high: float | None = None
) -> str:
    """A signed change with its unit; with ``low`` and ``high`` its digits follow their width."""
    if low is None or high is None:
        return formatting.change(value, unit)
    return formatting.change(value, unit, formatting.interval_decimals(low, high, unit))


@register.simple_tag
def interval(
    low: float | None,
    high: float | None,
    unit: str = "",
    like_low: float | None = None,
    like_high: float | None = None,
) -> str:
    """An interval; with ``like_low`` and ``like_high`` written with the digits of that interval."""
    if low is None or high is None or like_low is None or like_high is None:
        return formatting.interval(low, high, unit)
    return formatting.interval(
        low, high, unit, formatting.interval_decimals(like_low, like_high, unit)
    )


@register.simple_tag
def estimate(value: float | None, low: float | None, high: float | None, unit: str) -> str:
    return formatting.estimate(value, low, high, unit)


@register.filter
def plural(number_of: int, words: str) -> str:
    """``{{ 3|plural:"example" }}`` → ``3 examples``; ``"box,boxes"`` for odd plurals."""
    return formatting.plural(number_of, *words.split(","))


@register.filter
def ago(moment: datetime | None) -> SafeString | str:
    """A ``<time>`` that reads ``3 minutes ago`` and carries the exact moment."""
    if moment is None:
        return formatting.MISSING
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(),
        moment.strftime("%-d %B %Y, %H:%M UTC"),
        formatting.relative_time(moment, timezone.now()),
    )


@register.filter
def probability(value: float | None) -> str:
    """A p-value: three decimals, and never a zero that it is not."""
    return "< 0.001" if value is not None and value < 0.001 else formatting.number(value, 3)


@register.filter
def words(name: str) -> str:
    """``learning_rate`` → ``Learning rate``."""
    return name.replace("_", " ").capitalize()


@register.filter
def method_title(candidate: str) -> str:
    """``ekfac`` → ``EK-FAC``; ``replay, edit-aware`` → ``Replay, edit-aware``."""
    return candidate_title(candidate)


@register.filter
def get(mapping: Any, key: Any) -> Any:
    """A value of a mapping by a key that is a variable; None when it is absent."""
    return mapping.get(key) if hasattr(mapping, "get") else None


@register.filter
def is_group(field: BoundField) -> bool:
    """Whether the field is a group of inputs (radios, checkboxes) that needs a fieldset."""
    return bool(field.field.widget.use_fieldset)


@register.filter
def is_checkbox(field: BoundField) -> bool:
    return getattr(field.field.widget, "input_type", "") == "checkbox" and not is_group(field)
