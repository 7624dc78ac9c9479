import { addressOf } from '../api/address';

/** Text that is safe in an attribute. */
const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** The HTML that puts the player into a page of another site; `code` opens the video, `seconds` is where it starts. */
export function embedCode(name: string, title: string, root: string, { code, seconds }: { code?: string; seconds?: number }): string {
  const url = new URL(addressOf(`/embed/${encodeURIComponent(name)}`, root));
  if (code !== undefined) url.searchParams.set('access_code', code);
  if (seconds !== undefined) url.searchParams.set('t', String(Math.floor(seconds)));
  return (
    `<iframe src="${escaped(url.href)}" width="640" height="360" title="${escaped(title)}" style="border:0" ` +
    'allow="autoplay; fullscreen; picture-in-picture" allowfullscreen loading="lazy"></iframe>'
  );
}
