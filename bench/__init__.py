"""Benchmarks. They report ratios within one run, because machines differ and are shared.

`make bench`, or `python -m bench upload`, `python -m bench queue`. Tests never assert timings.
"""
