"""When the worker sweeps: once per interval across all workers, while jobs run."""

import asyncio
import random
from datetime import timedelta

import structlog

from backend.core import keys
from backend.core.concurrency import sleep_unless_set
from backend.core.errors import StoreError
from backend.core.jobs.job_queue import JobQueue
from backend.core.records import Swept
from backend.core.store.interface import Buckets
from backend.core.sweep.retention import RetentionRules, clean
from backend.core.sweep.sweeper import SweepRules, sweep

log = structlog.get_logger(__name__)

FIRST_CHECK_SECONDS = 60.0
MAX_PAUSE_SECONDS = 3600.0


async def keep_sweeping(
    buckets: Buckets,
    queue: JobQueue,
    rules: SweepRules,
    retention: RetentionRules,
    *,
    every_seconds: float,
    stop: asyncio.Event,
) -> None:
    """Until `stop` is set, sweep when no worker has done so for `every_seconds`.

    Two workers may sweep at the same time without harm.
    """
    pause = min(FIRST_CHECK_SECONDS, every_seconds)
    while True:
        await sleep_unless_set(stop, pause * random.uniform(1, 1.5))  # noqa: S311  # keeps workers apart
        if stop.is_set():
            return
        pause = min(MAX_PAUSE_SECONDS, every_seconds)
        try:
            if await _is_due(buckets, timedelta(seconds=every_seconds)):
                await _sweep(buckets, queue, rules, retention)
        except StoreError as error:
            log.warning("sweep_failed", error=error.message)
        except Exception:  # a bug must neither end this task unseen, nor the worker
            log.exception("sweep_broke")


async def _is_due(buckets: Buckets, every: timedelta) -> bool:
    page = await buckets.raw.list_page(keys.LAST_SWEEP, limit=1)
    last = next((info for info in page.objects if info.key == keys.LAST_SWEEP), None)
    return last is None or page.store_now - last.modified >= every


async def _sweep(buckets: Buckets, queue: JobQueue, rules: SweepRules, retention: RetentionRules) -> None:
    report = await sweep(buckets, queue, rules)
    size_bytes = sum(finding.size_bytes for finding in report.findings)
    swept = Swept(findings=len(report.findings), size_bytes=size_bytes)
    await buckets.raw.put(keys.LAST_SWEEP, swept.to_json())
    log.info("sweep_done", findings=swept.findings, size_bytes=swept.size_bytes)
    if retention.is_limited:
        cleaned = await clean(buckets, retention)
        size_bytes = sum(reduction.size_bytes for reduction in cleaned.reductions)
        log.info("clean_done", reduced=len(cleaned.reductions), size_bytes=size_bytes)
