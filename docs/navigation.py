"""Fills the sections of mkdocs.yml that name a folder, as `benchmarks/*`, with its pages."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Called by mkdocs once the configuration is read."""
    config.nav = filled(config.nav, Path(config.docs_dir))
    return config


def filled(navigation: list[Any], folder: Path) -> list[Any]:
    """The navigation with a list of pages in the place of each `folder/*`."""
    return [
        {title: _pages(value, folder) for title, value in entry.items()}
        if isinstance(entry, dict)
        else entry
        for entry in navigation
    ]


def _pages(value: Any, folder: Path) -> Any:
    if isinstance(value, str) and value.endswith("/*"):
        return [str(page.relative_to(folder)) for page in sorted(folder.glob(f"{value}.md"))]
    return value
