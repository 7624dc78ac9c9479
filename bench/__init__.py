"""Benchmarks: figures as ratios of things measured in one run, since machines differ and are shared.

`make bench`, or `python -m bench upload`, `python -m bench queue`. Timings are never asserted in tests.
"""
