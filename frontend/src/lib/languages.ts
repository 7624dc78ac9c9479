/** Languages to choose from: their tags (BCP 47) and names. */

export interface Language {
  tag: string;
  name: string;
}

/** Those that films are most often subtitled in; any other may be typed. */
const TAGS = [
  ...['ar', 'bg', 'bn', 'ca', 'cs', 'da', 'de', 'el', 'en', 'es', 'es-419', 'et', 'eu', 'fa', 'fi', 'fil', 'fr', 'ga'],
  ...['gl', 'he', 'hi', 'hr', 'hu', 'hy', 'id', 'is', 'it', 'ja', 'ka', 'ko', 'lt', 'lv', 'mk', 'ms', 'nb', 'nl', 'pl'],
  ...['pt', 'pt-BR', 'ro', 'ru', 'sk', 'sl', 'sq', 'sr', 'sv', 'sw', 'ta', 'te', 'th', 'tr', 'uk', 'ur', 'vi'],
  ...['zh-Hans', 'zh-Hant'],
];

const names = new Intl.DisplayNames(['en'], { type: 'language' });

/** The language's name in the page's own language; the tag where there is none. */
export function languageName(tag: string): string {
  if (tag === '') return ''; // to `Intl` that is the root of all languages
  try {
    return names.of(tag) ?? tag;
  } catch {
    return tag; // `Intl` throws for what it does not take for a tag
  }
}

/** By name, those of the viewer (`navigator.languages`) first. */
export function languageChoices(own: readonly string[]): Language[] {
  const rank = (tag: string) => {
    const index = own.findIndex((one) => one === tag || one.split('-')[0] === tag);
    return index < 0 ? own.length : index;
  };
  return TAGS.map((tag) => ({ tag, name: languageName(tag) })).sort(
    (one, other) => rank(one.tag) - rank(other.tag) || one.name.localeCompare(other.name, 'en'),
  );
}

/** The language that a file is named after (`film.en.srt`, `film.pt-br.vtt`), null where it is none of the choices. */
export function languageOfFile(name: string): string | null {
  const part = name.toLowerCase().split('.').at(-2);
  return TAGS.find((tag) => tag.toLowerCase() === part) ?? null;
}
