"""Goals that are measured: `python -m benchmarks.NAME [--data DIR] [--json FILE] [--quick]`."""
