/** The shapes that the API speaks. */

export type Stage = 'queued' | 'uploading' | 'downloading' | 'transcoding' | 'finalizing' | 'complete' | 'failed';
export type StatusWord = 'queued' | 'processing' | 'done' | 'error';
export type Visibility = 'private' | 'public';

export interface Status {
  id: string;
  stage: Stage;
  status: StatusWord;
  progress: number;
  estimated_remaining_seconds: number | null;
  error: { code: string; message: string } | null;
  qualities: string[];
  duration_seconds: number | null;
  playable: boolean;
}

export interface Video {
  id: string;
  title: string;
  filename: string;
  size_bytes: number;
  visibility: Visibility;
  created_at: string;
  status: Status;
}

export interface VideoPage {
  videos: Video[];
  next_cursor: string | null;
}

export interface VideoChange {
  title?: string;
  visibility?: Visibility;
}

export interface Playback {
  hls: string;
  dash: string;
  webm: string | null;
  poster: string | null;
  expires_at: string;
}

export interface UploadAnswer {
  id: string;
  watch_url: string;
}
