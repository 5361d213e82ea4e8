"""The people, browsers and small world of the pages, for the security tests as well."""

from tests.web.conftest import browser_of, owner, people, plain_static_files, world

__all__ = ["browser_of", "owner", "people", "plain_static_files", "world"]
