// Elements, numbers and times. Whatever comes from clients becomes text here, never markup.

const SVG = 'http://www.w3.org/2000/svg';

/** Makes an element. `props` are properties, but for `class`, `data`, `on` (listeners) and names with a dash (attributes). */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name === 'class') element.setAttribute('class', value);
    else if (name === 'data') Object.assign(element.dataset, value);
    else if (name === 'on') for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name.includes('-') || name === 'role' || element.namespaceURI === SVG) element.setAttribute(name, value);
    else element[name] = value;
  }
  put(element, ...children);
  return element;
}

/** Appends children; a text stays a text, nothing is left out but null and false. */
export function put(element, ...children) {
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) element.append(child);
}

/** Replaces what is inside. */
export function set(element, ...children) {
  element.replaceChildren();
  put(element, ...children);
}

/** Writes a text, unless it stands there already. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Icons: 20 by 20, drawn with lines.
const ICONS = {
  overview: 'M3 11.5 10 4l7 7.5M5 10v6.5h10V10',
  connections: 'M7 5v4m6-4v4M5 9h10v2a5 5 0 0 1-10 0zM10 16v2',
  channels: 'M7.5 3 6 17M14 3l-1.500 14M3.500 7.500h13.500M3 12.500h13.500',
  locks: 'M5 9h10v8H5zM7 9V6.500a3 3 0 0 1 6 0V9M10 12.200v1.800',
  log: 'M4 5h12M4 10h12M4 15h7',
  delivery: 'M3 10h9m-3.500-3.500L12 10l-3.500 3.500M13 4h4v12h-4',
  nodes: 'M4 4h12v5H4zM4 11h12v5H4zM7 6.500h.01M7 13.500h.01',
  console: 'M3 4.500h14v11H3zM6 8l2.500 2L6 12m5 0h3',
  search: 'M9 4a5 5 0 1 0 0 10A5 5 0 0 0 9 4zm3.700 8.700L17 17',
  close: 'M5 5l10 10M15 5 5 15',
  pause: 'M7 4.500v11m6-11v11',
  play: 'M6.500 4.500 15 10l-8.500 5.500z',
  sun: 'M10 6.500a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7zM10 2v1.500m0 13V18M2 10h1.500m13 0H18M4.300 4.300l1.100 1.100m9.200 9.200 1.100 1.100m0-11.400-1.100 1.100m-9.200 9.200-1.100 1.100',
  moon: 'M16 11.500A6.500 6.500 0 0 1 8.500 4 6.500 6.500 0 1 0 16 11.500z',
  help: 'M7.500 7.500a2.500 2.500 0 1 1 3.500 2.300c-.700.300-1 .800-1 1.700M10 14.500h.01',
  leave: 'M8 4H4v12h4m-1-6h9m-3-3 3 3-3 3',
  check: 'M4 10.500 8 14.500 16 5.500',
  warn: 'M10 4 17.500 16.500h-15zM10 8.500v3.500m0 2.200h.01',
  back: 'M12 5l-5 5 5 5',
};

export function icon(name) {
  return svg('svg', { class: 'icon', viewBox: '0 0 20 20', 'aria-hidden': 'true' }, svg('path', { d: ICONS[name] }));
}

// Numbers

const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const TENTH = new Intl.NumberFormat('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const count = (n) => (n === null || n === undefined ? '–' : WHOLE.format(n));

/** Per second: small ones with one digit behind the point. */
export function rate(n) {
  if (n === null || n === undefined) return '–';
  return n === 0 ? '0' : n < 9.95 ? TENTH.format(n) : WHOLE.format(n);
}

export function bytes(n) {
  if (n === null || n === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  let value = n;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${at === 0 || value >= 99.5 ? WHOLE.format(value) : TENTH.format(value)} ${units[at]}`;
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// Times, by the broker's clock

export const clock = { offset: 0, now: () => Date.now() + clock.offset };

/** `3 s`, `4 min`, `2 h 5 min`, `3 d 4 h`. */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  const rest = (part, unit) => (part === 0 ? '' : ` ${part} ${unit}`);
  if (hours < 24) return `${hours} h${rest(minutes % 60, 'min')}`;
  return `${Math.floor(hours / 24)} d${rest(hours % 24, 'h')}`;
}

const two = (n) => String(n).padStart(2, '0');
const time = (at) => `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
const day = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;

/** The exact time, for a hover: here and in UTC. */
export function exact(ms) {
  const at = new Date(ms);
  return `${day(at)} ${time(at)}.${String(at.getMilliseconds()).padStart(3, '0')}  ·  ${at.toISOString()}`;
}

const timeText = (element, at) => {
  const age = clock.now() - at;
  if (element.dataset.form === 'clock') return time(new Date(at));
  return element.dataset.form === 'left' ? `${duration(at - clock.now())} left` : age < 1000 && element.dataset.form === 'ago' ? 'now' : duration(age);
};

/** A time that goes on by itself: `age` is `3 min`, `ago` the same, `left` what remains, `clock` the time of day. The exact one is its title. */
export function when(at, form = 'age') {
  const ms = typeof at === 'number' ? at : Date.parse(at);
  if (!Number.isFinite(ms)) return h('span', { class: 'dim' }, '–');
  const element = h('time', { dateTime: new Date(ms).toISOString(), title: exact(ms), data: { at: String(ms), form } });
  element.textContent = timeText(element, ms);
  return element;
}

setInterval(() => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll('time[data-at]:not([data-form="clock"])')) say(element, timeText(element, Number(element.dataset.at)));
}, 1000);

