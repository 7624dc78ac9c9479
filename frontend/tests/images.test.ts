import { describe, expect, it } from 'vitest';

import type { Api } from '../src/api/client';
import { ApiError } from '../src/api/errors';
import type { Image, ImageChange, ImagePage } from '../src/api/types';
import { Images } from '../src/images/images.svelte';

/** Stores images in memory and refuses what is not called *.png. */
class FakeApi {
  readonly stored: Image[];

  constructor(...ids: string[]) {
    this.stored = ids.map((id) => ({ id, title: id }) as Image);
  }

  async images(cursor: string | null): Promise<ImagePage> {
    const start = cursor === null ? 0 : this.stored.findIndex(({ id }) => id === cursor) + 1;
    const images = this.stored.slice(start, start + 2);
    return { images, next_cursor: start + 2 < this.stored.length ? images.at(-1)!.id : null };
  }

  async uploadImage(file: File): Promise<Image> {
    if (!file.name.endsWith('.png')) throw new ApiError('unsupported_image', 415, 'no');
    const image = { id: file.name, title: file.name } as Image;
    this.stored.unshift(image);
    return image;
  }

  async changeImage(id: string, change: ImageChange): Promise<Image> {
    return { ...this.stored.find((image) => image.id === id)!, ...change } as Image;
  }

  async removeImage(): Promise<void> {
    throw new ApiError('image_not_found', 404, 'gone');
  }
}

async function opened(...ids: string[]): Promise<Images> {
  const images = new Images(new FakeApi(...ids) as unknown as Api);
  await images.load();
  return images;
}

const ids = (images: Images) => images.items.map(({ id }) => id);

describe('images', () => {
  it('are loaded page by page', async () => {
    const images = await opened('c', 'b', 'a');
    expect([ids(images), images.hasMore]).toEqual([['c', 'b'], true]);
    await images.more();
    expect([ids(images), images.hasMore]).toEqual([['c', 'b', 'a'], false]);
  });

  it('are uploaded one after the other, and those that fail are named', async () => {
    const images = await opened('a');
    const large = new File([], 'large.png');
    Object.defineProperty(large, 'size', { value: 33 * 1024 ** 2 });
    await images.upload([new File([], 'b.png'), new File([], 'c.gif'), large, new File([], 'd.png')]);
    expect(ids(images)).toEqual(['d.png', 'b.png', 'a']);
    expect(images.failures.map(({ name }) => name)).toEqual(['c.gif', 'large.png']);
    expect(images.sending).toBeNull();
  });

  it('that were uploaded meanwhile are listed once', async () => {
    const images = await opened('c', 'b', 'a');
    await images.upload([new File([], 'd.png')]);
    await images.more();
    expect(ids(images)).toEqual(['d.png', 'c', 'b', 'a']);
  });

  it('show a change, and leave when somebody else has deleted them', async () => {
    const images = await opened('b', 'a');
    await images.change(images.items[0]!, { visibility: 'public' });
    expect(images.items[0]!.visibility).toBe('public');
    await images.remove(images.items[0]!);
    expect(ids(images)).toEqual(['a']);
  });
});
