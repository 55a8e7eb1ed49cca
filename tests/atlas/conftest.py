import os
import shutil

import pytest
from atlases import Reader, World, make_world

#: With it a missing browser is a failure, as in continuous integration.
NEEDED = "NEURONPATH_BROWSER_TESTS"


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    """Made-up records and their atlas; for reading only."""
    made = make_world(tmp_path_factory.mktemp("atlas"))
    made.build().expect()
    return made


@pytest.fixture(scope="module")
def browser(request):
    """A headless Chromium, for a module: an open one keeps the process from running event loops of its own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        missing = f"no browser ({', '.join(names)}): apt-get install chromium"
        pytest.fail(missing) if os.environ.get(NEEDED) else pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def tab(browser, world) -> Reader:
    """One tab for a module, cut from the network."""
    page = browser.new_context(offline=True).new_page()
    page.set_default_timeout(20_000)
    return Reader(page, world)


@pytest.fixture
def reader(tab):
    """The tab, with nothing in it; that nothing happened that no page may do is seen to at the end."""
    tab.faults.clear()
    tab.look().page.goto("about:blank")
    yield tab
    tab.check()
