"""The only module that builds or parses object keys (docs/objects.md lists them all).

Raw bucket: `uploads/`, `inbox/`, `resumptions/`, `queue/`, `leases/`, `units/`, `failed/`, `sweep.json`.
Video bucket: `catalog/`, `owned/`, `shared/`, `videos/`, `images/`, `slugs/`, `events/`, `webhooks/`,
`keys/`, `sessions/`, `seen/`, `people/`, `tokens/`, `identities/`, `access-codes/`, `upload-links/`. Both,
while the store is being tested: `doctor/`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple, TypeVar

from backend.core.errors import BadRequest
from backend.core.ids import descending, parse_id

UPLOADS = "uploads/"
QUEUE = "queue/"
LEASES = "leases/"
UNITS = "units/"
FAILED = "failed/"
INBOX = "inbox/"
DOCTOR = "doctor/"
RESUMPTIONS = "resumptions/"
LAST_SWEEP = "sweep.json"
CATALOG = "catalog/"
OWNED = "owned/"
SHARED = "shared/"
VIDEOS = "videos/"
IMAGES = "images/"
SLUGS = "slugs/"
SIGNING_KEYS = "keys/signing."
SESSIONS = "sessions/"
SEEN = "seen/"
PEOPLE = "people/"
TOKENS = "tokens/"
IDENTITIES = "identities/"
ACCESS_CODES = "access-codes/"
CODE_SALT = "keys/codes"
UPLOAD_LINKS = "upload-links/"
EVENTS = "events/"
EVENT_LOG = "events/log/"
ANNOUNCEMENTS = "events/new/"
"""It follows the log, so that one LIST shows the end of the log and what is not logged yet."""
WEBHOOKS = "webhooks/"
WEBHOOK_STATES = "webhooks/state/"
DELIVERERS = "webhooks/deliverer/"

MASTER_PLAYLIST = "hls/master.m3u8"
DASH_MANIFEST = "dash/manifest.mpd"
DOWNLOAD = "download.webm"
DOWNLOAD_MP4 = "download.mp4"
POSTER = "poster.jpg"
STORYBOARD = "storyboard/storyboard.vtt"
CAPTIONS = "captions/"
KEPT = (DOWNLOAD, DOWNLOAD_MP4, POSTER, "storyboard/", CAPTIONS)
"""What stays of a run whose renditions are removed: files, and prefixes that end with a slash."""

SMALL, MEDIUM, LARGE, FETCHED = "", "m", "x", "u"
RANKS = (SMALL, MEDIUM, FETCHED, LARGE)
"""What a marker's key begins with, in key order. Letters above f: requests begin with hexadecimal digits."""

LOOK = "look"
SIDES = "sides"
"""Names of units. The other ones are chunks."""

KEYS_OF_UNITS = 4096
"""How many parsed keys are remembered: every heartbeat lists those of hundreds of units again."""
_FALLBACK = "s"
T = TypeVar("T")


def ours(parse: Callable[[str], T], found: Iterable[str]) -> Iterator[T]:
    """Yield what `parse` returns for each key. Foreign keys, for which it raises BadRequest, are skipped."""
    for key in found:
        with suppress(BadRequest):
            yield parse(key)


def upload(video_id: str) -> str:
    return f"{UPLOADS}{video_id}.orig"


def upload_info(upload_id: str) -> str:
    return f"{UPLOADS}{upload_id}.info"


def upload_done(upload_id: str) -> str:
    """Return the key of a finished upload's record."""
    return f"{UPLOADS}{upload_id}.done"


def upload_state(upload_id: str) -> str:
    """Return the prefix of what a resumable upload needs until it is finished. It ends with a slash."""
    return f"{UPLOADS}{upload_id}/"


def records_of_upload(upload_id: str) -> str:
    """Return the common prefix of a resumable upload's source, records and state."""
    return f"{UPLOADS}{upload_id}"


def upload_progress(upload_id: str, generation: int) -> str:
    return f"{upload_state(upload_id)}{generation}"


def upload_tail(upload_id: str, generation: int = 0, number: int = 0) -> str:
    """Return the key of bytes that do not fill a part yet. Tails of resumable uploads are never rewritten."""
    return f"{upload_state(upload_id)}tail.{generation}.{number}"


