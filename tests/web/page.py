# SPDX-License-Identifier: Apache-2.0
"""Operates the page as a person does, and reads what a person sees."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

SECONDS = 30
MOST_STEPS = 800  # what the server of these tests takes
Found = TypeVar("Found")


@dataclass
class Page:
    driver: Chrome
    address: str

    def open(self) -> None:
        """Opens the page, with no model remembered."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(self.address)

    def look(self, width: int, scheme: str, *, still: bool = False) -> None:
        """Sets the size of the window and the preferences: light or dark, reduced motion or not."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wishes = {
            "prefers-color-scheme": scheme,
            "prefers-reduced-motion": "reduce" if still else "no-preference",
        }
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, what: Callable[[], Found]) -> Found:
        """Waits until the expression is true."""
        end, last = time.monotonic() + SECONDS, None
        while time.monotonic() < end:
            try:
                if found := what():
                    return found
            except StaleElementReferenceException as error:
                last = error
            time.sleep(0.03)
        raise AssertionError(f"waited for {SECONDS} s; status {self.text('#status')!r}, {self.problems()}, {last}")

    def text(self, selector: str) -> str:
        return " ".join(element.text for element in self.all(selector))

    def problems(self) -> list[str]:
        """The error messages that are visible."""
        return [element.text.removeprefix("⚠ ") for element in self.all(".problem") if element.is_displayed()]

    def choose(self, model: str, field: str) -> None:
        """Chooses a model, and waits for its input `field`."""
        self.until(lambda: self.all("#model option") and self.one("#model").is_displayed())
        Select(self.one("#model")).select_by_visible_text(model)
        self.until(lambda: self.driver.current_url.endswith(f"#{model}") and self.all(f"#input-{field}"))

    def paste(self, field: str, text: str) -> None:
        """Fills in a field at once, as pasting does."""
        self.driver.execute_script(
            "const a = document.getElementById(arguments[0]); a.value = arguments[1]; "
            "a.dispatchEvent(new Event('input', {bubbles: true}))",
            f"input-{field}",
            text,
        )

    def tick(self, *methods: str) -> None:
        for method in methods:
            self.one(f"#method-{method}").click()

    def explain(self) -> str:
        """Presses the button, waits for the answer, and returns the status."""
        self.driver.execute_script("document.getElementById('answer').replaceChildren()")
        self.one("#explain").click()
        self.until(lambda: self.all("#answer article"))
        return self.text("#status")

    def script(self, code: str, *arguments: Any) -> Any:
        """Runs the body of an asynchronous function; `load` imports a module of the page."""
        wrapped = (
            "const done = arguments[arguments.length - 1], given = [...arguments].slice(0, -1);"
            "const load = (name) => import(new URL(name, document.baseURI));"
            f"(async (...args) => {{ {code} }})(...given).then(done, (e) => done({{fault: String(e)}}));"
        )
        value = self.driver.execute_async_script(wrapped, *arguments)
        assert not (isinstance(value, dict) and "fault" in value), value
        return value

    def complaints(self) -> list[str]:
        """Errors in the browser's console: failed scripts, policy violations, missing files.

        Without failed calls, which the page reports itself.
        """
        lines = self.driver.get_log("browser")
        records = [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]
        return [message for message in records if "Failed to load resource: the server responded" not in message]
