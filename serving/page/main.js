// The page: a queue of photos, one of which is shown.

import { Problem, convert, derain, example, models, useKey } from './service.js';
import { Viewer, close, opened } from './viewer.js';
import { amount, bytes, distinct, duration, megapixels, resultName, short } from './words.js';
import { zip } from './zip.js';

const ui = Object.fromEntries([...document.querySelectorAll('[id]')].map((element) => [element.id, element]));
const limits = { pixels: Number(document.documentElement.dataset.maxPixels), bytes: Number(document.documentElement.dataset.maxBytes) };
const viewer = new Viewer(ui);

const MOST_TRIES = 30; // at a service that is busy
const MOVES = { send: 'sending', receive: 'receiving' }; // in bytes
const STAGES = { queue: 'Waiting', decode: 'Reading', infer: 'Taking the rain out', monitor: 'Looking for rain left', encode: 'Writing' };

/** One photo, from the file to the result. */
class Job {
  state = 'waiting'; // then `working`, then `done`, `failed` or `cancelled`
  file = null;
  words = ''; // what went wrong
  complaint = ''; // what went wrong since there is a result
  mayPass = false; // whether that was the line's or the service's fault, not the photo's
  progress = {}; // the service's last word, and when it came
  result = null; // { blob, headers, ms, isSaved }
  kept = null; // the result that there was, and what it was made with, while another is made
  strength = 1;
  parameters = ui.model.value ? { model: ui.model.value } : {};
  atStrength = new Map(); // results of other strengths
  images = new Map(); // of the photo and its result, promised, as long as it is on the stage
  converted = new Map(); // for what this browser cannot show, what is shown instead, promised
  controller = new AbortController();

  constructor(name, get) {
    this.name = name;
    this.get = get;
    this.row = rowOf(this);
  }

  /** An image of the photo or its result; null where this browser cannot show it, nor the service convert it. */
  async imageOf(blob) {
    if (!this.images.has(blob)) this.images.set(blob, this.#open(blob));
    const image = await this.images.get(blob);
    if (!image) this.images.delete(blob); // next time it may go better
    return image;
  }

  async #open(blob) {
    const image = this.converted.has(blob) ? null : await opened(blob);
    if (image || this.state === 'failed') return image; // what was refused would be again
    if (!this.converted.has(blob)) this.converted.set(blob, convert(blob, {
      signal: this.controller.signal, note: (word) => { if (this.state === 'working') note(this, word); },
    }));
    try {
      return await opened(await this.converted.get(blob));
    } catch {
      this.converted.delete(blob);
      return null; // why, the derained photo's own request will tell
    }
  }

  leaveStage() {
    this.images.forEach((promised) => promised.then((image) => image && close(image)));
    this.images.clear();
  }

  get isDry() {
    return this.result?.headers.get('Derain-Rain') === 'none';
  }

  get resultName() {
    return resultName(this.name, this.result.blob.type);
  }
}

let jobs = [];
let shown = null; // the job on the stage
let presented = 0; // how often one was put there
let isRunning = false;
let pace = 0; // milliseconds that a pixel took, the last time

// --- The queue ---

function add(added) {
  if (!added.length) return;
  const isFirst = !jobs.length;
  jobs.push(...added);
  ui.queue.append(...added.map((job) => job.row.item));
  present(added[0]);
  if (isFirst) ui.cancel.focus({ preventScroll: true });
  run();
}

const addFiles = (files) => add([...files].map((file) => new Job(file.name, () => file)));

async function run() {
  if (isRunning) return;
  isRunning = true;
  for (let job; (job = jobs.find(({ state }) => state === 'waiting'));) await work(job);
  isRunning = false;
  if (jobs.length > 1) say(`All done: ${jobs.filter(({ state }) => state === 'done').length} of ${jobs.length} photos.`);
}

async function work(job) {
  const { signal } = job.controller = new AbortController();
  job.state = 'working';
  job.progress = { since: Date.now() };
  draw();
  try {
    job.file ??= await job.get(signal);
    await check(job);
    if (job === shown) await present(job);
    job.result = await derainPatiently(job, job.parameters);
    Object.assign(job, { state: 'done', kept: null });
    say(job.isDry ? `No rain found in ${short(job.name)}.` : `${short(job.name)} is ready.`);
  } catch (error) {
    fail(job, error, signal);
  }
  if (job === shown) await present(job);
  draw();
  if (job === shown) focusDownload();
}

