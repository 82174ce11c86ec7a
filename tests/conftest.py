"""What every test gets: the matrix of event loops with its guards, and `--no-skips`."""

pytest_plugins = ["support.loops", "support.skips"]
