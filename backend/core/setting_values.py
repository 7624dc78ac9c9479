"""What settings may contain: each type rejects all else with the end of a sentence, "must ...".

Values are checked where they are read. Later they would end as a crash, or as an error that names no setting.
"""

import re
from base64 import b64decode
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, HttpUrl, SecretStr, ValidationError

_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_HOST_NAME = rf"{_LABEL}(?:\.{_LABEL})*"
_ORIGIN = re.compile(rf"(https?)://({_HOST_NAME}|\[[0-9a-f:.]+\])(?::([0-9]{{1,5}}))?/?", re.IGNORECASE)
_ISSUER = re.compile(rf"(https?)://({_HOST_NAME}|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?(?:/[\w.~/-]*)?")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET_NAME = re.compile(r"[a-z0-9](?!.*(\.\.|\.-|-\.))[a-z0-9.-]{1,61}[a-z0-9]")
_NO_BUCKET_NAME = re.compile(
    r"[0-9]+(\.[0-9]+){3}|(xn--|sthree-|amzn-s3-demo-).*|.*(-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)"
)


def readable(text: str) -> str:
    """Return the text of any setting without surrounding white space."""
    text = text.strip()
    if not text:
        raise ValueError("must not be blank")
    if any(ord(character) < 32 or "\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must be UTF-8 without line breaks and other control characters")
    return text


def origin(text: str) -> str:
    """Return an origin as browsers send it, or `*`."""
    if text == "*":
        return text
    found = _ORIGIN.fullmatch(text)
    if found is None:
        raise ValueError(
            "must be origins such as https://videos.example, with scheme, host and port but without a path"
        )
    scheme, host, port = found[1].lower(), found[2].lower(), found[3]
    return f"{scheme}://{host}" + (f":{port}" if port not in {None, _DEFAULT_PORTS[scheme]} else "")


_DEFAULT_PORTS = {"http": "80", "https": "443"}


def _address(url: HttpUrl) -> HttpUrl:
    if url.username is not None or url.password is not None:
        raise ValueError("must not contain a user name or password")
    if url.query is not None or url.fragment is not None:
        raise ValueError("must not contain a query or fragment")
    if not _has_plain_host(url):
        raise ValueError("must have a host name of letters, digits, hyphens and dots, or an IP address")
    return url


def _issuer(url: str) -> str:
    """Return the text as it is: providers spell their own address with or without a final slash."""
    found = _ISSUER.fullmatch(url)
    if found is None or (found[1] == "http" and found[2] not in {"localhost", "127.0.0.1", "[::1]"}):
        raise ValueError("must be the provider's address, such as https://accounts.example, and not use http")
    return url


def _allowed_claim(text: str) -> tuple[str, str]:
    claim, found, value = text.partition("=")
    if text.startswith("@") and re.fullmatch(_HOST_NAME, text[1:]):
        return "@", text[1:].lower()
    if not found or not claim.strip() or not value.strip():
        raise ValueError("must be entries such as groups=video or @example.org")
    return claim.strip(), value.strip()


def _has_plain_host(url: HttpUrl) -> bool:
    host = url.host or ""
    return host.startswith("[") or re.fullmatch(_HOST_NAME, host) is not None


def _bucket_name(name: str) -> str:
    if not _BUCKET_NAME.fullmatch(name) or _NO_BUCKET_NAME.fullmatch(name):
        raise ValueError(
            "must be the name of a bucket, 3 to 63 lower-case letters, digits, dots and hyphens, "
            "with a letter or digit at both ends"
        )
    return name


def _region(region: str) -> str:
    if not re.fullmatch(_LABEL, region) or region.isdecimal():
        raise ValueError("must be a region such as us-east-1, of letters, digits and hyphens")
    return region


def _key_id(key_id: str) -> str:
    if not re.fullmatch("[!-.0-~]+", key_id):
        raise ValueError("must consist of printable ASCII characters other than space and slash")
    return key_id


