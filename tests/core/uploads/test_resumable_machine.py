"""Resumable uploads in any order of requests and troubles (`tests.core.uploads.upload_machine`)."""

import pytest

from tests.core.uploads.upload_machine import explore


@pytest.mark.parametrize(
    ("examples", "steps"), [(20, 20), pytest.param(250, 40, marks=pytest.mark.heavy)], ids=["some", "many"]
)
def test_no_order_of_requests_and_troubles_loses_what_was_told(examples: int, steps: int) -> None:
    explore(examples, steps)
