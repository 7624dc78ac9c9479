"""The attempts to reach what is not public, as docs/ingest.md lists them."""

import re
from pathlib import Path

_PAGE = (Path(__file__).resolve().parents[3] / "docs/ingest.md").read_text()
_TABLE = _PAGE.partition("### Tested attempts")[2].partition("\n#")[0]


def attempts(port: int = 0) -> list[str]:
    """Return the addresses of the table, with the canary's port."""
    return [
        found.replace("PORT", str(port)) for found in re.findall(r"^\| `(.+?)` \| ", _TABLE, re.MULTILINE)
    ]
