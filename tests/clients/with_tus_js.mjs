/**
 * Uploads a file as a tus-js-client user would, and prints the upload's URL.
 *
 * node with_tus_js.mjs ENDPOINT TOKEN FILE MEMORY: if it is killed, run it again to resume from the state in MEMORY.
 */
import { createReadStream, existsSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';

import { FileUrlStorage, Upload } from 'tus-js-client';

const [endpoint, token, file, memory] = process.argv.slice(2);
if (!existsSync(memory)) writeFileSync(memory, '{}');

const upload = new Upload(createReadStream(file), {
  endpoint,
  headers: { Authorization: `Bearer ${token}` },
  metadata: { filename: basename(file), filetype: 'video/mp4' },
  retryDelays: Array(1000).fill(1000),
  urlStorage: new FileUrlStorage(memory),
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess: () => console.log(upload.url),
});

const [previous] = await upload.findPreviousUploads();
if (previous) upload.resumeFromPreviousUpload(previous);
upload.start();
