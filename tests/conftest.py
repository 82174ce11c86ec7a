"""What every test gets: the matrix of event loops with its guards, `--no-skips`, and the table of requirements."""

pytest_plugins = ["support.kdc", "support.loops", "support.requirements", "support.skips"]
