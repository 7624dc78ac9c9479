import { expect, it } from 'vitest';

import { embedCode } from '../src/share/embed';

const ROOT = 'https://example.org/vod/';

it('embeds the player below the path of the server, with the code and the start', () => {
  const html = embedCode('spring', 'Spring', ROOT, { code: 'a&b', seconds: 90.7 });
  expect(html).toContain('src="https://example.org/vod/embed/spring?access_code=a%26b&amp;t=90"');
});

it('keeps the title inside its attribute', () => {
  const html = embedCode('x', '"><script>alert(1)</script>&', ROOT, {});
  expect(html).toContain('title="&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;" style');
});
