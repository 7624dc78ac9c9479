"""Names the program that sends a request, so that people recognise where they are signed in."""

from ua_parser import parse

MAX_LENGTH = 500
"""The parser tries hundreds of patterns, and browsers send 200 characters at most."""


def client_name(user_agent: str) -> str:
    """Return for example `Firefox on Linux`, or what is known of it; an empty text if nothing is."""
    found = parse(user_agent[:MAX_LENGTH])
    parts = (found.user_agent and found.user_agent.family, found.os and found.os.family)
    return " on ".join(part for part in parts if part)