// Small parts

/** A word with a dot: `good`, `warn`, `bad`, `info` or nothing. */
export const badge = (text, tone = '') => h('span', { class: `badge ${tone}` }, text);

export const code = (text, title) => h('code', { class: 'id', title: title ?? text }, text);

export function button(label, { kind = '', glyph, on, ...props } = {}) {
  return h('button', { type: 'button', class: `button ${kind}`, on: { click: on }, ...props }, glyph && icon(glyph), h('span', {}, label));
}

export const iconButton = (label, glyph, on, props = {}) =>
  h('button', { type: 'button', class: 'icon-button', title: label, 'aria-label': label, on: { click: on }, ...props }, icon(glyph));

/** What stands where there is nothing to show. */
export const empty = (glyph, title, text, ...more) => h('div', { class: 'empty' }, icon(glyph), h('h3', {}, title), h('p', {}, text), ...more);

/** Name and value pairs. */
export const facts = (pairs) =>
  h('dl', { class: 'facts' }, ...pairs.filter(Boolean).flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value ?? '–')]));

/** JSON with line breaks, or the text itself. */
export function pretty(text) {
  try {
    return JSON.stringify(typeof text === 'string' ? JSON.parse(text) : text, null, 2);
  } catch {
    return String(text);
  }
}

export function searchField(label, value, on) {
  const input = h('input', { type: 'search', value, placeholder: label, 'aria-label': label, autocomplete: 'off', spellcheck: false, maxLength: 200, data: { search: '' } });
  let timer;
  input.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(() => on(input.value.trim()), 180);
  });
  return h('label', { class: 'search' }, icon('search'), input, h('kbd', { 'aria-hidden': 'true' }, '/'));
}

export function select(label, value, options, on) {
  const element = h('select', { 'aria-label': label, on: { change: () => on(element.value) } }, options.map(([key, text]) => h('option', { value: key, selected: key === value }, text)));
  element.value = value;
  return h('label', { class: 'select' }, element);
}

// Dialogs and words at the edge

export function dialog(className, label) {
  const element = h('dialog', { class: className, 'aria-label': label });
  element.addEventListener('close', () => element.remove());
  element.addEventListener('click', (event) => event.target === element && element.close());
  document.body.append(element);
  return element;
}

/** Asks before something that cannot be taken back. Answers whether it is meant. */
export function confirm({ title, text, action, kind = 'danger' }) {
  return new Promise((resolve) => {
    const element = dialog('confirm', title);
    element.addEventListener('close', () => resolve(element.returnValue === 'yes'));
    put(
      element,
      h('h2', {}, title),
      h('div', { class: 'prose' }, text),
      h('div', { class: 'actions' }, button('Cancel', { on: () => element.close('no') }), button(action, { kind, on: () => element.close('yes'), data: { confirm: '' } })),
    );
    element.showModal();
    element.querySelector('[data-confirm]').focus();
  });
}

/** A sheet at the side with all about one thing. */
export function drawer(title, subtitle) {
  const element = dialog('drawer', title);
  const body = h('div', { class: 'drawer-body' }, h('p', { class: 'dim' }, 'Loading…'));
  put(
    element,
    h('header', {}, h('div', { class: 'drawer-title' }, subtitle && h('p', { class: 'eyebrow' }, subtitle), h('h2', { title }, title)), iconButton('Close (Esc)', 'close', () => element.close())),
    body,
  );
  element.showModal();
  return { element, body, close: () => element.close(), isOpen: () => element.isConnected && element.open };
}

let toasts;

/** Says what has become of an action. */
export function toast(text, tone = '') {
  toasts ??= h('div', { class: 'toasts', role: 'status', 'aria-live': 'polite' });
  // A modal dialog hides what is not inside of it.
  (document.querySelector('dialog[open]') ?? document.body).append(toasts);
  const element = h('div', { class: `toast ${tone}` }, icon(tone === 'bad' ? 'warn' : 'check'), h('span', {}, text));
  toasts.append(element);
  setTimeout(() => element.remove(), tone === 'bad' ? 8000 : 4000);
}
