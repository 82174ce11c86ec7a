"""A pytest plugin that sets how many examples Hypothesis tries for each property; `--quick` tries few.

No example has a deadline: a busy machine is no failure.
"""

import hypothesis

ALL = 200
QUICK = 10


def pytest_configure(config):
    if config.getoption("hypothesis_profile", default=None):  # the command line chose a profile
        return
    examples = QUICK if config.getoption("quick", default=False) else ALL
    hypothesis.settings.register_profile("acredssp", max_examples=examples, deadline=None)
    hypothesis.settings.load_profile("acredssp")
