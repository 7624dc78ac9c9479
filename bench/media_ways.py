"""Other ffmpeg commands for the same renditions, derived from the command line of the worker's ffmpeg.

That line is read from the running process, so the options cannot drift from the worker's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.core.records import Rendition

_CLUSTERS = {"-cluster_time_limit", "-cluster_size_limit"}
_OF_THE_FILE = {"-f", "-movflags", "-frag_duration", "-update", *_CLUSTERS}
"""Muxer options, which do not apply to the null output. Encoder options are kept."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output. `options` excludes muxer options and includes `-map`."""

    options: tuple[tuple[str, str], ...]

    @property
    def ports(self) -> tuple[str, ...]:
        """The filter graph outputs that it uses."""
        return tuple(value for name, value in self.options if name == "-map")

    def value(self, option: str) -> str | None:
        return next((value for name, value in self.options if name == option), None)


@dataclass(frozen=True, slots=True)
class FfmpegCommand:
    """A command line with one input, filter graphs, and outputs whose options all take a value."""

    program: str
    before_input: tuple[str, ...]
    graphs: tuple[str, ...]
    outputs: tuple[Output, ...]

    def output_of(self, rendition: str) -> Output:
        names = {f"[{rendition}]", f"[aac-{rendition}]"}
        return next(output for output in self.outputs if names & set(output.ports))


def parse_command(argv: Sequence[str]) -> FfmpegCommand:
    source = argv.index("-i")
    graphs: list[str] = []
    outputs: list[Output] = []
    options: list[tuple[str, str]] = []
    words = iter(argv[source + 2 :])
    for word in words:
        if word == "-filter_complex":
            graphs.append(next(words))
        elif word.startswith("-"):
            options.append((word, next(words)))
        else:
            outputs.append(Output(tuple(pair for pair in options if pair[0] not in _OF_THE_FILE)))
            options = []
    return FfmpegCommand(argv[0], tuple(argv[1:source]), tuple(graphs), tuple(outputs))


def one_pass(command: FfmpegCommand, source: Path) -> list[str]:
    """Return a command with the same graphs and encoders that reads the file and discards its output."""
    argv = [command.program, *_local(command.before_input), "-i", str(source)]
    for graph in command.graphs:
        argv += ["-filter_complex", graph]
    for output in command.outputs:
        argv += [*_words(output), "-f", "null", "-"]
    return argv


def one_by_one(command: FfmpegCommand, renditions: Sequence[Rendition], source: Path) -> list[list[str]]:
    """Return one command per rendition. Each decodes the whole source and discards its output."""
    before = [command.program, *_local(command.before_input), "-i", str(source)]
    commands: list[list[str]] = []
    for rendition in renditions:
        options = [pair for pair in command.output_of(rendition.name).options if pair[0] != "-map"]
        if rendition.kind == "video":
            size = f"scale={rendition.width}:{rendition.height}:flags=bicubic,setsar=1,format=yuv420p"
            # the WebM file shares the largest AV1 rendition, whose output therefore has audio options
            codec = [pair for pair in options if not pair[0].endswith(":a") and ":a:" not in pair[0]]
            options = [("-map", "0:v:0"), ("-vf", size), *codec]
        else:
            options = [("-map", "0:a:0"), ("-ac", "2"), *options]
        commands.append([*before, *_words(Output(tuple(options))), "-f", "null", "-"])
    return commands


def _local(options: Sequence[str]) -> list[str]:
    """Allow `file`: the worker's ffmpeg may only open its loopback feeder."""
    words = list(options)
    for index, word in enumerate(words[:-1]):
        if word == "-protocol_whitelist":
            words[index + 1] = "file"
    return words


def _words(output: Output) -> list[str]:
    return [word for pair in output.options for word in pair]
