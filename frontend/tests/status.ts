import type { Status } from '../src/api/types';

/** A status as the API sends it, with these fields changed. */
export function status(changes: Partial<Status> = {}): Status {
  return {
    id: 'v',
    reduced: false,
    schema_version: 1,
    stage: 'transcoding',
    status: 'processing',
    progress: 0,
    stage_progress: 0,
    current_stage_index: 1,
    total_stages: 4,
    elapsed_seconds: 0,
    estimated_remaining_seconds: null,
    error: null,
    started_at_unix_ms: 0,
    last_update_unix_ms: 0,
    qualities: [],
    renditions: [],
    duration_seconds: null,
    captions: [],
    received_bytes: null,
    total_bytes: null,
    chapters: [],
    playable: false,
    encoder: null,
    encoder_fallback: null,
    attempt: 1,
    outputs: null,
    request: 'v',
    ...changes,
  };
}
