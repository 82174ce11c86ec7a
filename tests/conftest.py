"""What every test gets: the matrix of event loops and its guards, the requirements, the build, and `--no-skips`."""

pytest_plugins = ["support.build", "support.kdc", "support.loops", "support.requirements", "support.skips"]
