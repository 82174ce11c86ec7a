"""The page of the gateway's settings names every setting as the models have it."""

import re

import pytest
from support import settings_page

from acredssp.proxy import settings, web


def test_the_page_is_made_of_the_models_as_they_are_now():
    assert settings_page.PAGE.read_text("utf-8") == settings_page.page(), (
        "docs/gateway-settings.md is stale: make conformance"
    )


def test_every_setting_has_a_row():
    rows = settings_page.page()
    for name in settings._NAMES:
        assert f"`{name}`" in rows or re.search(rf"^## `\[.*\b{name}\b.*\]`$", rows, re.MULTILINE), name


@pytest.mark.parametrize("section", ["admin", "api"])
def test_the_limits_that_are_no_settings_are_said(section):
    _, _, said = settings_page.page().partition(f"## `[{section}]`")
    assert f"{web._PATIENCE:g} seconds" in said.partition("| setting |")[0]
    assert f"{web._MOST_PER_SOURCE} connections" in said.partition("| setting |")[0]
