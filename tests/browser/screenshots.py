"""Makes the README's pictures from a running stack: `python -m tests.browser.screenshots` while `make demo` is up.

Needs Debian's chromium at /usr/bin/chromium, and a stack with at least one saga that failed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from devtools.simulator.api import opener

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "img"
BROWSER = "/usr/bin/chromium"
WIDTH, HEIGHT = 1360, 1300
# Chromium as root needs no sandbox; without the others it asks its maker's hosts for things at every start.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
# The most telling first: one that waits for a person, one that is being undone, one that was.
TELLING = ("COMPENSATION_FAILED", "COMPENSATING", "COMPENSATION_SUCCEEDED")


def main(folder: str = "var") -> None:
    """Takes start.png and saga.png from the stack whose files are in `folder`."""
    stack = json.loads((ROOT / folder / "stack.json").read_text(encoding="utf-8"))
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        _login(page, stack)
        _take(page, stack["admin_url"], "start.png", whole=True)
        saga = _telling_saga(stack["api_url"])
        _take(page, f"{stack['admin_url']}sagas/sagalog/{saga}/change/", "saga.png")
        browser.close()


def _login(page: Page, stack: dict[str, Any]) -> None:
    page.goto(stack["admin_url"])
    page.fill("input[name=username]", stack["login"]["username"])
    page.fill("input[name=password]", stack["login"]["password"])
    page.click("button[type=submit]")
    page.wait_for_load_state("networkidle")


def _take(page: Page, address: str, name: str, *, whole: bool = False) -> None:
    """The window, or the whole page in a window that is as high, so that the menu is too."""
    page.goto(address)
    page.wait_for_load_state("networkidle")
    if whole:
        page.set_viewport_size({"width": WIDTH, "height": page.evaluate("document.documentElement.scrollHeight")})
    page.screenshot(path=str(PICTURES / name))
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


def _telling_saga(api: str) -> str:
    for status in TELLING:
        with opener(api).open(f"{api}/sagas?status={status}&limit=1") as answer:
            found = json.load(answer)["items"]
        if found:
            return str(found[0]["id"])
    raise SystemExit("no saga has failed yet: let the demo play a while")


if __name__ == "__main__":
    main(*sys.argv[1:])
