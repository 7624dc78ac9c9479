/** Reads of the file that is to be uploaded, which is on a disk that may be unplugged. */

import { ApiError } from '../api/errors';

/** Raises ApiError `file_unreadable`. A browser refuses a file as soon as it was changed or moved. */
export async function bytesOf(piece: Blob): Promise<Uint8Array> {
  try {
    return new Uint8Array(await piece.arrayBuffer());
  } catch {
    throw new ApiError('file_unreadable', 0, 'The file was changed or moved.');
  }
}
