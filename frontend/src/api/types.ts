/** The site's names for the types generated from the API (`npm run types`). */

import type { components } from './schema';

type Schemas = components['schemas'];

/** OpenAPI marks fields with a default as optional, but the API always sends them. */
type Sent<T> = { [K in keyof T]-?: Exclude<T[K], undefined> };

export type Status = Sent<Schemas['Status']>;
export type Video = Sent<Omit<Schemas['VideoItem'], 'status'>> & { status: Status };
export type VideoDetails = Video & { source: SourceFile | null; chapters: Chapter[] };
export type SourceFile = Sent<Omit<Schemas['SourceFile'], 'video' | 'audio'>> & {
  video: Sent<Schemas['SourceVideo']> | null;
  audio: Sent<Schemas['SourceAudio']>[];
};
export type Chapter = Schemas['Chapter'];
export type Image = Sent<Schemas['ImageItem']>;
export type ImagePage = { images: Image[]; next_cursor: string | null };
export type ImageChange = VideoChange;
export type VideoPage = { videos: Video[]; next_cursor: string | null };
export type VideoChange = { title?: string; visibility?: Schemas['Visibility']; slug?: string };
export type UploadLink = Schemas['UploadLinkItem'];
export type NewUploadLink = Schemas['NewUploadLink'];
export type MadeUploadLink = Schemas['MadeUploadLink'];
export type GuestLink = Schemas['UploadLinkForGuest'];
export type Playback = Schemas['Playback'];
/** A private link, without the code in it. */
export type AccessCode = Sent<Schemas['SharedCode']>;
export type NewAccessCode = Schemas['NewCode'];
/** Who is signed in. `person` is null for the holder of the admin token. */
export type Principal = Schemas['SignedIn'];
/** A browser in which one is signed in. */
export type Device = Schemas['SessionItem'];
export type Person = Schemas['PersonItem'];
export type Role = Schemas['Role'];
export type Captions = Schemas['CaptionsItem'];
export type Resumption = Sent<Schemas['Resumption']>;

/** An access code that a guest was given, with its passphrase. */
export interface Access {
  code: string;
  passphrase: string | null;
}
