/** How a job's progress is put into words. */

import type { Status } from '../api/types';
import { formatBytes, formatPercent, formatRemaining } from '../ui/format';

const STAGES: Record<Status['stage'], string> = {
  queued: 'Waiting for a worker',
  downloading: 'Downloading',
  transcoding: 'Encoding',
  finalizing: 'Checking and publishing',
  complete: 'Ready',
  failed: 'Failed',
};

export interface Progress {
  stage: string;
  /** From 0 to 1; null while nobody knows. */
  share: number | null;
  /** `43% · 2 min left`; empty if there is nothing to say. */
  detail: string;
}

export function progressOf(status: Status): Progress {
  const stage = STAGES[status.stage];
  if (status.stage === 'queued') return { stage, share: null, detail: '' };
  const left = status.estimated_remaining_seconds === null ? [] : [formatRemaining(status.estimated_remaining_seconds)];
  const { received_bytes: received, total_bytes: total } = status;
  if (status.stage !== 'downloading' || received === null) {
    return { stage, share: status.progress, detail: [formatPercent(status.progress), ...left].join(' · ') };
  }
  if (total === null) return { stage, share: null, detail: formatBytes(received) };
  // Of the file: the whole job takes longer than its download, and nobody knows yet by how much.
  return { stage, share: status.stage_progress, detail: [`${formatBytes(received)} of ${formatBytes(total)}`, ...left].join(' · ') };
}

export function isUnderWay(status: Status): boolean {
  return status.status === 'queued' || status.status === 'processing';
}
