"""A headless Chromium and an MLflow server on the loopback, for the tests of MLflow's pages and for pictures of them.

Both are context managers, which end their processes. Chromium asks nobody outside for anything. MLflow's assistant is
closed, which it opens on a first visit.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--force-color-profile=srgb"),
)
_START_SECONDS = 90.0
_PAGE_SECONDS = 25.0


def free_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def mlflow_server(database_uri: str, folder: Path, port: int) -> Iterator[int]:
    """A server with its log and files in `folder`; gives the id of its process group, which is ended with it."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database_uri, "--artifacts-destination", str(folder / "files")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log_path = folder / "server.log"
    with log_path.open("ab") as log:
        server = subprocess.Popen(command, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                break
            assert server.poll() is None, log_path.read_text()
            assert time.monotonic() < deadline, log_path.read_text()
            time.sleep(0.05)
        yield server.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


class Browser:
    """Pages of a server, read by what they show."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def visit(self, server: str) -> None:
        """Make the server's first visit and close MLflow's assistant for good."""
        self.driver.get(server)
        self.until("return localStorage.getItem('mlflow.assistant.panelOpen_v1')")
        self.driver.execute_script("localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')")

    def resize(self, width: int, height: int) -> None:
        """Make the page so large, in pixels."""
        inner = "return [window.outerWidth - window.innerWidth, window.outerHeight - window.innerHeight]"
        extra = self.driver.execute_script(inner)
        self.driver.set_window_size(width + extra[0], height + extra[1])

    def settle(self, script: str, seconds: float = 2.0) -> None:
        """Run `script` and wait until the page has not changed for a while."""
        self.driver.execute_script(script)
        last, since = "", time.monotonic()
        deadline = since + _PAGE_SECONDS
        while time.monotonic() < min(deadline, since + seconds):
            now = self.driver.execute_script("return document.body.innerHTML")
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.1)

    def open(self, url: str) -> None:
        """Load a page anew: of two addresses that differ behind the # only, a browser would load one."""
        self.driver.get("about:blank")
        self.driver.get(url)

    def until(self, script: str, *arguments: Any, seconds: float = _PAGE_SECONDS) -> Any:
        """What `script` returns as soon as that is not empty. Raises: AssertionError with the page's text."""
        try:
            return WebDriverWait(self.driver, seconds, 0.1).until(
                lambda driver: driver.execute_script(script, *arguments) or False
            )
        except TimeoutException as error:
            text = self.driver.execute_script("return document.body.innerText")
            raise AssertionError(f"no {script} in {seconds:g} s at {self.driver.current_url}:\n{text}") from error

    def type_into(self, selector: str, text: str) -> None:
        """Replace the text of a field and press Enter."""
        field = self.until("return document.querySelector(arguments[0])", selector)
        field.send_keys("\ue009a\ue000" + text + "\ue007")  # Control+A, the text, Enter

    def click(self, selector: str, text: str = "") -> None:
        """Click the first such element whose text has `text`."""
        found = "return [...document.querySelectorAll(arguments[0])].find(e => e.innerText.includes(arguments[1]))"
        element = self.until(found, selector, text)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", element)


@contextlib.contextmanager
def open_browser(profile: Path, width: int, height: int) -> Iterator[Browser]:
    """A browser with a fresh profile in the folder `profile`."""
    if CHROMIUM is None or DRIVER is None:
        raise FileNotFoundError("no chromium or chromedriver in the PATH; install chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        browser = Browser(driver)
        browser.resize(width, height)
        yield browser
    finally:
        driver.quit()
