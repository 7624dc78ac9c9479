"""What a test does without a service that it needs: skip on a developer's machine, fail in CI."""

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