/** Where the focus was on what is there no more. */
function focusDownload() {
  const isLost = [document.body, ui.cancel].includes(document.activeElement);
  if (isLost && !ui.done.hidden) (ui.blend.hidden ? ui.download : ui.blend).focus({ preventScroll: true });
}

function fail(job, error, signal) {
  const words = signal.aborted ? 'cancelled.' : inWords(error);
  if (error.status === 401) ui.keyed.hidden = false;
  if (error.status === 404) { // the service has other models by now
    delete job.parameters.model;
    showModels();
  }
  if (job !== shown || signal.aborted) say(about(job, words));
  if (job.kept) {
    restore(job, signal.aborted ? '' : about(job, words));
    return;
  }
  Object.assign(job, { state: signal.aborted ? 'cancelled' : 'failed', words, mayPass: error.mayPass ?? true });
  if (signal.aborted && jobs.length === 1) remove(job);
}

/** There is no other result: the one before is there again. */
function restore(job, complaint = '') {
  Object.assign(job, job.kept, { kept: null, state: 'done', complaint, controller: new AbortController() });
}

const inWords = (error) => (error instanceof Problem ? error.message : `something went wrong on this page (${error.message}).`);

/** "a.jpg is empty.", "a.jpg: the service is busy." */
const about = ({ name }, words) => `${short(name)}${/^(is|has|cannot) /.test(words) ? '' : ':'} ${words}`;

/** What the service would refuse is not sent. Throws Problem. */
async function check({ file }) {
  if (file.size > limits.bytes) throw new Problem(`has ${bytes(file.size)}; this service takes files of up to ${bytes(limits.bytes)}.`);
  await file.slice(0, 1).arrayBuffer().catch(() => { throw new Problem('cannot be read. Is it a folder, or has it been moved?'); });
  if (!file.size) throw new Problem('is empty.');
  const pixels = await countPixels(file);
  if (pixels > limits.pixels) throw new Problem(`has ${megapixels(pixels)}; this service takes up to ${limits.pixels / 1e6}.`);
}

/** 0 where the browser cannot tell. */
async function countPixels(file) {
  const image = await opened(file);
  if (!image) return 0;
  close(image);
  return image.naturalWidth * image.naturalHeight;
}

/** A busy service is asked again when it said, for as long as the user waits. */
async function derainPatiently(job, parameters) {
  const { signal } = job.controller;
  for (let tries = 1; ; tries += 1) {
    const started = performance.now();
    try {
      const answer = await derain(job.file, parameters, { signal, note: (word) => note(job, word) });
      return { ...answer, ms: performance.now() - started };
    } catch (error) {
      if (!error.retryAfter || tries === MOST_TRIES) throw error;
      note(job, { stage: 'busy', until: Date.now() + 1000 * error.retryAfter });
      await pause(1000 * error.retryAfter, signal);
    }
  }
}

const pause = (ms, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener('abort', () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
});

/** Of { stage, done, of }: pixels while rain is taken out, bytes on their way. */
function note(job, word) {
  const { stage, done, since } = job.progress;
  const now = Date.now();
  const goesOn = word.stage === stage;
  job.progress = { ...word, step: goesOn ? word.done - done : 0, since: goesOn ? since : now, at: now };
  if (word.stage === 'infer' && word.done) pace = (now - job.progress.since) / word.done;
  draw();
}

function again(job, parameters = job.parameters) {
  const { result, parameters: were, strength, atStrength } = job;
  const kept = result && { result, parameters: were, strength, atStrength };
  Object.assign(job, { kept, parameters, state: 'waiting', result: null, strength: 1, atStrength: new Map() });
  Object.assign(job, { progress: {}, words: '', complaint: '' });
  drawAnew(job);
  run();
}

const isRetryable = ({ state, mayPass }) => state === 'failed' && mayPass;

function remove(job) {
  const hadFocus = job.row.item.contains(document.activeElement);
  job.controller.abort();
  job.row.item.remove();
  const at = jobs.indexOf(job);
  jobs = jobs.filter((other) => other !== job);
  const next = jobs[Math.min(at, jobs.length - 1)] ?? null;
  if (job === shown) present(next);
  draw();
  if (hadFocus) next?.row.pick.focus();
  focusDownload(); // where there are no rows any more
}

// --- The photo on the stage ---