def sidecar(inbox_key: str) -> str:
    """Return the key of what is said about a file in the inbox."""
    return f"{inbox_key}.json"


def resumption(fingerprint: str) -> str:
    return f"{RESUMPTIONS}{fingerprint}"


def parse_upload_progress(key: str) -> tuple[str, int]:
    """Return upload and generation. Raises: BadRequest: this is not the key of an upload's progress."""
    match = _matched(_PROGRESS, key, "an upload's progress")
    return match["video"], int(match["generation"])


def generation_of_state(key: str) -> int | None:
    """Return the generation that wrote a progress or a tail, or None if the key is neither."""
    match = _STATE.fullmatch(key)
    return int(match["generation"]) if match else None


def upload_of(key: str) -> str:
    """Return the resumable upload that a record, progress or tail belongs to. Raises: BadRequest: to none."""
    name, slash, _ = key.removeprefix(UPLOADS).partition("/")
    if not key.startswith(UPLOADS) or not (slash or name.endswith((".info", ".done"))):
        raise BadRequest(f"not an object of a resumable upload: {key}")
    return parse_id(name.removesuffix(".info").removesuffix(".done"))


def marker(request: str, rank: str = SMALL) -> str:
    """Return the key of a waiting job. Its rank says what it costs, so that a LIST tells cheap jobs apart."""
    return f"{queue_of(rank)}{request}"


def queue_of(rank: str) -> str:
    """Return the common prefix of the markers of this rank; that of small jobs is one of all the others."""
    return f"{QUEUE}{rank}-" if rank else QUEUE


def markers_of_video(video_id: str) -> list[str]:
    """Return the common prefixes of all markers of a video, whatever the request."""
    return [marker(video_id, rank) for rank in RANKS]


def lease(request: str, generation: int) -> str:
    return f"{LEASES}{request}/{generation}"


def leases_of(request: str) -> str:
    return f"{LEASES}{request}/"


def leases_of_video(video_id: str) -> str:
    """Return the common prefix of all leases of a video, whatever the request."""
    return f"{LEASES}{video_id}"


def units_of_request(request: str) -> str:
    """Return the prefix of a request's plans and units. It ends with a slash."""
    return f"{UNITS}{request}/"


def units_of_video(video_id: str) -> str:
    """Return the common prefix of all units of a video, whatever the request."""
    return f"{UNITS}{video_id}"


def wanted(request: str) -> str:
    """Return the key of the segment that viewers of the request's look wait for."""
    return f"{units_of_request(request)}wanted"


def unit_plan(request: str, number: int) -> str:
    return f"{units_of_request(request)}{number}/plan"


def unit_lease(request: str, plan: int, unit: str, generation: int) -> str:
    return f"{units_of_request(request)}{plan}/{unit}/{generation}"


def unit_end(request: str, plan: int, unit: str) -> str:
    return f"{units_of_request(request)}{plan}/{unit}/end"


def chunk(number: int) -> str:
    """Return the name of the unit that encodes this chunk."""
    return f"c{number:04}"


def unit_outputs(video_id: str, work: str, unit: str, token: str) -> str:
    """Return the prefix of what one attempt at a unit stores for the join. It ends with a slash."""
    return f"{run_prefix(video_id, work)}{unit}-{token}/"


def dead_letter(request: str) -> str:
    return f"{FAILED}{request}"


def probe(nonce: str, name: str = "") -> str:
    """Return the key of an object that only tests the store; without `name`, the prefix of one such test."""
    return f"{DOCTOR}{nonce}/{name}"


def catalog_entry(video_id: str) -> str:
    return entry(CATALOG, video_id)


def owned_by(person: str) -> str:
    """Return the prefix of the index of this person's videos."""
    return f"{OWNED}{person}/"


def entry(index: str, video_id: str) -> str:
    """Return the key of a video in an index of the library: an empty object; keys sort newest first."""
    return f"{index}{descending(video_id)}"


def video_of_entry(name: str) -> str:
    """Return the video of an entry, by its name below the index. Raises: BadRequest: it is none."""
    return parse_id(descending(name))


def video_of_catalog_entry(key: str) -> str:
    return video_of_entry(key.removeprefix(CATALOG))


