// How things are said: sizes, times, names of files.

// Sizes are rounded up: what is larger than a limit reads so.

export const bytes = (count) => (count < 1e6 ? `${Math.ceil(count / 1e3)} kB` : `${Math.ceil(count / 1e5) / 10} MB`);

/** "0.3 of 12 MB", "40 of 800 kB". */
export const amount = (done, of) => (of < 1e6 ? `${Math.floor(done / 1e3)} of ${bytes(of)}` : `${(done / 1e6).toFixed(1)} of ${bytes(of)}`);

export const megapixels = (pixels) => `${Math.ceil(pixels / 1e5) / 10} megapixels`;

/** A name that fits into a sentence: of a long one its beginning and its end. */
export function short(name) {
  const letters = [...name]; // whole ones, where one is two units of UTF-16
  return letters.length > 48 ? `${letters.slice(0, 30).join('')}…${letters.slice(-15).join('')}` : name;
}

export function duration(ms) {
  if (ms < 1000) return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

const SUFFIXES = {
  'image/jpeg': ['.jpg', '.jpeg', '.jpe', '.jfif'],
  'image/png': ['.png'],
  'image/webp': ['.webp'],
  'image/tiff': ['.tif', '.tiff'],
  'image/bmp': ['.bmp', '.dib'],
  'image/avif': ['.avif'],
};

const MOST_NAME_BYTES = 255; // what a file's name may have, on most systems

/** The name of a file, its stem cut where it would be too long. */
function fitting(stem, end) {
  const letters = [...stem];
  const name = () => `${letters.join('')}${end}`;
  while (letters.length > 1 && new TextEncoder().encode(name()).length > MOST_NAME_BYTES) letters.pop();
  return name();
}

/** The name of a result. Its suffix says what is in the file, which may be another kind than came in. */
export function resultName(name, type) {
  const [, stem, suffix] = /^(.*?)(\.[^.]*)?$/s.exec(name);
  const usual = SUFFIXES[type] ?? [suffix ?? ''];
  return fitting(stem || 'photo', `-derained${usual.includes((suffix ?? '').toLowerCase()) ? suffix : usual[0]}`);
}

/** Of several files, names that differ from one another, on systems too where capitals make no difference. */
export function distinct(names) {
  const taken = new Set();
  return names.map((name) => {
    const [, stem, suffix] = /^(.*?)(\.[^.]*)?$/s.exec(name);
    let free = name;
    for (let number = 2; taken.has(free.toLowerCase()); number += 1) free = fitting(stem, `-${number}${suffix ?? ''}`);
    taken.add(free.toLowerCase());
    return free;
  });
}
