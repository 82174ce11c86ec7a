"""What is released: it is built here and tried, and `make release-check` says what is still missing."""
