"""Drives the upload panel, and observes its requests and the stored files."""

import hashlib
import random
from pathlib import Path

import boto3
from playwright.sync_api import Dialog, Request

from tests.e2e.browser import Visit
from tests.lab.product import Product

MIB = 1024**2
FORGET_FILES = """() => new Promise((resolve, reject) => {
    const opening = indexedDB.open('uppy-blobs');
    opening.onsuccess = () => {
        const clearing = opening.result.transaction('files', 'readwrite').objectStore('files').clear();
        clearing.onsuccess = () => resolve();
        clearing.onerror = reject;
    };
})"""

UNDER_WAY = """() => new Promise((resolve, reject) => {
    const opening = indexedDB.open('uppy-blobs');
    opening.onsuccess = () => {
        const reading = opening.result.transaction(['metadata']);
        const notes = reading.objectStore('metadata').getAll();
        reading.oncomplete = () => resolve(
            notes.result.flatMap((note) => Object.keys(JSON.parse(note.metadata).currentUploads)).length
        );
        reading.onerror = reject;
    };
})"""
REMEMBERED = """() => new Promise((resolve, reject) => {
    const opening = indexedDB.open('uppy-blobs');
    opening.onsuccess = () => {
        const reading = opening.result.transaction(['files', 'metadata']);
        const blobs = reading.objectStore('files').count();
        const notes = reading.objectStore('metadata').getAll();
        reading.oncomplete = () => {
            const noted = notes.result.flatMap((note) => Object.keys(JSON.parse(note.metadata).files));
            resolve(Math.min(blobs.result, noted.length));
        };
        reading.onerror = reject;
    };
})"""


def film_like(path: Path, size_bytes: int) -> Path:
    """Write bytes that are not a video but pass the check of a file's beginning."""
    noise = random.Random(path.name)
    with path.open("wb") as file:
        for begin in range(0, size_bytes, MIB):
            file.write(noise.randbytes(min(MIB, size_bytes - begin)))
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_sha256(product: Product, video_id: str) -> str:
    """Hash a video's source as stored."""
    environment = product.environment
    client = boto3.client(
        "s3",
        endpoint_url=environment["S3_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    )
    found = client.get_object(Bucket=environment["S3_RAW_BUCKET"], Key=f"uploads/{video_id}.orig")
    digest = hashlib.sha256()
    for piece in found["Body"].iter_chunks(MIB):
        digest.update(piece)
    return digest.hexdigest()


class Uploader:
    """The upload panel on one page."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.page = visit.page
        self.warnings: list[str] = []
        self.created = 0
        """Uploads created, counting each part of a file."""
        self.resumed_at: list[int] = []
        """Offsets of PATCH requests that resumed an upload."""
        self.page.on("request", self._note_request)
        self.page.on("dialog", self._accept)

    def choose(self, *files: Path) -> None:
        self.page.locator("input.uppy-Dashboard-input").first.set_input_files(files)

    def start(self, files: int = 1) -> None:
        name = f"Upload {files} file{'s' if files > 1 else ''}"
        self.page.get_by_role("button", name=name, exact=True).click()

    def give_title(self, file: Path, title: str) -> None:
        self.page.get_by_role("button", name=f"Edit the title of {file.name}").click()
        self.page.get_by_label("Title", exact=True).fill(title)
        self.page.get_by_role("button", name="Save", exact=True).click()

    def until_remembered(self, files: int) -> None:
        """Wait until the browser has saved the files in the panel, which it does twice a second."""
        self.visit.until(lambda: self.page.evaluate(REMEMBERED) == files)

    def until_remembered_as_ended(self) -> None:
        """Wait until the browser has saved that no upload is under way: else a reload would resume it."""
        self.visit.until(lambda: self.page.evaluate(UNDER_WAY) == 0)

    def forget_files(self) -> None:
        """Delete the files that the browser saved, as it does itself when space is short."""
        self.page.evaluate(FORGET_FILES)

    def percent(self) -> float:
        """The progress that the panel shows, or 0 if nothing is uploading."""
        bar = self.page.locator(".uppy-StatusBar-progress")
        return float(bar.get_attribute("aria-valuenow") or 0) if bar.count() else 0.0

    def until_percent(self, percent: float) -> None:
        self.visit.until(lambda: self.percent() >= percent)

    def watch_link(self, seconds: float = 60) -> str:
        """Wait for the video's link and return the video's id."""
        link = self.page.get_by_role("link", name="Watch", exact=True)
        link.wait_for(timeout=seconds * 1000)
        return (link.get_attribute("href") or "").rpartition("/")[2]

    def _note_request(self, request: Request) -> None:
        if request.method == "POST" and request.url.endswith("/api/uploads"):
            self.created += request.headers.get("upload-concat", "") in ("", "partial")
        offset = int(request.headers.get("upload-offset", "0"))
        if request.method == "PATCH" and offset > 0:
            self.resumed_at.append(offset)

    def _accept(self, dialog: Dialog) -> None:
        self.warnings.append(dialog.type)
        dialog.accept()
