"""The page of the gateway's settings names every setting as the models have it."""

import re

from support import settings_page

from acredssp.proxy import settings


def test_the_page_is_made_of_the_models_as_they_are_now():
    assert settings_page.PAGE.read_text("utf-8") == settings_page.page(), (
        "docs/gateway-settings.md is stale: make conformance"
    )


def test_every_setting_has_a_row():
    rows = settings_page.page()
    for name in settings._NAMES:
        assert f"`{name}`" in rows or re.search(rf"^## `\[.*\b{name}\b.*\]`$", rows, re.MULTILINE), name
