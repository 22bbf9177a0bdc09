// The photo on the screen: before and after beside one another, zoom, strength, what was removed.

const REMOVED_GAIN = 3; // as the service shows it
const MOST_ZOOM = 8; // screen pixels for one of the photo
const MOST_FIT = 2; // a small photo is not blown up beyond

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

/**
 * An image of what is in the blob, or null where the browser cannot show it. It is the caller's to close.
 * Loading into an image of the page would not always end: whatever else is shown there meanwhile stops it.
 */
export function opened(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  return new Promise((resolve) => {
    image.onload = () => resolve(image);
    image.onerror = () => {
      close(image);
      resolve(null);
    };
  });
}

export const close = (image) => URL.revokeObjectURL(image.src);

export class Viewer {
  #ui;
  #before = new Image(); // what is shown
  #scale = 1; // CSS pixels for one of the photo
  #isFitting = true;
  #x = 0; // where the photo's left top corner is
  #y = 0;
  #pointers = new Map();

  constructor(ui) {
    this.#ui = ui;
    this.#wire();
  }

  /** Images as `opened` gives them. Zoom and place stay, unless it is another photo. */
  show(before, after = null) {
    if (before.src !== this.#ui.before.src) this.#place(before);
    if (after && after.src !== this.#ui.after.src) for (const name of ['after', 'removed-after']) this.#ui[name].src = after.src;
    this.#ui.stage.classList.toggle('compares', Boolean(after));
  }

  /** Nothing for the moment: the stage stays as large as it is, so that no button moves away from a hand. */
  clear() {
    for (const name of ['before', 'after', 'removed-before', 'removed-after']) this.#ui[name].removeAttribute('src');
    this.#ui.stage.classList.remove('shows', 'compares', 'peeks', 'folded');
  }

  /** Away with the stage: there is nothing to show. */
  fold() {
    this.clear();
    this.#ui.stage.classList.add('folded');
  }

  #place(before) {
    this.#before = before;
    for (const name of ['before', 'removed-before']) this.#ui[name].src = before.src;
    const { naturalWidth: width, naturalHeight: height } = before;
    const { style, classList } = this.#ui.stage;
    style.setProperty('--ratio', width / height);
    style.setProperty('--natural-width', width);
    classList.remove('folded');
    classList.add('shows');
    classList.toggle('tall', height > width);
    this.fit();
  }

  get size() {
    return `${this.#before.naturalWidth} × ${this.#before.naturalHeight}`;
  }

  /** From 0, the photo as it came, to 1. */
  set strength(share) {
    this.#ui.stage.style.setProperty('--strength', share);
    this.#ui.stage.style.setProperty('--gain', REMOVED_GAIN * share);
    this.#ui.stage.classList.toggle('whole', share === 1);
  }

  /** `result` or `removed`. */
  set view(name) {
    this.#ui.stage.classList.toggle('removes', name === 'removed');
  }

  set peeks(on) {
    this.#ui.stage.classList.toggle('peeks', on);
    this.#ui.peek.setAttribute('aria-pressed', on);
  }

  fit() {
    this.#isFitting = true;
    this.#scale = this.#fitting();
    this.#moveTo(0, 0);
  }

  /** One pixel of the photo is one of the screen; around a point of the stage, or its middle. */
  full(point) {
    this.#zoomTo(1 / devicePixelRatio, point);
  }

  // --- Zoom and pan ---

  #fitting() {
    const { clientWidth, clientHeight } = this.#ui.stage;
    const { naturalWidth, naturalHeight } = this.#before;
    return Math.min(clientWidth / naturalWidth, clientHeight / naturalHeight, MOST_FIT) || 1;
  }

