"""Attacks on servers, and what of their work they keep up: `python -m benchmarks.siege --help` says more."""
