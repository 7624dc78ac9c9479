"""Logs read byte by byte: nothing from outside is written as it came, no secret, no local variable."""

import json
import subprocess
import sys

import pytest

TOKEN = "the admin's/token+with specials"
ACCESS_KEY = "AKIAABCDEFGHIJKLMNOP"
SIGNATURE = "0123456789abcdef"
GRANT = "a-grant_that.opens-a-video"
SESSION = "a-session-that-signs-in"
LOCAL = "local-variable-of-a-frame"
SECRETS = (TOKEN, "the%20admin", ACCESS_KEY, SIGNATURE, GRANT, SESSION, LOCAL)
HOSTILE = "\x1b[31mred\r\n2026 [info] forged\x00\x07\x7f\x85\x9b2J\u2028\u202e\ufffe\udcff\U000e0041"
PROGRAM = f"""
import asyncio, logging, warnings, structlog
from backend.core.logs import configure_logs
from backend.core.settings import TokenSettings, load

configure_logs(human=HUMAN)
load(TokenSettings)
log = structlog.get_logger()
hostile = {HOSTILE!r}
names = [hostile, {{hostile: (hostile,)}}]
log.info("event " + hostile, path=hostile, names=names, error=ValueError(hostile))
log.info("hidden", **{{hostile: 1}})
log.info("secrets", url="http://s/b?X-Amz-Credential={ACCESS_KEY}%2Fx&X-Amz-Signature={SIGNATURE}&x=1",
    path="/play/{GRANT}/hls/master.m3u8", key="{ACCESS_KEY}", token="x{TOKEN}y",
    headers=str({{"Authorization": "AWS4-HMAC-SHA256 Credential=x, Signature={SIGNATURE}", "Host": "s"}}),
    cookie=b"vodbucket_session={SESSION}; a=b", bearer="Bearer {SESSION}",
    quoted="the%20admin%27s%2Ftoken%2Bwith%20specials")
def fail():
    local = "".join(("local-", "{LOCAL.removeprefix("local-")}"))  # the source line may be shown
    raise RuntimeError(hostile + " {TOKEN}")
try:
    fail()
except RuntimeError as error:
    log.error("crash", exc_info=error)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
logging.getLogger("asyncio").warning("from a library: %s", hostile)
logging.getLogger("uvicorn.error").info("chatter")
fail()
"""


def _written(human: bool) -> bytes:
    program = PROGRAM.replace("=HUMAN", f"={human}")
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env={"ADMIN_TOKEN": TOKEN}, check=False
    )
    assert ran.returncode == 1
    assert ran.stdout == b""
    return ran.stderr


@pytest.mark.parametrize("human", [False, True])
def test_logs_are_printable_and_hold_no_secrets(human: bool) -> None:
    written = _written(human)
    text = written.decode()
    for escape in ("\x1b[0m", "\x1b[1m", "\x1b[2m", *(f"\x1b[{colour}m" for colour in range(31, 37))):
        text = text.replace(escape, "")  # the renderer's own colours
    assert all(char.isprintable() for char in text.replace("\n", ""))
    assert [secret for secret in SECRETS if secret in text] == []
    assert "chatter" not in text
    assert text.count("RuntimeError: ") == 3
    assert text.count("in fail") == 3
    escaped = r"\x1b[31mred\r\n2026 [info] forged\x00\x07\x7f\x85\x9b2J\u2028\u202e\ufffe\udcff"
    assert escaped in text.replace("\\\\", "\\")  # JSON escapes the escapes


def test_each_entry_is_one_line_of_json() -> None:
    lines = _written(human=False).splitlines()
    assert [json.loads(line)["level"] for line in lines] == [
        *("info", "info", "info", "error", "error", "warning", "critical")
    ]
    assert {line.isascii() for line in lines} == {True}


def test_only_entries_begin_in_the_first_column_of_a_terminal() -> None:
    lines = _written(human=True).decode().splitlines()
    assert len([line for line in lines if not line.startswith("    ")]) == 7