  #zoomTo(scale, point = this.#middle()) {
    const fitting = this.#fitting();
    const before = this.#scale;
    this.#scale = clamp(scale, Math.min(fitting, 1 / devicePixelRatio), MOST_ZOOM / devicePixelRatio);
    this.#isFitting = Math.abs(this.#scale / fitting - 1) < 0.001;
    const grown = this.#scale / before;
    this.#moveTo(point.x - (point.x - this.#x) * grown, point.y - (point.y - this.#y) * grown);
  }

  #middle() {
    return { x: this.#ui.stage.clientWidth / 2, y: this.#ui.stage.clientHeight / 2 };
  }

  /** The photo does not leave the stage: where it is smaller it is in the middle. */
  #moveTo(x, y) {
    const { clientWidth, clientHeight } = this.#ui.stage;
    const width = this.#before.naturalWidth * this.#scale;
    const height = this.#before.naturalHeight * this.#scale;
    this.#x = width <= clientWidth ? (clientWidth - width) / 2 : clamp(x, clientWidth - width, 0);
    this.#y = height <= clientHeight ? (clientHeight - height) / 2 : clamp(y, clientHeight - height, 0);
    const style = this.#ui.stage.style;
    style.setProperty('--x', `${this.#x}px`);
    style.setProperty('--y', `${this.#y}px`);
    style.setProperty('--width', `${width}px`);
    style.setProperty('--height', `${height}px`);
    const isFull = Math.abs(this.#scale * devicePixelRatio - 1) < 0.001;
    this.#ui.stage.classList.toggle('zoomed', width > clientWidth + 1 || height > clientHeight + 1);
    this.#ui.stage.classList.toggle('magnified', this.#scale * devicePixelRatio > 2);
    this.#ui['zoom-fit'].setAttribute('aria-pressed', this.#isFitting);
    this.#ui['zoom-full'].setAttribute('aria-pressed', isFull);
  }

  // --- Hands and keys ---

  #wire() {
    const { stage, split, handle } = this.#ui;
    split.addEventListener('input', () => this.#moveSplit(Number(split.value)));
    handle.addEventListener('pointerdown', (event) => this.#dragSplit(event));
    stage.addEventListener('pointerdown', (event) => this.#press(event));
    stage.addEventListener('pointermove', (event) => this.#drag(event));
    for (const name of ['pointerup', 'pointercancel']) stage.addEventListener(name, (event) => this.#pointers.delete(event.pointerId));
    stage.addEventListener('dblclick', (event) => this.#toggle(event));
    stage.addEventListener('wheel', (event) => this.#wheel(event), { passive: false });
    this.#ui['zoom-in'].addEventListener('click', () => this.#zoomTo(this.#scale * 1.5));
    this.#ui['zoom-out'].addEventListener('click', () => this.#zoomTo(this.#scale / 1.5));
    this.#ui['zoom-fit'].addEventListener('click', () => this.fit());
    this.#ui['zoom-full'].addEventListener('click', () => this.full());
    new ResizeObserver(() => (this.#isFitting ? this.fit() : this.#moveTo(this.#x, this.#y))).observe(stage);
    this.#wirePeeking();
    document.addEventListener('keydown', (event) => this.#keyDown(event));
    this.#moveSplit(Number(split.value));
  }

  #wirePeeking() {
    const { peek } = this.#ui;
    peek.addEventListener('pointerdown', () => { this.peeks = true; });
    for (const name of ['pointerup', 'pointerleave', 'pointercancel', 'blur']) peek.addEventListener(name, () => { this.peeks = false; });
    peek.addEventListener('contextmenu', (event) => event.preventDefault()); // of a long touch
    peek.addEventListener('keydown', (event) => { if (event.key === ' ' || event.key === 'Enter') this.peeks = true; });
    document.addEventListener('keyup', () => { this.peeks = false; });
    addEventListener('blur', () => { this.peeks = false; });
  }

  #keyDown(event) {
    const isTyping = event.target.closest('input:not([type=radio], [type=range], [type=file]), select, textarea');
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || this.#ui.work.hidden) return;
    const pan = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] }[event.key];
    const act = {
      b: () => { this.peeks = true; },
      B: () => { this.peeks = true; },
      '+': () => this.#zoomTo(this.#scale * 1.5),
      '=': () => this.#zoomTo(this.#scale * 1.5),
      '-': () => this.#zoomTo(this.#scale / 1.5),
      0: () => this.fit(),
      1: () => this.full(),
    }[event.key] ?? (pan && event.target === this.#ui.stage && this.#ui.stage.classList.contains('zoomed')
      ? () => this.#moveTo(this.#x + pan[0], this.#y + pan[1]) : null);
    if (!act) return;
    event.preventDefault();
    act();
  }

  #moveSplit(percent) {
    this.#ui.stage.style.setProperty('--split', `${percent}%`);
    this.#ui.split.value = percent;
    this.#ui.split.setAttribute('aria-valuetext', `${Math.round(percent)} % before, ${100 - Math.round(percent)} % after`);
  }

  #at(event) {
    const box = this.#ui.stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #splitTo(event) {
    this.#moveSplit(clamp(100 * this.#at(event).x / this.#ui.stage.clientWidth, 0, 100));
  }

  #dragSplit(event) {
    event.stopPropagation();
    const { handle } = this.#ui;
    handle.setPointerCapture(event.pointerId);
    const move = (moved) => this.#splitTo(moved);
    handle.addEventListener('pointermove', move);
    const end = () => handle.removeEventListener('pointermove', move);
    for (const name of ['pointerup', 'pointercancel']) handle.addEventListener(name, end, { once: true });
  }

  #press(event) {
    if (event.button !== 0 || event.target.closest('button')) return;
    this.#pointers.set(event.pointerId, this.#at(event));
    this.#ui.stage.setPointerCapture(event.pointerId); // or a button that is let go elsewhere stays pressed here
    if (!this.#isPanned && this.#pointers.size === 1 && event.pointerType === 'mouse') this.#splitTo(event);
  }

  get #isPanned() {
    return this.#ui.stage.classList.contains('zoomed');
  }

  #drag(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#at(event);
    this.#pointers.set(event.pointerId, now);
    if (this.#pointers.size > 1) this.#pinch(event.pointerId, before, now);
    else if (this.#isPanned) this.#moveTo(this.#x + now.x - before.x, this.#y + now.y - before.y);
    else if (event.pointerType === 'mouse' || Math.abs(now.x - before.x) > Math.abs(now.y - before.y)) this.#splitTo(event); // a finger that goes up or down moves the page
  }

  /** Two fingers: the photo grows as their distance does, around the one that stays. */
  #pinch(moved, before, now) {
    const [, other] = [...this.#pointers].find(([id]) => id !== moved);
    const distance = (point) => Math.hypot(point.x - other.x, point.y - other.y);
    this.#zoomTo(this.#scale * distance(now) / Math.max(distance(before), 1), other);
  }

  #toggle(event) {
    if (event.target.closest('button')) return;
    if (this.#isFitting) this.full(this.#at(event));
    else this.fit();
  }

  #wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // then the page moves, as everywhere
    event.preventDefault();
    this.#zoomTo(this.#scale * Math.exp(-event.deltaY / 200), this.#at(event));
  }
}