def video_of_raw_object(key: str) -> str:
    """Return the video of an upload, marker or dead letter. Raises: BadRequest: the key is none of these."""
    match = _SOURCE.fullmatch(key) or _MARKER.fullmatch(key) or _DEAD_LETTER.fullmatch(key)
    if match is None:
        raise BadRequest(f"not an object of a video: {key}")
    return match["video"]


def video_of_object(key: str) -> str:
    """Return the video of a record or output. Raises: BadRequest: the key is neither."""
    if not key.startswith(VIDEOS):
        raise BadRequest(f"not an object of a video: {key}")
    return parse_id(key.removeprefix(VIDEOS).partition("/")[0])


def video_prefix(video_id: str) -> str:
    return f"{VIDEOS}{video_id}/"


def video_record(video_id: str) -> str:
    return f"{video_prefix(video_id)}video.json"


def revisions_of(video_id: str) -> str:
    return f"{video_prefix(video_id)}revisions/"


def revision(video_id: str, number: int) -> str:
    """Return the key of a change to the video. Keys sort newest first."""
    return f"{revisions_of(video_id)}{_MAX_REVISION - number}"


def parse_revision(video_id: str, key: str) -> int:
    """Return the revision's number. Raises: BadRequest: this is not the key of a revision of the video."""
    return _number_below(revisions_of(video_id), key)


def _number_below(revisions: str, key: str) -> int:
    inverted = key.removeprefix(revisions)
    if not _REVISION.fullmatch(inverted):
        raise BadRequest(f"not the key of a revision: {key}")
    return _MAX_REVISION - int(inverted)


def history_of(video_id: str) -> str:
    """Return the common prefix of what happened to a video: one LIST shows reductions, results, revisions."""
    return f"{video_prefix(video_id)}re"


def before_records(video_id: str) -> str:
    """Return after which key a LIST shows all that tells a video's state: its history, status and record.

    Runs, looks and captions sort before it.
    """
    return f"{video_prefix(video_id)}rd"


def conversion(video_id: str) -> str:
    """Return the key of a conversion's job. The library does not list it."""
    return f"{video_prefix(video_id)}conversion"


def status(video_id: str) -> str:
    return f"{video_prefix(video_id)}status.json"


def image_prefix(image_id: str) -> str:
    """Return the prefix of all objects of an image. It ends with a slash. That of the newest sorts first."""
    return f"{IMAGES}{descending(image_id)}/"


def image_record(image_id: str) -> str:
    """Return the key of an image's record, which sorts before its other objects."""
    return f"{image_prefix(image_id)}image.json"


def picture(image_id: str, suffix: str) -> str:
    return f"{image_prefix(image_id)}picture.{suffix}"


def thumbnail(image_id: str) -> str:
    return f"{image_prefix(image_id)}thumbnail.webp"


def revisions_of_image(image_id: str) -> str:
    return f"{image_prefix(image_id)}revisions/"


def image_revision(image_id: str, number: int) -> str:
    """Return the key of a change to the image. Keys sort newest first."""
    return f"{revisions_of_image(image_id)}{_MAX_REVISION - number}"


def parse_image_revision(image_id: str, key: str) -> int:
    """Return the revision's number. Raises: BadRequest: this is not the key of a revision of the image."""
    return _number_below(revisions_of_image(image_id), key)


def image_of_object(key: str) -> str:
    """Return the image that an object belongs to. Raises: BadRequest: to none."""
    if not key.startswith(IMAGES):
        raise BadRequest(f"not an object of an image: {key}")
    return parse_id(descending(key.removeprefix(IMAGES).partition("/")[0]))


def image_of_record(key: str) -> str:
    """Raises: BadRequest: this is not the key of an image's record."""
    image_id = image_of_object(key)
    if key != image_record(image_id):
        raise BadRequest(f"not the record of an image: {key}")
    return image_id


def captions_of(video_id: str) -> str:
    """Return the prefix of a video's uploaded captions. They are outside of runs: all runs share them."""
    return f"{video_prefix(video_id)}{CAPTIONS}"


def captions(video_id: str, language: str, token: str | None = None) -> str:
    """Return the key of a text. Each upload has its own; older versions stored one for each language."""
    return f"{video_prefix(video_id)}{captions_path(language, token)}"


def captions_record(video_id: str, language: str) -> str:
    return f"{captions_of(video_id)}{language}.json"


