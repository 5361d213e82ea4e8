"""The page of the API's documentation in a real browser, under the content security policy."""

import pytest

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def page(settings, chromium):
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}
    page = chromium.new_page()
    yield page
    page.close()


def test_it_lists_the_operations_and_the_policy_blocks_nothing(page, live_server):
    complaints, addresses = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(f"{live_server.url}/api/v1/docs")
    page.get_by_text("/api/v1/projects/{project_id}/datasets").first.wait_for(timeout=30_000)
    assert page.locator(".opblock").count() > 80
    assert complaints == []
    away = [url for url in addresses if not url.startswith((live_server.url, "data:"))]
    assert away == []
