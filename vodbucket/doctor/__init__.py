"""Checks the store and this machine for everything that vodbucket relies on.

Each module yields `Check`s. Something that cannot be tested is a failed check too. Only `fixes` makes
permanent changes.
"""