def results_of(video_id: str) -> str:
    return f"{video_prefix(video_id)}results/"


def result(video_id: str, request: str) -> str:
    return f"{results_of(video_id)}{request}"


def request_of_result(key: str) -> str:
    """Raises: BadRequest: this is not the key of a result, or its request is of another video."""
    return _matched(_RESULT, key, "a result")["request"]


def reduction(video_id: str, request: str) -> str:
    """Return the key of the record that the renditions which this request published are removed."""
    return f"{video_prefix(video_id)}reduced/{request}"


def request_of_reduction(key: str) -> str:
    """Raises: BadRequest: this is not the key of a reduction, or its request is of another video."""
    return _matched(_REDUCTION, key, "a reduction")["request"]


def watched(video_id: str) -> str:
    """Return the key of an empty object that is written when the video is watched."""
    return f"{video_prefix(video_id)}watched"


def is_kept(path: str) -> bool:
    """Return whether this file of a run stays when its renditions are removed."""
    return path in KEPT or any(kept.endswith("/") and path.startswith(kept) for kept in KEPT)


def is_download(video_id: str, key: str) -> bool:
    """Return whether this is the WebM that a run of this video published."""
    prefix = video_prefix(video_id)
    run, path = split_run(key.removeprefix(prefix))
    return key.startswith(prefix) and run is not None and not is_look(run) and path == DOWNLOAD


def run_prefix(video_id: str, run: str) -> str:
    """Return the prefix of all outputs of a run. It ends with a slash."""
    return f"{video_prefix(video_id)}{run}/"


def run_name(request: str, generation: int, token: str) -> str:
    """Return `r<n>-<generation>-<token>`: the runs of one request share a prefix.

    The token makes the name unguessable. It must consist of hexadecimal digits.
    """
    return f"r{request_number(request)}-{generation}-{token}"


def fallback_run(run: str) -> str:
    """Return the name of the run in which a worker starts over after the encoder of `run` has failed.

    It is unique, as no token ends with this letter.
    """
    return f"{run}{_FALLBACK}"


def look_name(request: str, token: str) -> str:
    """Return `l<n>-<token>`. A look is stored like a run. The token is as in `run_name`."""
    return f"l{request_number(request)}-{token}"


def look_of_run(run: str) -> str:
    """Return the look that the holder of a lease makes beside its run."""
    number, _, token = run.removeprefix("r").split("-")
    return f"l{number}-{token}"


def is_look(run: str) -> bool:
    return run.startswith("l")


def looks_of_request(video_id: str, request: str) -> str:
    """Return the common prefix of all looks of this request."""
    return f"{video_prefix(video_id)}l{request_number(request)}-"


def runs_of_lease(video_id: str, run: str) -> str:
    """Return the common prefix of the runs of one lease: `run` and its fallback."""
    return f"{video_prefix(video_id)}{run}"


def runs_of_request(video_id: str, request: str) -> str:
    """Return the common prefix of all runs of this request."""
    return f"{video_prefix(video_id)}r{request_number(request)}-"


def run_of_key(video_id: str, key: str) -> str | None:
    """Return the run or look that this object of the video belongs to, or None for records."""
    return split_run(key.removeprefix(video_prefix(video_id)))[0]


def split_run(path: str) -> tuple[str | None, str]:
    """Split `<run>/<path>`. The run is None if the path begins with neither a run nor a look."""
    name, slash, rest = path.partition("/")
    return (name, rest) if slash and _RUN.fullmatch(name) else (None, path)


def request_of_run(video_id: str, run: str) -> str:
    """Return the request that a run or look belongs to."""
    return request_name(video_id, int(run[1:].partition("-")[0]))


def request_name(video_id: str, number: int = 0) -> str:
    """Return `<id>` for the upload's own request, `<id>.<n>` for later ones."""
    return f"{video_id}.{number}" if number else video_id


def request_number(request: str) -> int:
    _, _, number = request.partition(".")
    return int(number) if number else 0


def video_of_request(request: str) -> str:
    return parse_id(request.partition(".")[0])


def signing_key(number: int) -> str:
    return f"{SIGNING_KEYS}{number}"


def parse_signing_key(key: str) -> int:
    """Return the key's number. Raises: BadRequest: this is not the key of a signing key."""
    return int(_matched(_SIGNING_KEY, key, "a signing key")["number"])


