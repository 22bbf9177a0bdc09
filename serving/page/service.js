// Talking to the service.

/** A failure that can be told to the user as it stands. */
export class Problem extends Error {
  constructor(words, { retryAfter = 0, status = 0 } = {}) {
    super(words);
    this.retryAfter = retryAfter; // seconds, where it is worth while to try again
    this.status = status;
  }
}

const UNREACHABLE = 'there is no answer from the service. Is this machine online? Try again in a moment.';
const CUT_SHORT = 'the answer was cut short. Try again in a moment.';

// For what stands between this page and the service, and answers in its place.
const BY_STATUS = {
  413: 'the file is larger than the way to this service lets through.',
  429: 'the service is busy.',
  502: 'the service cannot be reached just now. Try again in a moment.',
  503: 'the service is not ready. Try again in a moment.',
  504: 'the service took too long.',
};

let key = '';
export const useKey = (value) => { key = value; };

async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, headers: { ...options.headers, ...(key && { 'X-API-Key': key }) } });
  } catch (error) {
    options.signal?.throwIfAborted();
    throw new Problem(UNREACHABLE);
  }
  if (!response.ok) throw await problemOf(response.status, response.headers, () => response.json());
  return response;
}

async function problemOf(status, headers, json) {
  const isProblem = (headers.get('Content-Type') ?? '').includes('problem+json');
  const { detail } = (isProblem && await json().catch(() => null)) || {};
  const words = detail ?? BY_STATUS[status] ?? 'the service could not do this.';
  return new Problem(words, { status, retryAfter: status === 429 ? Number(headers.get('Retry-After')) || 2 : 0 });
}

/**
 * Sends a picture. `note` is called with { stage, done, tiles } as the work goes on. Returns the blob and
 * the headers of the answer. Aborting the signal makes the service stop.
 */
export async function derain(file, parameters, { signal, note = () => {} }) {
  const query = new URLSearchParams(parameters);
  const response = await ask(`v1/derain/progress?${query}`, {
    method: 'POST', body: file, headers: { 'Content-Type': 'application/octet-stream' }, signal,
  });
  if (!(response.headers.get('Content-Type') ?? '').startsWith('multipart/mixed')) {
    throw new Problem('something between this page and the service replied in its place.');
  }
  try {
    for await (const { headers, blob } of partsOf(response.body.getReader())) {
      const type = headers.get('Content-Type') ?? '';
      if (type.startsWith('image/')) return { headers, blob };
      const said = JSON.parse(await blob.text());
      if (type.includes('problem+json')) throw await problemOf(said.status, headers, async () => said);
      note(said);
    }
  } catch (error) {
    if (error instanceof Problem) throw error;
    signal.throwIfAborted();
  }
  throw new Problem(CUT_SHORT);
}

/** The parts of a multipart answer as they arrive; each says its length. */
async function* partsOf(reader) {
  let held = new Uint8Array();
  const read = async () => {
    const { done, value } = await reader.read();
    if (done) throw new Problem(CUT_SHORT);
    return value;
  };
  for (;;) {
    let end;
    while ((end = endOfHead(held)) < 0) {
      if (isLast(held)) return;
      held = joined(held, await read());
    }
    const headers = headersIn(new TextDecoder().decode(held.subarray(0, end)));
    const length = Number(headers.get('Content-Length'));
    const pieces = [];
    let left = length + 2; // and a line's end
    held = held.subarray(end + 4);
    while (left > held.length) {
      pieces.push(held);
      left -= held.length;
      held = await read();
    }
    pieces.push(held.subarray(0, left));
    held = held.subarray(left);
    yield { headers, blob: new Blob(pieces, { type: headers.get('Content-Type') ?? '' }).slice(0, length, headers.get('Content-Type') ?? '') };
  }
}

function endOfHead(data) {
  for (let at = 0; at + 3 < data.length; at += 1) {
    if (data[at] === 13 && data[at + 1] === 10 && data[at + 2] === 13 && data[at + 3] === 10) return at;
  }
  return -1;
}

const isLast = (data) => new TextDecoder().decode(data.subarray(0, 200)).trimEnd().endsWith('--');

function joined(first, second) {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

function headersIn(text) {
  const lines = text.split('\r\n').slice(1); // after the boundary
  return new Headers(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]));
}

/** The picture as it is, in a format that every browser shows. */
export async function convert(blob, signal) {
  try {
    return (await derain(blob, { strength: 0, format: 'webp', quality: 90 }, { signal })).blob;
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 413) throw error;
    return (await derain(blob, { strength: 0, format: 'jpeg', quality: 90 }, { signal })).blob; // WebP ends at 16383 pixels
  }
}

export async function example(name, signal) {
  const response = await ask(`examples/${name}`, { signal });
  return new File([await response.blob()], name, { type: 'image/jpeg' });
}

/** [{ name, isDefault, phrase }], the default first. */
export async function models() {
  const { default: name, models: found } = await (await ask('v1/models')).json();
  const described = await Promise.all(found.map(async (model) => (await ask(`v1/models/${encodeURIComponent(model.name)}`)).json()));
  const standard = described.find((model) => model.name === name);
  return described
    .map((model) => ({ name: model.name, isDefault: model === standard, phrase: phraseFor(model, standard) }))
    .sort((one, other) => other.isDefault - one.isDefault);
}

function phraseFor(model, standard) {
  if (model === standard) return 'a good balance';
  const times = model.kmac_per_pixel / standard.kmac_per_pixel;
  let pace = 'as fast';
  if (times < 0.85) pace = `${fraction(times)} of the time`;
  if (times > 1.15) pace = `${Number(times.toPrecision(2))} times as long`;
  const gain = meanPsnr(model) - meanPsnr(standard);
  if (!(Math.abs(gain) >= 0.1)) return pace;
  return `${pace}, ${gain > 0 ? 'cleaner' : 'a little less clean'}`;
}

const fraction = (share) => (share < 0.29 ? 'a quarter' : share < 0.42 ? 'a third' : share < 0.6 ? 'half' : 'three quarters');

function meanPsnr(model) {
  const values = model.manifest.evaluations.map((set) => set.psnr).filter((psnr) => psnr !== null && psnr !== undefined);
  return values.reduce((sum, value) => sum + value, 0) / values.length; // NaN where there are none
}
