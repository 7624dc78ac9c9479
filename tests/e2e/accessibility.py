"""Checks pages with axe-core, which the site's development packages install."""

from functools import cache

from playwright.sync_api import Page

from tests.lab.product import REPOSITORY

AXE = REPOSITORY / "frontend/node_modules/axe-core/axe.min.js"
_RUN = "() => axe.run(document, {resultTypes: ['violations']})"


@cache
def _axe() -> str:
    return AXE.read_text()


def violations(page: Page) -> list[str]:
    """Return a line for every element of the page that breaks a rule."""
    page.evaluate(_axe())
    found = page.evaluate(_RUN)["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]