def session(session_id: str) -> str:
    return f"{SESSIONS}{session_id}"


def seen(session_id: str) -> str:
    """Return the key of an empty object that is written when the session is used."""
    return f"{SEEN}{session_id}"


def token(token_id: str) -> str:
    return f"{TOKENS}{token_id}"


def identity(identity_id: str) -> str:
    return f"{IDENTITIES}{identity_id}"


def revisions_of_person(person_id: str) -> str:
    return f"{PEOPLE}{person_id}/"


def person(person_id: str, number: int) -> str:
    """Return the key of a revision of a person. Keys sort newest first."""
    return f"{revisions_of_person(person_id)}{_MAX_REVISION - number}"


def parse_person(key: str) -> tuple[str, int]:
    """Return person and revision. Raises: BadRequest: this is not the key of a revision of a person."""
    match = _matched(_PERSON, key, "a person")
    return match["video"], _MAX_REVISION - int(match["inverted"])


def claims_of(kind: str, slug: str) -> str:
    return f"{SLUGS}{kind}/{slug}/"


def slug_claim(kind: str, slug: str, number: int) -> str:
    """Return the key of a claim to a slug for one kind of media. Keys sort newest first."""
    return f"{claims_of(kind, slug)}{_MAX_REVISION - number}"


class ClaimKey(NamedTuple):
    """A parsed `slugs/<kind>/<slug>/<inverted number>`."""

    kind: str
    slug: str
    number: int


def parse_slug_claim(key: str) -> ClaimKey:
    """Raises: BadRequest: this is not the key of a claim to a slug."""
    match = _matched(_CLAIM, key, "a claim to a slug")
    return ClaimKey(match["kind"], match["slug"], _MAX_REVISION - int(match["inverted"]))


def access_code(code_id: str) -> str:
    return f"{ACCESS_CODES}{code_id}/code"


def parse_access_code(key: str) -> str:
    """Return the code's id. Raises: BadRequest: this is not the key of an access code."""
    return _matched(_ACCESS_CODE, key, "an access code")["id"]


def used_access_code(code_id: str) -> str:
    """Return the key of an empty object that is written when the code is used."""
    return f"{ACCESS_CODES}{code_id}/used"


def withdrawn_access_code(code_id: str) -> str:
    return f"{ACCESS_CODES}{code_id}/withdrawn"


def upload_link_prefix(link_id: str) -> str:
    return f"{UPLOAD_LINKS}{link_id}/"


def upload_link(link_id: str) -> str:
    return f"{upload_link_prefix(link_id)}link"


def places_of_link(link_id: str) -> str:
    return f"{upload_link_prefix(link_id)}uses/"


def places(link_id: str, number: int) -> str:
    """Return the key of a change to who holds the places of an upload link. Keys sort newest first."""
    return f"{places_of_link(link_id)}{_MAX_REVISION - number}"


def parse_places(key: str) -> int:
    """Return the change's number. Raises: BadRequest: this is not the key of such a change."""
    return _MAX_REVISION - int(_matched(_PLACES, key, "places of an upload link")["inverted"])


def link_of_object(key: str) -> str:
    """Return the upload link of its record or places. Raises: BadRequest: the key is neither."""
    return _matched(_OF_LINK, key, "an object of an upload link")["link"]


def event_id(subject: str, number: int, kind: str) -> str:
    """Return the id of what happened to a video's request with this number; it can happen only once."""
    return f"{subject}-{number}-{kind}"


def announcement(event: str) -> str:
    return f"{ANNOUNCEMENTS}{event}"


def announcements_of(subject: str) -> str:
    return f"{ANNOUNCEMENTS}{subject}-"


class AnnouncementKey(NamedTuple):
    """A parsed `events/new/<event>`. The subject is a video, or else a test."""

    subject: str
    number: int
    kind: str

    @property
    def event(self) -> str:
        return event_id(*self)


def parse_announcement(key: str) -> AnnouncementKey:
    """Raises: BadRequest: this is not the key of an announcement."""
    match = _matched(_ANNOUNCEMENT, key, "an announcement")
    return AnnouncementKey(match["subject"], int(match["number"]), match["kind"])