/** Shows the job: its photo, its result beside it where there is one. What is shown next ends this. */
async function present(job) {
  const turn = presented += 1;
  if (job !== shown) {
    shown?.leaveStage();
    viewer.clear();
  }
  shown = job;
  draw();
  if (!job) ui.files.focus({ preventScroll: true });
  if (!job?.file) return;
  const { file, result } = job;
  const before = await job.imageOf(file);
  if (turn !== presented) return;
  if (before) viewer.show(before);
  else viewer.fold();
  job.isVisible = Boolean(before);
  draw();
  if (!before || !result || job.isDry) return;
  const after = await job.imageOf(result.blob);
  if (turn === presented) viewer.show(before, after);
}

// --- What is drawn ---

function drawAnew(job) {
  if (job === shown) present(job);
  else draw();
}

function draw() {
  ui.start.hidden = jobs.length > 0;
  ui.work.hidden = ui.more.hidden = !jobs.length;
  ui.queue.hidden = jobs.length < 2;
  jobs.forEach(drawRow);
  const done = jobs.filter((job) => job.state === 'done');
  ui.zip.hidden = done.length < 2;
  ui.zip.textContent = `Download all ${done.length} (zip)`;
  if (!shown) return;
  ui.doing.hidden = !['waiting', 'working'].includes(shown.state);
  ui.done.hidden = shown.state !== 'done';
  ui.failed.hidden = !['failed', 'cancelled'].includes(shown.state);
  const retryable = jobs.filter(isRetryable);
  ui.retry.hidden = !shown.mayPass;
  ui['retry-all'].hidden = !isRetryable(shown) || retryable.length < 2;
  ui['retry-all'].textContent = `Try all ${retryable.length} again`;
  write(ui.error, shown.words && about(shown, shown.words));
  ui.controls.hidden = shown.state !== 'done' || shown.isDry;
  ui.telemetry.hidden = shown.state !== 'done';
  drawProgress();
  drawNote();
  if (shown.state === 'done') drawResult();
}

