"""What acredssp costs, beside what others cost: `make bench`. See docs/performance.md."""