def event_batch(number: int) -> str:
    """Return the key of the batch whose first event has this number. Keys sort in the log's order."""
    return f"{EVENT_LOG}{number:016}"


def parse_event_batch(key: str) -> int:
    """Raises: BadRequest: this is not the key of a batch of events."""
    return int(_matched(_BATCH, key, "a batch of events")["number"])


def webhook_state(endpoint: str) -> str:
    return f"{WEBHOOK_STATES}{endpoint}"


def deliverer(generation: int) -> str:
    return f"{DELIVERERS}{generation}"


def parse_deliverer(key: str) -> tuple[str, int]:
    """Return an owner, always the same, and the generation. Raises: BadRequest: the key is another."""
    return DELIVERERS, int(_matched(_DELIVERER, key, "a deliverer")["generation"])


class LeaseKey(NamedTuple):
    """A parsed `leases/<request>/<generation>`."""

    request: str
    generation: int


def parse_lease(key: str) -> LeaseKey:
    """Raises: BadRequest: this is not the key of a lease."""
    match = _matched(_LEASE, key, "a lease")
    return LeaseKey(match["request"], int(match["generation"]))


class UnitKey(NamedTuple):
    """A parsed `units/<request>/<plan>/<unit>/<generation>` or, without a generation, `…/end`."""

    request: str
    plan: int
    unit: str
    generation: int | None


@lru_cache(KEYS_OF_UNITS)
def parse_unit(key: str) -> UnitKey:
    """Raises: BadRequest: this is not the key of a unit's lease or end."""
    match = _matched(_UNIT, key, "a unit")
    end = match["generation"] == "end"
    return UnitKey(
        match["request"], int(match["plan"]), match["unit"], None if end else int(match["generation"])
    )


def parse_unit_plan(key: str) -> tuple[str, int]:
    """Return request and number. Raises: BadRequest: this is not the key of a plan."""
    match = _matched(_PLAN, key, "a plan")
    return match["request"], int(match["plan"])


@lru_cache(KEYS_OF_UNITS)
def is_unit_plan(key: str) -> bool:
    return _PLAN.fullmatch(key) is not None


def request_of_units(key: str) -> str:
    """Return the request of an object below `units/`. Raises: BadRequest: it has none."""
    return _matched(_UNITS, key, "an object of units")["request"]


def parse_marker(key: str) -> str:
    """Return the request. Raises: BadRequest: this is not the key of a marker."""
    return _matched(_MARKER, key, "a marker")["request"]


def parse_ranked_marker(key: str) -> tuple[str, str]:
    """Return rank and request. Raises: BadRequest: this is not the key of a marker."""
    match = _matched(_MARKER, key, "a marker")
    return match["rank"] or SMALL, match["request"]


def parse_dead_letter(key: str) -> str:
    """Return the request. Raises: BadRequest: this is not the key of a dead letter."""
    return _matched(_DEAD_LETTER, key, "a dead letter")["request"]


def _matched(pattern: re.Pattern[str], key: str, what: str) -> re.Match[str]:
    match = pattern.fullmatch(key)
    if match is None:
        raise BadRequest(f"not the key of {what}: {key}")
    return match


def parse_asset_path(path: str) -> str:
    """Return `path` if it is safe to append to a run's prefix.

    Segments may contain letters, digits, `.`, `_` and `-`, and must not begin with a dot, so that no browser,
    proxy or store can normalise the path into another one.

    Raises:
        BadRequest: the path contains anything else, or is too long.
    """
    if len(path) > 200 or not _ASSET.fullmatch(path):
        raise BadRequest("not an asset path")
    return path


def captions_path(language: str, token: str | None = None) -> str:
    """Return the path that players use for uploaded captions. A run's own captions begin with a number."""
    return f"{CAPTIONS}{language}.{token}.vtt" if token else f"{CAPTIONS}{language}.vtt"


def captions_playlist_path(path: str) -> str:
    """Return the path of the HLS playlist of the captions at `path`."""
    return f"{path.removesuffix('.vtt')}.m3u8"


def is_uploaded_captions(path: str) -> bool:
    """Return whether a path that a player requests is that of uploaded captions, which all runs share."""
    return _UPLOADED_CAPTIONS.fullmatch(path) is not None


