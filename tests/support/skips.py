"""A pytest plugin that makes a skip a failure, for machines on which every peer should be installed.

Continuous integration installs all the programs that the tests skip for, so a skip there means that something was
silently not tried. `--no-skips`, or ACREDSSP_NO_SKIPS=1 in the environment, turns each into a failure with its reason.
"""

import os

import pytest
from support.build import INTERPRETED_ONLY


def pytest_addoption(parser):
    parser.addoption(
        "--no-skips",
        action="store_true",
        default=os.environ.get("ACREDSSP_NO_SKIPS", "") not in {"", "0"},
        help="count a skipped test as a failed one (or set ACREDSSP_NO_SKIPS=1)",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return _refuse_skip(item.config, (yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _refuse_skip(collector.config, (yield))


def _refuse_skip(config, report):
    if report.skipped and not hasattr(report, "wasxfail") and config.getoption("no_skips"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        if INTERPRETED_ONLY in str(reason):
            return report
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {reason}"
    return report
