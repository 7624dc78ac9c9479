/** Formats sizes, times and titles for display, and parses the times in links. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** Decimal units (IEC 80000-13), three significant digits: `1.23 GB`. */
export function formatBytes(bytes: number): string {
  let value = Math.max(0, bytes);
  let unit = 0;
  // 999.5 would round to 1000, which belongs in the next unit.
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit === 0) return `${Math.round(value)} B`;
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** A position or duration: `4:05`, `1:02:03`. */
export function formatClock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = String(whole % 60).padStart(2, '0');
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

/** A position within a length. At the end, both are equal: `0:30 / 0:30`. */
export function formatPosition(seconds: number, total: number): string {
  const length = Math.round(total);
  // The last frame is shown before the end.
  return `${formatClock(seconds > total - 0.25 ? length : Math.min(seconds, length))} / ${formatClock(length)}`;
}

/** A rough remaining time: `5 s left`, `3 min left`, `1 h 20 min left`. */
export function formatRemaining(seconds: number): string {
  if (seconds < 59.5) return `${Math.max(1, Math.round(seconds))} s left`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min left`;
  const rest = minutes % 60;
  return rest === 0 ? `${minutes / 60} h left` : `${Math.floor(minutes / 60)} h ${rest} min left`;
}

export function formatPercent(fraction: number): string {
  // Round down, so that 100% means done.
  return fraction >= 1 ? '100%' : `${Math.floor(Math.max(0, fraction) * 100)}%`;
}

export function formatDay(iso: string, now: Date = new Date()): string {
  const date = new Date(iso);
  const sameDay = date.toDateString() === now.toDateString();
  return sameDay
    ? date.toLocaleTimeString(undefined, { hour: 'numeric', minute: '2-digit' })
    : date.toLocaleDateString(undefined, { year: 'numeric', month: 'short', day: 'numeric' });
}

/** Parse a link's `t` parameter into seconds: `90`, `90s`, `1m30s`, `1h2m3s`, `1:30` or `1:02:03`. Otherwise null. */
export function parseTime(text: string | null): number | null {
  if (text === null) return null;
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  if (/^\d+(:[0-5]?\d){1,2}$/.test(text)) {
    return text.split(':').reduce((total, part) => total * 60 + Number(part), 0);
  }
  const match = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/.exec(text);
  if (match === null || text === '') return null;
  return Number(match[1] ?? 0) * 3600 + Number(match[2] ?? 0) * 60 + Number(match[3] ?? 0);
}

/** The default title for a file. */
export function titleFromFilename(filename: string): string {
  return filename.replace(/(?<=.)\.[^.]{1,5}$/, '').replaceAll('_', ' ').trim() || filename;
}
