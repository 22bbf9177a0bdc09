// Talking to the service.

/** A failure that can be told to the user as it stands. */
export class Problem extends Error {
  constructor(words, { retryAfter = 0, status = 0, mayPass = false } = {}) {
    super(words);
    this.mayPass = mayPass; // whether the same photo may go through later
    this.retryAfter = retryAfter; // seconds, where it is worth while to try again
    this.status = status;
  }
}

const UNREACHABLE = 'there is no answer from the service. Is this machine online? Try again in a moment.';
const CUT_SHORT = 'the answer was cut short. Try again in a moment.';

// What is refused for good: the photo itself, or what was asked for.
const IS_FINAL = [400, 406, 413, 415];

// For what stands between this page and the service, and answers in its place.
const BY_STATUS = {
  413: 'the file is larger than the way to this service lets through.',
  429: 'the service is busy.',
  502: 'the service cannot be reached just now. Try again in a moment.',
  503: 'the service is not ready. Try again in a moment.',
  504: 'the service took too long.',
};

let key = '';
export const useKey = (value) => { key = value.replace(/[^!-~]/g, ''); }; // what a header cannot carry is in no key

async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, headers: { ...(key && { 'X-API-Key': key }) } });
  } catch (error) {
    options.signal?.throwIfAborted();
    throw new Problem(UNREACHABLE, { mayPass: true });
  }
  if (!response.ok) throw problemOf(response.status, (name) => response.headers.get(name), await response.text().catch(() => ''));
  return response;
}

function problemOf(status, header, text) {
  const isProblem = (header('Content-Type') ?? '').includes('problem+json');
  const words = (isProblem && detailOf(text)) || BY_STATUS[status] || 'the service could not do this.';
  return new Problem(words, { status, mayPass: !IS_FINAL.includes(status), retryAfter: status === 429 ? Number(header('Retry-After')) || 2 : 0 });
}

/** Undefined where what came is no problem after all. */
function detailOf(text) {
  try {
    return JSON.parse(text).detail;
  } catch {
    return undefined;
  }
}

/**
 * Sends a photo. `note` is called as the work goes on: with { stage: 'send' or 'receive', done, of } in bytes,
 * and with the service's own { stage, done, of } in pixels. Returns the blob and the headers of the answer. Aborting
 * the signal makes the service stop.
 */
export async function derain(file, parameters, { signal, note = () => {} }) {
  const parts = new Parts();
  let last = null; // but for reports
  const read = (request, loaded) => {
    for (const part of parts.arrived(request, loaded)) {
      if (part.headers.get('Content-Type') === 'application/json') note(JSON.parse(part.text));
      else last = part;
    }
    if (parts.coming?.length) note({ stage: 'receive', done: loaded - parts.coming.start, of: parts.coming.length });
  };
  const request = await post(`v1/derain/progress?${new URLSearchParams(parameters)}`, file, {
    signal,
    sent: (done, of) => note({ stage: 'send', done, of }),
    came: (asked, loaded) => { if (isMultipart(asked)) read(asked, loaded); },
  });
  if (request.status !== 200) throw problemOf(request.status, (name) => request.getResponseHeader(name), utf8(request.responseText));
  if (!isMultipart(request)) throw new Problem('something between this page and the service replied in its place.', { mayPass: true });
  read(request, request.responseText.length);
  if (!last) throw new Problem(CUT_SHORT, { mayPass: true });
  const { headers, text } = last;
  const type = headers.get('Content-Type') ?? '';
  if (!type.startsWith('image/')) throw problemOf(JSON.parse(utf8(text)).status, (name) => headers.get(name), utf8(text));
  return { headers, blob: new Blob([bytesOf(text)], { type }) };
}

/** An XMLHttpRequest, for a fetch tells nobody how much of its body was sent. Its text has a character for each byte. */
function post(url, body, { signal, sent, came }) {
  const request = new XMLHttpRequest();
  request.open('POST', url);
  request.overrideMimeType('text/plain; charset=x-user-defined');
  request.setRequestHeader('Content-Type', 'application/octet-stream');
  if (key) request.setRequestHeader('X-API-Key', key);
  let isAnswered = false;
  request.onreadystatechange = () => { isAnswered ||= request.readyState === XMLHttpRequest.HEADERS_RECEIVED; };
  request.upload.onprogress = ({ loaded, total }) => { if (total) sent(loaded, total); };
  request.onprogress = ({ loaded }) => came(request, loaded);
  const abort = () => request.abort();
  signal.addEventListener('abort', abort);
  return new Promise((resolve, reject) => {
    request.onload = () => resolve(request);
    request.onerror = () => reject(new Problem(isAnswered ? CUT_SHORT : UNREACHABLE, { mayPass: true }));
    request.onabort = () => reject(signal.reason);
    signal.throwIfAborted();
    request.send(body);
  }).finally(() => signal.removeEventListener('abort', abort));
}

const isMultipart = (request) => (request.getResponseHeader('Content-Type') ?? '').startsWith('multipart/mixed');

/** Takes a multipart answer apart as it arrives; each part says its length. */
class Parts {
  coming = null; // the head of the part that is not whole yet: { headers, start, length }
  #next = 0; // where that part begins

  /** Those that have become whole, as { headers, text }. */
  * arrived(request, loaded) {
    // The text is looked at no more often than needed: a browser makes it anew each time.
    while ((this.coming ??= headAt(request.responseText, this.#next))) {
      const { headers, start, length } = this.coming;
      const end = start + length;
      if (loaded < end) return;
      this.coming = null;
      this.#next = end + 2; // and a line's end
      yield { headers, text: request.responseText.slice(start, end) };
    }
  }
}

/** Null where it has not arrived, and behind the last part. */
function headAt(text, at) {
  const end = text.indexOf('\r\n\r\n', at);
  if (end < 0) return null;
  const lines = text.slice(at, end).split('\r\n').slice(1); // after the boundary
  const headers = new Headers(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]));
  return { headers, start: end + 4, length: Number(headers.get('Content-Length')) };
}

function bytesOf(text) {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at); // its lower byte
  return bytes;
}

const utf8 = (text) => new TextDecoder().decode(bytesOf(text));

/** The photo as it is, in a format that every browser shows. */
export async function convert(blob, options) {
  try {
    return (await derain(blob, { strength: 0, format: 'webp', quality: 90 }, options)).blob;
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 413) throw error;
    return (await derain(blob, { strength: 0, format: 'jpeg', quality: 90 }, options)).blob; // WebP ends at 16383 pixels
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
