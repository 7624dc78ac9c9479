"""Addresses to fetch from: one spelling, and none that could mean two hosts."""

from ipaddress import ip_address

import pytest

from backend.core.addresses import follow, is_public, parse_address
from backend.core.errors import AddressRefused, BadRequest, InvalidAddress

HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("https://videos.example/a.mp4", "https://videos.example/a.mp4"),
        (" HTTPS://Videos.Example.:443 ", "https://videos.example/"),
        ("http://videos.example:8080?b=ü&c=%20#here", "http://videos.example:8080/?b=%C3%BC&c=%20"),
        ("https://bücher.example/a film.mp4", "https://xn--bcher-kva.example/a%20film.mp4"),
        ("ftp://videos.example/a.mp4", "ftp://videos.example/a.mp4"),
        ("http://8.8.8.8/", "http://8.8.8.8/"),
        ("http://[2606:4700:0:0::1111]/", "http://[2606:4700::1111]/"),
        (
            f"magnet:?dn=x&xt=urn:btih:{HASH}&tr=http://a.example",
            f"magnet:?dn=x&xt=urn:btih:{HASH}&tr=http://a.example",
        ),
    ],
)
def test_address_has_one_spelling(text: str, parsed: str) -> None:
    assert parse_address(text) == parsed
    assert parse_address(parsed) == parsed


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "videos.example",
            "http://",
            "http://a..b/",
            "http://.a/",
            "http://a b/",
            "http://a\nb/",
            "http://a/\r\nb",
        ),
        *(
            "http://a:/x:y",
            "http://user@a/",
            "http://a/\x00",
            f"http://{'a' * 64}.example/",
            f"http://{'a.' * 126}example/",
            "http://1.2.3.4.5/",
        ),
        *("javascript:alert(1)", "data:,x", "magnet:?xt=urn:btih:1", f"magnet:?tr=x&xt=urn:sha1:{HASH}"),
        *("http://\ud800/", f"http://{'ü' * 70}/", "http://[v1.x]/", "http://[:::1]/", "s3://bucket/key"),
        f"http://a/{'ü' * 1400}",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        parse_address(text, allow_private=True)


def test_private_addresses_and_ports_can_be_allowed() -> None:
    for address in (
        "http://127.0.0.1:22/",
        "http://[fd00::1]/",
        "http://nas.local:6667/",
        "ftp://10.0.0.1/a",
    ):
        assert parse_address(address, allow_private=True) == address
        if "local" not in address:
            with pytest.raises(AddressRefused):
                parse_address(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808"]
)
def test_hosts_of_the_internet_are_public(address: str) -> None:
    assert is_public(ip_address(address))


def test_redirects_are_resolved_and_checked() -> None:
    base = "https://videos.example/a/b?c"

    assert follow(base, "../d", allow_private=False) == "https://videos.example/d"
    assert follow(base, "//other.example/d", allow_private=False) == "https://other.example/d"
    for location in ("//127.0.0.1/", "http://[", "\\\\127.0.0.1@x", "http://a@b/"):
        try:
            followed = follow(base, location, allow_private=False)
        except BadRequest:
            continue
        assert followed.startswith("https://videos.example/")