def _secret(secret: SecretStr) -> SecretStr:
    if not re.fullmatch("[ -~]+", secret.get_secret_value()):
        raise ValueError("must consist of printable ASCII characters")
    return secret


def _webhook_url(secret: SecretStr) -> SecretStr:
    try:
        url = HttpUrl(secret.get_secret_value())
    except ValidationError:
        url = None
    if url is None or url.fragment is not None:
        raise ValueError("must be URLs that begin with http:// or https://, without a fragment")
    return secret


def _proxy_url(secret: SecretStr) -> SecretStr:
    try:
        url = HttpUrl(secret.get_secret_value())
    except ValidationError:
        url = None
    ends = url is not None and (url.path, url.query, url.fragment) == ("/", None, None)
    if url is None or url.scheme != "http" or not ends or not _has_plain_host(url):
        raise ValueError("must be a URL such as http://proxy.example:3128, without a path")
    return secret


def _webhook_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    try:
        size = len(b64decode(text.removeprefix("whsec_"), validate=True))
    except ValueError:
        size = 0
    if not text.startswith("whsec_") or not 24 <= size <= 64:
        raise ValueError("must be whsec_ and the Base64 of 24 to 64 random bytes")
    return secret


def _host(host: str) -> str:
    if not re.fullmatch(_HOST_NAME, host):
        try:
            ip_address(host)
        except ValueError:
            raise ValueError("must be a host name or an IP address") from None
    return host


def _host_port(text: object) -> object:
    if not isinstance(text, str):
        return text
    host, _, port = text.rpartition(":")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 1 << 16:
        raise ValueError("must be a host and a port, such as 127.0.0.1:7000")
    return _host(host[1:-1] if host.startswith("[") and host.endswith("]") else host), int(port)


def _directory(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise ValueError("must be a directory")
    return path


def _cookies_file(path: Path) -> Path:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise ValueError("must be a text file that the worker can read") from None
    cookies = [line.removeprefix("#HttpOnly_") for line in lines]
    if any(line.count("\t") != 6 for line in cookies if line.strip() and not line.startswith("#")):
        raise ValueError("must be cookies in Netscape's format, of 7 fields a line with tabs between them")
    return path


def _render_node(path: Path) -> Path:
    if path.exists() and not path.is_char_device():
        raise ValueError("must be a device such as /dev/dri/renderD128")
    return path


Address = Annotated[HttpUrl, AfterValidator(_address)]
"""A URL without credentials, query and fragment. It may have a path, as some stores and proxies need."""
Issuer = Annotated[str, AfterValidator(_issuer)]
"""An OpenID Connect provider's identifier, at which its description is found."""
AllowedClaim = Annotated[tuple[str, str], BeforeValidator(_allowed_claim)]
"""`claim=value`, or `@domain`, which becomes `("@", domain)`."""
BucketName = Annotated[str, AfterValidator(_bucket_name)]
Region = Annotated[str, AfterValidator(_region)]
KeyId = Annotated[str, AfterValidator(_key_id)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
"""It goes into headers."""
WebhookUrl = Annotated[SecretStr, AfterValidator(_webhook_url)]
"""Its path and query often hold a secret."""
ProxyUrl = Annotated[SecretStr, AfterValidator(_proxy_url)]
"""It may hold a password."""
WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]
"""As Standard Webhooks has it."""
Host = Annotated[str, AfterValidator(_host)]
HostPort = tuple[str, int]
Endpoint = Annotated[HostPort, BeforeValidator(_host_port)]
"""`host:port`; IPv6 in brackets."""
Directory = Annotated[Path, AfterValidator(_directory)]
"""It need not exist."""
CookiesFile = Annotated[Path, AfterValidator(_cookies_file)]
"""As browser extensions export it (https://curl.se/docs/http-cookies.html)."""
RenderNode = Annotated[Path, AfterValidator(_render_node)]
"""It need not exist."""
