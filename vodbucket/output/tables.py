"""Tables of videos, jobs, sweep findings, checks and encoders. The commands print JSON themselves."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from backend.core.jobs.overview import JobEntry, JobsOverview, JobState
from backend.core.printable import escaped
from backend.core.records import Status, StatusWord
from backend.core.store.probes import Check, Verdict
from backend.core.sweep.retention import CleanReport
from backend.core.sweep.sweeper import SweepReport
from vodbucket.client.responses import Person, VideoWithStatus
from vodbucket.doctor.encoders import EncoderTable, Result

PLAIN_WIDTH = 120
"""Width in columns when the output is not a terminal."""

_STYLE = {Verdict.OK: "green", Verdict.INFO: "cyan", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}
_RESULT_STYLE = {Result.CHOSEN: "bold green", Result.WORKS: "green", Result.FAILS: "yellow"}
_VIDEO_STYLE = {StatusWord.ERROR: "bold red", StatusWord.PROCESSING: "green"}
_STATE_STYLE = {JobState.FAILED: "bold red", JobState.UNREADABLE: "bold red", JobState.RUNNING: "green"}


def show_videos(videos: Sequence[VideoWithStatus]) -> None:
    """Print two lines for each video, so that its id fits into 80 columns beside the rest."""
    console, table = _console(), _table("uploaded", "state", "video")
    for video in videos:
        uploaded = video.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
        style = _VIDEO_STYLE.get(video.status.status, "")
        state = _state(video.status) + (f"\n{size(video.size_bytes)}" if video.size_bytes else "")
        table.add_row(uploaded, state, f"{cell(video.title)}\n{video.id}", style=style)
    console.print(table if videos else "No videos.")


def show_video(video: VideoWithStatus, link: str) -> None:
    """Print one line for each known fact."""
    status = video.status
    left = status.estimated_remaining_seconds
    facts = {
        "title": video.title,
        "state": _state(status) + (f", {duration(left)} left" if left else ""),
        "error": status.error.message if status.error else "",
        "qualities": ", ".join(status.qualities),
        "length": duration(status.duration_seconds) if status.duration_seconds else "",
        "watch": link if status.playable else "",
    }
    console = _console()
    for name, value in facts.items():
        if value:
            console.print(f"{name:<9}  {cell(value)}", soft_wrap=True)


def show_people(people: Sequence[Person]) -> None:
    console, table = _console(), _table("added", "role", "name", "id")
    for one in people:
        added = one.created_at.astimezone().strftime("%Y-%m-%d")
        role = "revoked" if one.revoked else one.role
        table.add_row(added, role, cell(one.name), one.id, style="dim" if one.revoked else "")
    console.print(table if people else "Nobody was added.")


def show_jobs(overview: JobsOverview) -> None:
    console = _console()
    if overview.jobs:
        console.print(_jobs_table(overview))
    console.print(_counts(overview))


def show_sweep(report: SweepReport) -> None:
    console = _console()
    if report.findings:
        console.print(_sweep_table(report))
        size_bytes = sum(finding.size_bytes for finding in report.findings)
        verb = "would be cleaned up" if report.dry_run else "cleaned up"
        console.print(f"{len(report.findings)} {verb}, {size(size_bytes)}")
    else:
        console.print("Nothing to clean up.")


def show_clean(report: CleanReport) -> None:
    console = _console()
    if report.reductions:
        table = _table("unwatched for", "size", "video")
        for one in report.reductions:
            table.add_row(duration(one.unwatched_seconds), size(one.size_bytes), one.video_id)
        console.print(table)
    size_bytes = sum(one.size_bytes for one in report.reductions)
    verb = "would be removed" if report.dry_run else "removed"
    coming = f", {size(report.rebuilt_bytes)} more are being made again" if report.rebuilt_bytes else ""
    console.print(f"{size(size_bytes)} of {size(report.stored_bytes)} {verb}{coming}")


def show_checks(checks: Sequence[Check]) -> None:
    """Print the table, then a line of advice for each check that did not pass."""
    console = _console()
    console.print(_checks_table(checks))
    for check in checks:
        if check.advice:
            word = f"[{_STYLE[check.verdict]}]{check.verdict}[/]"
            console.print(f"{word}  {cell(check.name)}: {cell(check.advice)}", soft_wrap=True)


def show_encoders(encoders: EncoderTable) -> None:
    """Print every trial. A failed one shows the reason, and below it what to do about it."""
    console, table = _console(), _table("codec", "encoder", "result", "time", "reason")
    for row in encoders.rows:
        why = "\n".join(map(cell, filter(None, (row.reason, row.advice))))
        style = _RESULT_STYLE[row.result]
        table.add_row(row.codec, row.encoder, f"[{style}]{row.result}[/]", f"{row.seconds:.2f} s", why)
    console.print(table)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def _jobs_table(overview: JobsOverview) -> Table:
    table = _table("state", "age", "job")
    for job in overview.jobs:
        age = "" if job.age_seconds is None else duration(job.age_seconds)
        first = f"{job.request}  {job.title or ''}".rstrip()
        style = _STATE_STYLE.get(job.state, "")
        table.add_row(job.state, age, "\n".join(map(cell, filter(None, (first, _detail(job))))), style=style)
    return table


def _sweep_table(report: SweepReport) -> Table:
    table = _table("kind", "age", "size", "item")
    for found in report.findings:
        what = f"{cell(found.key)}\n{cell(found.why)}"
        table.add_row(found.kind, duration(found.age_seconds), size(found.size_bytes), what)
    return table


def _table(*headings: str) -> Table:
    """Only the last column may wrap."""
    table = Table(box=SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, no_wrap=heading != headings[-1], overflow="fold")
    return table


def _checks_table(checks: Sequence[Check]) -> Table:
    table = _table("check", "result", "measured")
    for check in checks:
        table.add_row(cell(check.name), f"[{_STYLE[check.verdict]}]{check.verdict}[/]", cell(check.measured))
    return table


def duration(seconds: float) -> str:
    """Format with at most two units: `3 d 4 h`, `12 min`, `7 s`."""
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next((place for place, (count, _) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count) or "0 s"


def size(size_bytes: float) -> str:
    """Format in powers of ten, as file managers and the site do: `1.5 MB`."""
    return decimal(int(size_bytes))


def cell(text: str) -> str:
    """Return text from elsewhere as rich prints it literally."""
    return escape(escaped(text))


def _state(status: Status) -> str:
    in_progress = status.status is StatusWord.PROCESSING
    return f"{status.stage} {status.progress:.0%}" if in_progress else str(status.stage)


def _counts(overview: JobsOverview) -> str:
    return ", ".join(f"{count} {state}" for state, count in overview.counts.items() if count) or "No jobs."


def _detail(job: JobEntry) -> str:
    attempt = f"attempt {job.attempt}"
    error = job.error.message if job.error else ""
    match job.state:
        case JobState.RUNNING:
            progress = "" if job.progress is None else f", {job.stage} {job.progress:.0%}"
            units = "" if job.units is None else f", {job.units_done} of {job.units} units done"
            if job.owner is None:
                return f"{attempt} by any worker{progress}{units}"
            heartbeat = f"heartbeat {duration(job.unchanged_seconds)} ago"
            return f"{attempt} by {job.owner}{progress}{units}, {heartbeat}"
        case JobState.WAITING:
            when = f"due in {duration(job.due_in_seconds)}" if job.due_in_seconds else "due now"
            return f"{attempt} {when}: {error}" if error else f"{attempt} {when}"
        case JobState.FAILED if job.error:
            when = f"{duration(job.unchanged_seconds)} ago"
            return f"gave up after {attempt}, {when}; {job.error.code}: {error}"
        case _:
            return error