def playable_object(video_id: str, prefix: str, path: str) -> str:
    """Return the key for a path that a player requests: uploaded captions, or an output below `prefix`.

    Raises:
        BadRequest: the path is neither.
    """
    uploaded = _UPLOADED_CAPTIONS.fullmatch(parse_asset_path(path))
    return video_prefix(video_id) + path if uploaded else prefix + path


_ID = r"(?P<video>[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})"
"""As `backend.core.ids.parse_id` has it."""
_NUMBER = r"(?:\.[1-9][0-9]{0,8})?"
_REQUEST = rf"(?P<request>{_ID}{_NUMBER})"
_LEASE = re.compile(rf"{LEASES}{_REQUEST}/(?P<generation>0|[1-9][0-9]{{0,8}})")
_PLAN = re.compile(rf"{UNITS}{_REQUEST}/(?P<plan>0|[1-9][0-9]{{0,8}})/plan")
_UNIT = re.compile(
    rf"{UNITS}{_REQUEST}/(?P<plan>0|[1-9][0-9]{{0,8}})/(?P<unit>{LOOK}|{SIDES}|c[0-9]{{4}})"
    r"/(?P<generation>end|0|[1-9][0-9]{0,8})"
)
_UNITS = re.compile(rf"{UNITS}{_REQUEST}/.+", re.DOTALL)
_PROGRESS = re.compile(rf"{UPLOADS}{_ID}/(?P<generation>0|[1-9][0-9]{{0,8}})")
_STATE = re.compile(rf"{UPLOADS}[0-9a-f-]+/(?:tail\.)?(?P<generation>0|[1-9][0-9]{{0,8}})(?:\.[0-9]+)?")
_SOURCE = re.compile(rf"{UPLOADS}{_ID}\.orig")
_MARKER = re.compile(rf"{QUEUE}(?:(?P<rank>[{MEDIUM}{FETCHED}{LARGE}])-)?{_REQUEST}")
_DEAD_LETTER = re.compile(rf"{FAILED}{_REQUEST}")
_RESULT = re.compile(rf"{VIDEOS}{_ID}/results/(?P<request>(?P=video){_NUMBER})")
_REDUCTION = re.compile(rf"{VIDEOS}{_ID}/reduced/(?P<request>(?P=video){_NUMBER})")
_MAX_REVISION = 999_999_999
_REVISION = re.compile(r"[0-9]{9}")
_PERSON = re.compile(rf"{PEOPLE}{_ID}/(?P<inverted>[0-9]{{9}})")
_CLAIM = re.compile(rf"{SLUGS}(?P<kind>[a-z]+)/(?P<slug>[a-z0-9_-]+)/(?P<inverted>[0-9]{{9}})")
_ACCESS_CODE = re.compile(rf"{ACCESS_CODES}(?P<id>[0-9a-f]{{32}})/code")
_OF_LINK = re.compile(rf"{UPLOAD_LINKS}(?P<link>[0-9a-f]{{32}})/(?:link|uses/[0-9]{{9}})")
_PLACES = re.compile(rf"{UPLOAD_LINKS}[0-9a-f]{{32}}/uses/(?P<inverted>[0-9]{{9}})")
_SIGNING_KEY = re.compile(rf"{re.escape(SIGNING_KEYS)}(?P<number>[1-9][0-9]{{0,3}})")
_RUN = re.compile(r"(r(0|[1-9][0-9]{0,8})-(0|[1-9][0-9]{0,8})|l(0|[1-9][0-9]{0,8}))-[A-Za-z0-9]+")
_ASSET = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_UPLOADED_CAPTIONS = re.compile(rf"{CAPTIONS}[A-Za-z][A-Za-z0-9-]*(\.[0-9a-f]+)?\.vtt")
_KIND = "(?P<kind>created|playable|done|failed|deleted|test)"
_ANNOUNCEMENT = re.compile(
    rf"{ANNOUNCEMENTS}(?P<subject>{_ID}|test-[0-9a-f]{{16}})-(?P<number>0|[1-9][0-9]{{0,8}})-{_KIND}"
)
_BATCH = re.compile(rf"{EVENT_LOG}(?P<number>[0-9]{{16}})")
_DELIVERER = re.compile(rf"{DELIVERERS}(?P<generation>0|[1-9][0-9]{{0,8}})")
