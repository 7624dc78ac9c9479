/** Reads the file to upload, and identifies it by its content. */

// WebCrypto is unavailable on pages served over plain HTTP, and hashing 2 MiB is fast without it.
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';

import { ApiError } from '../api/errors';

const MIB = 1024 * 1024;

/** Raises ApiError `file_unreadable`: browsers refuse to read a file that was changed or moved. */
export async function readBytes(piece: Blob): Promise<Uint8Array> {
  try {
    return new Uint8Array(await piece.arrayBuffer());
  } catch {
    throw new ApiError('file_unreadable', 0, 'The file was changed or moved.');
  }
}

/**
 * Return 64 hexadecimal digits: the same for this file in any browser and on the command line (docs/uploads.md).
 * Raises ApiError `file_unreadable`.
 */
export async function fingerprint(file: Blob): Promise<string> {
  const pieces = file.size <= 2 * MIB ? [file] : [file.slice(0, MIB), file.slice(-MIB)];
  const hash = sha256.create().update(utf8ToBytes(`vodbucket-1\n${file.size}\n`));
  for (const piece of pieces) hash.update(await readBytes(piece));
  return bytesToHex(hash.digest());
}

/** The key under which the upload of a file with a given title is noted: each title gets its own video. */
export function titledKey(fingerprint: string, title: string): string {
  return bytesToHex(sha256(utf8ToBytes(`${fingerprint}\n${title}`)));
}
