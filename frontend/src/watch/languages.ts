/** The languages to choose from, by tag (BCP 47) and name. */

export interface Language {
  tag: string;
  name: string;
}

/** The most common subtitle languages. Any other tag may be typed. */
const TAGS = [
  ...['ar', 'bg', 'bn', 'ca', 'cs', 'da', 'de', 'el', 'en', 'es', 'es-419', 'et', 'eu', 'fa', 'fi', 'fil', 'fr', 'ga'],
  ...['gl', 'he', 'hi', 'hr', 'hu', 'hy', 'id', 'is', 'it', 'ja', 'ka', 'ko', 'lt', 'lv', 'mk', 'ms', 'nb', 'nl', 'pl'],
  ...['pt', 'pt-BR', 'ro', 'ru', 'sk', 'sl', 'sq', 'sr', 'sv', 'sw', 'ta', 'te', 'th', 'tr', 'uk', 'ur', 'vi'],
  ...['zh-Hans', 'zh-Hant'],
];

const names = new Intl.DisplayNames(['en'], { type: 'language' });

/** The language's English name, or the tag if it has none. */
export function languageName(tag: string): string {
  if (tag === '') return ''; // `Intl` would name the root language
  try {
    return names.of(tag) ?? tag;
  } catch {
    return tag; // `Intl` throws for an invalid tag
  }
}

/** The viewer's own languages (`navigator.languages`) first, then by name. */
export function languageChoices(own: readonly string[]): Language[] {
  const rank = (tag: string) => {
    const index = own.findIndex((one) => one === tag || one.split('-')[0] === tag);
    return index < 0 ? own.length : index;
  };
  return TAGS.map((tag) => ({ tag, name: languageName(tag) })).sort(
    (one, other) => rank(one.tag) - rank(other.tag) || one.name.localeCompare(other.name, 'en'),
  );
}

/** The language in a file name (`film.en.srt`, `film.pt-br.vtt`), or null if it is not one of the choices. */
export function languageFromFilename(name: string): string | null {
  const part = name.toLowerCase().split('.').at(-2);
  return TAGS.find((tag) => tag.toLowerCase() === part) ?? null;
}
