/** The API calls that the site makes. Every failure is an ApiError. */

import { addressOf } from './address';
import { ApiError, hasCode, isGone } from './errors';
import { eventsIn } from './event-stream';
import type { Connect } from './following';
import type {
  Access,
  AccessCode,
  Captions,
  Device,
  GuestLink,
  Image,
  ImageChange,
  ImagePage,
  MadeUploadLink,
  NewAccessCode,
  NewUploadLink,
  Person,
  Playback,
  Principal,
  Resumption,
  Role,
  Status,
  UploadLink,
  VideoChange,
  VideoDetails,
  VideoPage,
} from './types';

/** For requests without a file. A slower response is not coming. */
const RESPONSE_TIMEOUT_MS = 120_000;

export interface UploadState {
  /** All bytes have arrived. */
  complete: boolean;
  /** Of the video, or given when the upload began. null: none, or unknown, as for a part of a file. */
  title: string | null;
}

export class Api {
  readonly #root: string;
  readonly #unauthorizedListeners = new Set<() => void>();

  /** `root` is the address that the server has for this page. A guest sends an upload link with every request. */
  constructor(
    root: string,
    readonly link: string | null = null,
  ) {
    this.#root = root;
  }

  /** The API for a guest. */
  forGuest(link: string): Api {
    return new Api(this.#root, link);
  }

  /** The path with the guest's link, which no other path on this site contains. */
  linked(path: string): string {
    return this.link === null ? path : `${path}${path.includes('?') ? '&' : '?'}upload_link=${this.link}`;
  }

  /** Call `listener` on every 401; returns its own undo. */
  onUnauthorized(listener: () => void): () => void {
    this.#unauthorizedListeners.add(listener);
    return () => this.#unauthorizedListeners.delete(listener);
  }

  /** Notify the listeners of a 401 that a quiet request received. */
  reportUnauthorized(): void {
    for (const listener of this.#unauthorizedListeners) listener();
  }

  async signIn(token: string): Promise<void> {
    await this.#request('POST', '/api/session', { body: { token }, quiet: true });
  }

  async signOut(): Promise<void> {
    await this.#request('DELETE', '/api/session', { quiet: true });
  }

  /** What people call the provider by which they can sign in, or null. */
  async signInService(): Promise<string | null> {
    return (await this.#json<{ name: string | null }>('GET', '/api/oidc', { quiet: true })).name;
  }

  /** Who is signed in, or null. */
  async signedIn(): Promise<Principal | null> {
    try {
      return await this.#json('GET', '/api/session', { quiet: true });
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return null;
      throw error;
    }
  }

  /** Where one is signed in, the latest first. */
  async devices(): Promise<Device[]> {
    return (await this.#json<{ sessions: Device[] }>('GET', '/api/sessions')).sessions;
  }

  async signOutDevice(id: string): Promise<void> {
    await this.#request('DELETE', `/api/sessions/${encodeURIComponent(id)}`);
  }

  async people(): Promise<Person[]> {
    return (await this.#json<{ people: Person[] }>('GET', '/api/people')).people;
  }

  addPerson(name: string, role: Role): Promise<Person & { token: string }> {
    return this.#json('POST', '/api/people', { body: { name, role } });
  }

  changeRole(id: string, role: Role): Promise<Person> {
    return this.#json('PATCH', `/api/people/${encodeURIComponent(id)}`, { body: { role } });
  }

  /** A token that replaces the person's others. */
  async newToken(id: string): Promise<string> {
    return (await this.#json<{ token: string }>('POST', `/api/people/${encodeURIComponent(id)}/token`)).token;
  }

  async withdrawAccess(id: string): Promise<void> {
    await this.#request('DELETE', `/api/people/${encodeURIComponent(id)}`);
  }

  videos(cursor: string | null, limit: number): Promise<VideoPage> {
    const query = new URLSearchParams({ limit: String(limit) });
    if (cursor !== null) query.set('cursor', cursor);
    return this.#json('GET', `/api/videos?${query}`);
  }

  /** With `quiet`, a 401 is left to the caller and does not ask the viewer to sign in. */
  video(id: string, quiet = false): Promise<VideoDetails> {
    return this.#json('GET', `/api/videos/${encodeURIComponent(id)}`, { quiet });
  }

  status(id: string): Promise<Status> {
    return this.#json('GET', `/api/videos/${encodeURIComponent(id)}/status`);
  }

  /** What happens to a video, while one may watch it. */
  followVideo(id: string, access: () => Access | null = () => null): Connect {
    return (heard, lost) => {
      const ended = new AbortController();
      const { query, headers } = sent(access());
      // Not an EventSource, which cannot send headers.
      void this.#request('GET', `/api/videos/${encodeURIComponent(id)}/events${query}`, {
        quiet: true,
        headers,
        signal: ended.signal,
      })
        .then(async ({ body }) => {
          for await (const { type, data } of eventsIn(body!)) {
            if (ended.signal.aborted) return;
            heard({ ...JSON.parse(data), type });
          }
        })
        .catch(() => undefined)
        .then(() => {
          if (!ended.signal.aborted) lost();
        });
      return () => ended.abort();
    };
  }

  /** What happens to all videos that one may see. */
  followAll(): Connect {
    return (heard, lost) => {
      const socket = new WebSocket(addressOf('/api/ws', this.#root).replace(/^http/, 'ws'));
      socket.onmessage = ({ data }: MessageEvent<string>) => heard(JSON.parse(data));
      socket.onclose = lost;
      return () => {
        socket.onclose = null;
        socket.close();
      };
    };
  }

  /** With full addresses, because Shaka does not resolve those of added tracks. */
  async playback(id: string, quiet = false, access: Access | null = null): Promise<Playback> {
    const { query, headers } = sent(access);
    const path = `/api/videos/${encodeURIComponent(id)}/playback${query}`;
    const playback = await this.#json<Playback>('GET', path, { quiet, headers });
    const full = (part: string) => addressOf(part, this.#root);
    const maybe = (part: string | null | undefined) => (part == null ? null : full(part));
    return {
      ...playback,
      hls: full(playback.hls),
      dash: full(playback.dash),
      webm: maybe(playback.webm),
      mp4: maybe(playback.mp4),
      poster: maybe(playback.poster),
      storyboard: maybe(playback.storyboard),
      captions: playback.captions.map((captions) => ({ ...captions, url: full(captions.url) })),
    };
  }

  async change(id: string, change: VideoChange): Promise<void> {
    await this.#request('PATCH', `/api/videos/${encodeURIComponent(id)}`, { body: change });
  }

  async remove(id: string): Promise<void> {
    await this.#request('DELETE', `/api/videos/${encodeURIComponent(id)}`);
  }

  images(cursor: string | null, limit: number): Promise<ImagePage> {
    const query = new URLSearchParams({ limit: String(limit) });
    if (cursor !== null) query.set('cursor', cursor);
    return this.#json('GET', `/api/images?${query}`);
  }

  uploadImage(file: File): Promise<Image> {
    return this.#json('POST', `/api/images?${new URLSearchParams({ filename: file.name })}`, { file });
  }

  changeImage(id: string, change: ImageChange): Promise<Image> {
    return this.#json('PATCH', `/api/images/${encodeURIComponent(id)}`, { body: change });
  }

  async removeImage(id: string): Promise<void> {
    await this.#request('DELETE', `/api/images/${encodeURIComponent(id)}`);
  }

  /** Add a video whose file the server downloads from this address. */
  addLink(url: string): Promise<{ id: string }> {
    return this.#json('POST', '/upload/remote', { body: { url } });
  }

  async uploadLinks(): Promise<UploadLink[]> {
    return (await this.#json<{ upload_links: UploadLink[] }>('GET', '/api/upload-links')).upload_links;
  }

  makeUploadLink(link: NewUploadLink): Promise<MadeUploadLink> {
    return this.#json('POST', '/api/upload-links', { body: link });
  }

  async withdrawUploadLink(id: string): Promise<void> {
    await this.#request('DELETE', `/api/upload-links/${encodeURIComponent(id)}`);
  }

  /** What a guest's link allows. */
  guestLink(): Promise<GuestLink> {
    return this.#json('GET', '/api/upload-link', { quiet: true });
  }

  /** Cancel what a video's job does or waits for. */
  async cancel(id: string): Promise<void> {
    await this.#request('DELETE', `/jobs/${encodeURIComponent(id)}`);
  }

  /** Queue the video again, from its source. */
  async retranscode(id: string): Promise<void> {
    await this.#request('POST', `/api/videos/${encodeURIComponent(id)}/transcodes`);
  }

  /** The access codes that open this video. */
  async accessCodes(mediaId: string): Promise<AccessCode[]> {
    const query = new URLSearchParams({ media_id: mediaId });
    const response = await this.#json<{ access_codes: AccessCode[] }>('GET', `/api/access-codes?${query}`);
    return response.access_codes;
  }

  makeAccessCode(wishes: NewAccessCode): Promise<AccessCode & { code: string }> {
    return this.#json('POST', '/api/access-codes', { body: wishes });
  }

  async withdrawAccessCode(id: string): Promise<void> {
    await this.#request('DELETE', `/api/access-codes/${encodeURIComponent(id)}`);
  }

  async captions(id: string): Promise<Captions[]> {
    const response = await this.#json<{ captions: Captions[] }>('GET', `/api/videos/${encodeURIComponent(id)}/captions`);
    return response.captions;
  }

  /** Upload SRT or WebVTT. With an empty label the server chooses the name. */
  uploadCaptions(id: string, language: string, label: string, file: Blob): Promise<Captions> {
    const query = label === '' ? '' : `?${new URLSearchParams({ label })}`;
    return this.#json('POST', `${captionsPath(id, language)}${query}`, { file });
  }

  async deleteCaptions(id: string, language: string): Promise<void> {
    await this.#request('DELETE', captionsPath(id, language));
  }

  /** How to resume a file, or null if it was never started. Like everything below, this leaves a 401 to the caller. */
  async resumption(fingerprint: string): Promise<Resumption | null> {
    try {
      return await this.#json('GET', resumptionPath(fingerprint), { quiet: true });
    } catch (error) {
      if (hasCode(error, 'resumption_not_found')) return null;
      throw error;
    }
  }

  async noteResumption(fingerprint: string, note: Resumption): Promise<void> {
    await this.#request('PUT', resumptionPath(fingerprint), { body: note, quiet: true });
  }

  async forgetResumption(fingerprint: string): Promise<void> {
    await this.#request('DELETE', resumptionPath(fingerprint), { quiet: true });
  }

  /** The largest file that the server accepts, or null if it does not say. */
  async maxUploadBytes(): Promise<number | null> {
    if (this.link !== null) return (await this.guestLink()).max_bytes;
    const response = await this.#request('OPTIONS', '/api/uploads', { headers: TUS, quiet: true });
    const bytes = response.headers.get('tus-max-size');
    return bytes === null ? null : Number(bytes);
  }

  /** An upload's state, or null if it is gone, or if its video was deleted. */
  async upload(path: string): Promise<UploadState | null> {
    try {
      const { headers } = await this.#request('HEAD', path, { headers: TUS, quiet: true });
      const videoId = headers.get('video-id');
      const complete = headers.get('upload-offset') === headers.get('upload-length');
      if (videoId !== null && this.link === null) return { complete, title: (await this.video(videoId, true)).title };
      return { complete, title: titleIn(headers.get('upload-metadata') ?? '') };
    } catch (error) {
      if (isGone(error)) return null;
      throw error;
    }
  }

  /** Delete an upload, if it still exists. */
  async discardUpload(path: string): Promise<void> {
    try {
      await this.#request('DELETE', path, { headers: TUS, quiet: true });
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }

  async #json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.#request(method, path, options);
    try {
      return (await response.json()) as T;
    } catch {
      throw new ApiError('unexpected_answer', response.status, 'not JSON');
    }
  }

  async #request(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
    const init: RequestInit = { method, cache: 'no-store', headers: options.headers ?? {} };
    if (options.body !== undefined) {
      init.body = JSON.stringify(options.body);
      init.headers = { 'content-type': 'application/json' };
    } else if (options.file !== undefined) {
      init.body = options.file;
      init.headers = { 'content-type': 'application/octet-stream' };
    }
    if (options.file === undefined) init.signal = options.signal ?? AbortSignal.timeout(RESPONSE_TIMEOUT_MS);
    let response: Response;
    try {
      response = await fetch(addressOf(this.linked(path), this.#root), init);
    } catch {
      throw new ApiError('network', 0, 'no response');
    }
    if (response.ok) return response;
    if (response.status === 401 && options.quiet !== true) this.reportUnauthorized();
    const body = await response.text().catch(() => '');
    throw ApiError.from(response.status, body, response.headers.get('retry-after'));
  }
}

/** Every tus request must name the protocol version. */
const TUS = { 'tus-resumable': '1.0.0' };

/** The title in `Upload-Metadata` (tus 1.0.0): `key base64,key base64`. */
function titleIn(metadata: string): string | null {
  const encoded = metadata.split(',').find((pair) => pair.trim().startsWith('title '))?.trim().split(' ')[1];
  if (encoded === undefined) return null;
  return new TextDecoder().decode(Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0)));
}

/** How a request says what a guest was given. */
function sent(access: Access | null): { query: string; headers: Record<string, string> } {
  const query = access === null ? '' : `?${new URLSearchParams({ access_code: access.code })}`;
  const passphrase = access?.passphrase;
  return { query, headers: passphrase == null ? {} : { 'access-passphrase': encodeURIComponent(passphrase) } };
}

function resumptionPath(fingerprint: string): string {
  return `/api/resumptions/${encodeURIComponent(fingerprint)}`;
}

function captionsPath(id: string, language: string): string {
  return `/api/videos/${encodeURIComponent(id)}/captions/${encodeURIComponent(language)}`;
}

interface RequestOptions {
  /** Sent as JSON. */
  body?: unknown;
  file?: Blob;
  headers?: Record<string, string>;
  /** Aborts the request, which may take as long as it likes. */
  signal?: AbortSignal;
  quiet?: boolean;
}
