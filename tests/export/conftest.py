"""One thread for torch in every test here: numba's thread pool changes OpenMP's count, and two threads only spin.

With H2SIM_SUPPORTED=PAGE these tests write the page of what can be exported (tests.helpers.supported).
"""

from __future__ import annotations

import os
import sys

import pytest

from tests.helpers import supported

PAGE = os.environ.get(supported.VARIABLE)
SEEN = supported.Seen()


@pytest.fixture(autouse=True)
def one_thread():
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


if PAGE:
    supported.watch(SEEN)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(item, call):
        if call.when == "setup":
            SEEN.start()
        report = (yield).get_result()
        if call.when == "call" and item.path.name != "test_supported.py":  # which is about the page before
            SEEN.end(item.nodeid, report.outcome != "failed")

    def pytest_sessionfinish(session):
        if why := supported.write(SEEN, PAGE, session.config):
            print(f"\n{why}", file=sys.stderr)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
