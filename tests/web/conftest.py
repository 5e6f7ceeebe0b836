# SPDX-License-Identifier: Apache-2.0
"""Opens the page in headless Chromium, with a server for the bundled models."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.serving.running import Running, serving
from tests.web.page import MOST_STEPS, Page

MODELS = Path(__file__).resolve().parents[2] / "models"
BROWSERS, DRIVERS = ("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def _found(names: tuple[str, ...]) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    browser, control = _found(BROWSERS), _found(DRIVERS)
    if browser is None or control is None:
        pytest.skip("the page is tested in Chromium, which is not here (Debian: chromium and chromium-driver)")
    options = Options()
    options.binary_location = browser
    for flag in (*FLAGS, *(("--no-sandbox",) if os.geteuid() == 0 else ())):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(control))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def served() -> Iterator[Running]:
    with serving(MODELS, "--web", "127.0.0.1:0", "--max-steps", str(MOST_STEPS)) as server:
        yield server


@pytest.fixture
def page(driver: webdriver.Chrome, served: Running) -> Iterator[Page]:
    """A fresh page, wide and light. Any error in the browser's console fails the test."""
    page = Page(driver, served.page())
    page.look(1280, "light")
    page.open()
    yield page
    assert page.complaints() == []
