/** What tells a file from all others, in any browser and on the command line (docs/uploads.md). */

// WebCrypto is not there on a page that came over plain http, and 2 MiB are quickly hashed without it.
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';

import { bytesOf } from './reading';

const MIB = 1024 * 1024;

/** Return 64 hexadecimal digits. Raises ApiError `file_unreadable`. */
export async function fingerprint(file: Blob): Promise<string> {
  const pieces = file.size <= 2 * MIB ? [file] : [file.slice(0, MIB), file.slice(-MIB)];
  const hash = sha256.create().update(utf8ToBytes(`vodbucket-1\n${file.size}\n`));
  for (const piece of pieces) hash.update(await bytesOf(piece));
  return bytesToHex(hash.digest());
}