/** Only what is new: a screen reader says each change. */
function write(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

function drawRow(job) {
  const { pick, state, act } = job.row;
  pick.setAttribute('aria-current', job === shown);
  const words = { waiting: 'waiting', working: progressWords(job), done: job.isDry ? 'no rain found' : 'ready' }[job.state] ?? job.words;
  state.textContent = words.replace(/^./, (letter) => letter.toUpperCase());
  state.className = `state ${job.state}`;
  const isOpen = ['waiting', 'working'].includes(job.state);
  act.textContent = isOpen ? 'Cancel' : 'Remove';
  act.setAttribute('aria-label', `${act.textContent} ${job.name}`);
}

function rowOf(job) {
  const item = document.createElement('li');
  const pick = Object.assign(document.createElement('button'), { type: 'button', className: 'pick' });
  const name = Object.assign(document.createElement('span'), { className: 'name', textContent: short(job.name), title: job.name });
  const state = document.createElement('span');
  const act = Object.assign(document.createElement('button'), { type: 'button' });
  pick.append(name, state);
  item.append(pick, act);
  pick.addEventListener('click', () => present(job));
  let wasCancel = false;
  act.addEventListener('click', ({ detail }) => {
    if (detail > 1 && wasCancel) return; // a double click on Cancel is none on Remove
    wasCancel = act.textContent === 'Cancel';
    cancelOrRemove(job);
  });
  return { item, pick, state, act };
}

function cancelOrRemove(job) {
  if (job.state === 'working') {
    job.controller.abort();
  } else if (job.kept) {
    restore(job);
    drawAnew(job);
    if (job === shown) focusDownload();
  } else {
    remove(job);
  }
}

function drawProgress() {
  const working = jobs.find(({ state }) => state === 'working');
  if (working) drawRow(working);
  document.title = working ? `${titleOf(working.progress)} – Derain` : 'Derain';
  if (!shown || ui.doing.hidden) return;
  const share = shareDone(shown.progress);
  if (share === null) ui.progress.removeAttribute('value');
  else ui.progress.value = share;
  ui['doing-words'].textContent = shown.state === 'waiting' ? `${short(shown.name)} waits for the others` : `${short(shown.name)}: ${progressWords(shown)}`;
}

const titleOf = (progress) => `${MOVES[progress.stage] ?? ''} ${Math.round(100 * shareDone(progress))} %`.trim().replace(/^./, (letter) => letter.toUpperCase());

/** Between two reports the bar creeps on at the pace of those before, and waits at the next one. Null: not known yet. */
function shareDone({ stage, done, of, step, at, since }) {
  if (stage === 'encode' || stage === 'monitor') return 1;
  if (MOVES[stage]) return done / of;
  if (stage !== 'infer' || !of || (!done && !pace)) return null;
  const pixelMs = (done ? (at - since) / done : pace) || 1e-6; // several reports may come at once
  const next = Math.min(step || of / 4, of - done);
  return (done + Math.min((Date.now() - at) / pixelMs, 0.9 * next)) / of;
}

function progressWords({ progress }) {
  const { stage, done, of, since, at, until } = progress;
  const seconds = Math.floor((Date.now() - since) / 1000);
  const spent = seconds > 1 ? ` · ${seconds} s` : '';
  const left = done ? ((at - since) / done) * of - (Date.now() - since) : 0;
  const rest = left > 2000 ? `, about ${duration(left).replace(/\.\d/, '')} left` : spent;
  if (stage === 'busy') return `the service is busy, next try in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s`;
  if (stage === 'queue') return `waiting for its turn${spent}`;
  if (stage === 'decode') return 'reading';
  if (stage === 'encode' || stage === 'monitor') return 'writing the result';
  if (MOVES[stage]) return `${MOVES[stage]} ${amount(done, of)}${rest}`;
  if (stage !== 'infer') return `sending${spent}`;
  if (!of) return 'taking the rain out';
  return `${Math.floor(100 * (shareDone(progress) ?? 0))} %${rest}`;
}

function drawNote() {
  const isUnseen = shown.state === 'done' && shown.isVisible === false;
  const words = shown.complaint ? [shown.complaint] : [];
  if (shown.isDry) words.push(`No rain found: ${short(shown.name)} came back as it was.`);
  if (isUnseen) words.push('This photo cannot be shown here. The result is ready to download.');
  write(ui['note-words'], words.join(' '));
  ui.note.hidden = !words.length;
  ui.anyway.hidden = !shown.isDry;
}

function drawResult() {
  const { result, strength } = shown;
  const model = result.headers.get('X-Derain-Model');
  ui.facts.textContent = [duration(result.ms), model, bytes(result.blob.size), shown.isDry && 'no rain found'].filter(Boolean).join(' · ');
  const percent = Math.round(100 * strength);
  ui.download.hidden = percent < 100;
  ui.blend.hidden = percent === 100;
  ui.blend.textContent = `Download at ${percent} %`;
  ui.download.download = shown.resultName;
  if (ui.download.blob !== result.blob) {
    URL.revokeObjectURL(ui.download.href);
    Object.assign(ui.download, { blob: result.blob, href: URL.createObjectURL(result.blob) });
  }
  ui.strength.value = percent;
  ui['strength-value'].textContent = `${percent} %`;
  viewer.strength = strength;
  if (model) ui.model.value = model;
  ui.details.replaceChildren(...details(shown).flatMap(([term, value]) => [cell('dt', term), cell('dd', value)]));
}

function details({ file, result: { headers, blob } }) {
  const stages = [...(headers.get('Server-Timing') ?? '').matchAll(/(\w+);dur=([\d.]+)/g)];
  const left = headers.get('X-Derain-Residual-Rain');
  return [
    ['Size', shown.isVisible ? `${viewer.size} pixels` : 'not known here'],
    ['File', `${bytes(blob.size)}, ${bytes(file.size)} before`],
    ...stages.map(([, stage, ms]) => [STAGES[stage] ?? stage, duration(Number(ms))]),
    ...(left === null ? [] : [['Rain left', `${likelihood(Number(left))} (${Math.round(100 * left)} %)`]]),
  ];
}

const cell = (tag, textContent) => Object.assign(document.createElement(tag), { textContent });
const likelihood = (share) => (share < 0.35 ? 'unlikely' : share < 0.65 ? 'possibly' : 'likely');
const say = (words) => { ui.status.textContent = words; };

// --- Downloads ---

/** At less than full strength the service blends: so depth, profile and metadata stay what they were. */
async function atItsStrength(job) {
  const { strength, result, atStrength } = job;
  if (strength === 1) return result.blob;
  if (!atStrength.has(strength)) {
    Object.assign(job, { controller: new AbortController(), state: 'working', progress: { since: Date.now() } });
    draw();
    try {
      await check(job); // it may have been changed since
      atStrength.set(strength, (await derainPatiently(job, { ...job.parameters, strength })).blob);
    } catch (error) {
      throw job.controller.signal.aborted ? error : new Problem(about(job, inWords(error)));
    } finally {
      job.state = 'done';
      draw();
    }
  }
  return atStrength.get(strength);
}

async function downloadBlend() {
  const job = shown;
  job.complaint = '';
  try {
    save(await atItsStrength(job), job.resultName);
    job.result.isSaved = true;
  } catch (error) {
    if (error.name !== 'AbortError') job.complaint = error.message;
  }
  draw();
  if (job === shown) focusDownload();
}

async function downloadAll() {
  const done = jobs.filter((job) => job.state === 'done');
  shown.complaint = '';
  ui.zip.disabled = true;
  try {
    const files = [];
    for (const job of done) {
      if (!jobs.includes(job)) continue; // removed meanwhile
      if (job.state !== 'done') throw new Problem(`${short(job.name)} is in work.`);
      const { result, resultName } = job;
      files.push({ result, name: resultName, blob: await atItsStrength(job) });
    }
    const names = distinct(files.map(({ name }) => name));
    save(await zip(files.map(({ blob }, at) => ({ name: names[at], blob }))), 'derained.zip');
    for (const { result } of files) result.isSaved = true;
  } catch (error) {
    const why = error.name === 'AbortError' ? 'it was cancelled.' : `${error.message} Download the photos one by one.`;
    shown.complaint = `There is no zip: ${why}`;
  }
  ui.zip.disabled = false;
  draw();
  focusDownload();
}

function save(blob, name) {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// --- The models ---

async function showModels() {
  try {
    const found = await models();
    ui.model.replaceChildren(...found.map(({ name, phrase }) => new Option(phrase ? `${name}: ${phrase}` : name, name)));
    ui.choice.hidden = found.length < 2;
  } catch (error) {
    ui.keyed.hidden &&= error.status !== 401; // what else is wrong, the first photo will tell
  }
}

// --- Wiring ---

for (const input of [ui.files, ui['more-files']]) {
  input.addEventListener('change', () => {
    addFiles(input.files);
    input.value = ''; // so that choosing the same file again is a change
  });
}
for (const button of document.querySelectorAll('[data-example]')) {
  const name = button.dataset.example;
  button.addEventListener('click', () => add([new Job(name, (signal) => example(name, signal))]));
}
ui.cancel.addEventListener('click', () => cancelOrRemove(shown));
ui.retry.addEventListener('click', () => again(shown));
ui['retry-all'].addEventListener('click', () => jobs.filter(isRetryable).forEach((job) => again(job)));
ui.anyway.addEventListener('click', () => again(shown, { ...shown.parameters, force: true }));
ui.download.addEventListener('click', () => { shown.result.isSaved = true; });
ui.blend.addEventListener('click', downloadBlend);
ui.zip.addEventListener('click', downloadAll);
ui.controls.addEventListener('submit', (event) => event.preventDefault());
ui.controls.addEventListener('change', (event) => { if (event.target.name === 'view') viewer.view = event.target.value; });
ui.strength.addEventListener('input', () => {
  shown.strength = ui.strength.value / 100;
  drawResult();
});
ui.model.addEventListener('change', () => again(shown, { ...shown.parameters, model: ui.model.value }));
ui.key.addEventListener('change', () => {
  useKey(ui.key.value);
  showModels();
});
document.addEventListener('paste', (event) => addFiles(event.clipboardData?.files ?? []));

// The whole window takes drops: a near miss must not make the browser leave the page.
const carriesFiles = (event) => event.dataTransfer?.types.includes('Files');
addEventListener('dragover', (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.classList.add('dragging');
});
addEventListener('dragleave', (event) => { if (!event.relatedTarget) document.body.classList.remove('dragging'); });
addEventListener('drop', (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove('dragging');
  addFiles(event.dataTransfer.files);
});

// Whoever leaves the page leaves what is on it.
addEventListener('beforeunload', (event) => {
  const isLost = ({ state, result }) => ['waiting', 'working'].includes(state) || (state === 'done' && !result.isSaved);
  if (jobs.some(isLost)) event.preventDefault();
});

setInterval(drawProgress, 250);
showModels();
ui.curl.textContent = ui.curl.textContent.replace('ORIGIN/v1/derain', new URL('v1/derain', document.baseURI));
