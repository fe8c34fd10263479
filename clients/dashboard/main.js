// The frame around the views: who may look, which application, which view, and whether the broker answers.

import { Poll, Refused, Unreachable, get, session } from './api.js';
import { button, count, dialog, h, icon, iconButton, put, say, set, when } from './dom.js';
import { Rates, overview } from './overview.js';
import { channels, connections } from './live.js';
import { locks } from './locks.js';
import { log } from './log.js';
import { delivery, nodes } from './delivery.js';
import { console_ } from './console.js';

const VIEWS = [
  { id: 'overview', title: 'Overview', make: overview },
  { id: 'connections', title: 'Connections', make: connections, badge: ({ app }) => app.connections },
  { id: 'channels', title: 'Channels', make: channels, badge: ({ app }) => app.channels },
  { id: 'locks', title: 'Locks', make: locks, badge: ({ now }) => (now.apps.length > 1 || !now.store.answers ? null : now.store.held + now.store.grace) },
  { id: 'log', title: 'Event log', make: log },
  { id: 'delivery', title: 'Delivery', make: delivery, badge: ({ now }) => now.store.dead, alarm: true },
  { id: 'nodes', title: 'Nodes', make: nodes, badge: ({ now }) => now.store.nodes },
  { id: 'console', title: 'Console', make: console_ },
];
const HEARTBEAT = 2000;
const THEME = 'holdline.dashboard.theme';
const APP = 'holdline.dashboard.app';

const root = document.getElementById('app');
const rates = new Rates();
let now = null;
let app = null;
let view = null;
let heartbeat = null;
let heardAt = 0;
let shell = null;

// Light and dark

const stored = localStorage.getItem(THEME);
if (stored) document.documentElement.dataset.theme = stored;
const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';

function switchTheme() {
  const theme = isDark() ? 'light' : 'dark';
  document.documentElement.dataset.theme = theme;
  localStorage.setItem(THEME, theme);
  paintTheme();
}

function paintTheme() {
  shell?.theme.replaceChildren(icon(isDark() ? 'sun' : 'moon'));
}
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paintTheme);

// Who may look

function brand() {
  return h('div', { class: 'brand' }, h('img', { src: new URL('./icon.svg', import.meta.url).href, alt: '', width: 24, height: 24 }), h('strong', {}, 'Holdline'));
}

function login(message) {
  heartbeat?.stop();
  view?.stop();
  [heartbeat, view, shell, now] = [null, null, null, null];
  document.title = 'Sign in · Holdline';
  const field = h('input', { type: 'password', name: 'token', autocomplete: 'current-password', 'aria-label': 'Token', placeholder: 'dashboard.token', required: true, spellcheck: false });
  const trouble = h('p', { class: 'trouble', role: 'alert' }, message ?? '');
  const enter = button('Open the dashboard', { kind: 'primary', type: 'submit' });
  const form = h(
    'form', { class: 'login', id: 'login' },
    brand(),
    h('h1', {}, 'Sign in'),
    h('p', { class: 'dim' }, 'With the token from the broker’s configuration. It is kept for this tab only.'),
    field, trouble, enter,
  );
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    session.token = field.value.trim();
    enter.disabled = true;
    try {
      hear(await get('overview'));
      start();
      begin();
      return;
    } catch (error) {
      session.token = '';
      say(trouble, error.message);
      field.select();
    }
    enter.disabled = false;
  });
  set(root, h('main', { class: 'login-page', id: 'main' }, form));
  field.focus();
}

// What is heard of the broker

function hear(answer) {
  now = answer;
  heardAt = Date.now();
  rates.add(answer);
  const wanted = app?.id ?? localStorage.getItem(APP);
  app = answer.apps.find(({ id }) => id === wanted) ?? answer.apps[0] ?? null;
}

function failed(error) {
  if (error instanceof Refused && (error.status === 401 || (error.status === 429 && session.token))) {
    session.token = '';
    login(error.status === 401 ? 'This token is not valid (any more).' : error.message);
    return;
  }
  if (error instanceof Unreachable) lost();
  else if (shell) trouble(error.message);
}

function lost() {
  if (!shell) {
    set(root, h('main', { class: 'login-page', id: 'main' }, h('div', { class: 'login' }, brand(), h('h1', {}, 'No answer'), h('p', { class: 'dim', role: 'alert' }, 'The broker does not answer. This page tries again by itself.'))));
    return;
  }
  document.body.dataset.broker = 'lost';
  set(shell.state, h('span', { class: 'dot bad' }), 'No answer');
  set(shell.banner, icon('warn'), h('span', {}, h('strong', {}, 'The broker does not answer.'), ' Trying again by itself. Last heard of ', when(heardAt, 'ago'), ' ago; what you see is from then.'));
  shell.banner.hidden = false;
}

function trouble(text) {
  set(shell.banner, icon('warn'), h('span', {}, text));
  shell.banner.hidden = false;
}

function found() {
  document.body.dataset.broker = 'here';
  set(shell.state, h('span', { class: now.draining ? 'dot warn' : 'dot good' }), now.draining ? 'Stopping' : 'Live');
  if (now.draining) trouble('This node is stopping: it takes no new connections.');
  else if (now.store.keeps_locks && !now.store.answers) trouble('The store does not answer: locks, log, listeners and nodes cannot be shown or changed now. Channels go on.');
  else shell.banner.hidden = true;
}

async function beat(signal) {
  hear(await get('overview', {}, signal));
  if (!shell) {
    start();
    return;
  }
  // Back again after silence: the view looks at once.
  const wasLost = document.body.dataset.broker === 'lost';
  found();
  paint();
  if (wasLost) view?.poll?.now();
  view?.heard?.(context());
}

// The frame

const context = () => ({ now, app, rates, failed, go });

function go(id, params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value)).toString();
  location.hash = `/${id}${query ? `?${query}` : ''}`;
}

function here() {
  const [id, query] = location.hash.replace(/^#\/?/, '').split('?');
  return { id: VIEWS.some((view) => view.id === id) ? id : 'overview', params: Object.fromEntries(new URLSearchParams(query)) };
}

function start() {
  const links = VIEWS.map(({ id, title, alarm }, n) => {
    const badge = h('span', { class: `count ${alarm ? 'alarm' : ''}` });
    return { id, badge, link: h('a', { href: `#/${id}`, class: 'nav-link', title: `${title} (${n + 1})`, data: { view: id } }, icon(id), h('span', { class: 'nav-title' }, title), badge) };
  });
  const switcher = h('select', { id: 'application', 'aria-label': 'Application', on: { change: () => choose(switcher.value) } });
  shell = {
    links, switcher,
    apps: h('label', { class: 'select app-switch' }, switcher),
    only: h('span', { class: 'only-app' }),
    state: h('span', { class: 'state', role: 'status' }),
    banner: h('div', { class: 'banner', role: 'alert', hidden: true }),
    theme: iconButton('Light or dark (t)', 'moon', switchTheme, { id: 'theme' }),
    content: h('main', { id: 'main', class: 'content', tabIndex: -1 }),
    version: h('span', { class: 'dim' }),
  };
  const leave = session.token ? iconButton('Sign out', 'leave', () => ((session.token = ''), login())) : null;
  set(
    root,
    h(
      'div', { class: 'shell' },
      h(
        'header', { class: 'side' },
        h('div', { class: 'side-top' }, brand(), shell.state),
        h('div', { class: 'side-app' }, h('span', { class: 'eyebrow' }, 'Application'), shell.apps, shell.only),
        h('nav', { 'aria-label': 'Views' }, links.map(({ link }) => link)),
        h('div', { class: 'side-foot' }, shell.version, h('span', { class: 'tools' }, shell.theme, iconButton('Keyboard (?)', 'help', help, { id: 'help' }), leave)),
      ),
      h('div', { class: 'stage' }, shell.banner, shell.content),
    ),
  );
  paintTheme();
  found();
  paint();
  open();
}

function paint() {
  say(shell.version, `v${now.version}`);
  const many = now.apps.length > 1;
  shell.apps.hidden = !many;
  shell.only.hidden = many;
  say(shell.only, app?.id ?? 'none');
  const ids = now.apps.map(({ id }) => id).join('\n');
  if (shell.switcher.dataset.ids !== ids) {
    shell.switcher.dataset.ids = ids;
    set(shell.switcher, now.apps.map(({ id, enabled }) => h('option', { value: id }, enabled ? id : `${id} (disabled)`)));
  }
  if (shell.switcher.value !== app?.id) shell.switcher.value = app?.id ?? '';
  for (const { id, badge } of shell.links) {
    const { badge: of, alarm } = VIEWS.find((view) => view.id === id);
    const n = of && app ? of({ now, app }) : null;
    say(badge, n === null || n === undefined || (alarm && n === 0) ? '' : count(n));
  }
}

function choose(id) {
  localStorage.setItem(APP, id);
  app = now.apps.find((one) => one.id === id) ?? app;
  paint();
  open();
}

function open() {
  const { id, params } = here();
  const found = VIEWS.find((view) => view.id === id);
  // The same view with other words to look for is told of them.
  if (view?.id === id && view.app === app?.id && view.moved) {
    view.moved(params);
    return;
  }
  view?.stop();
  document.title = `${found.title} · Holdline`;
  for (const { id: of, link } of shell.links) {
    if (of === id) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  shell.links.find((link) => link.id === id).link.scrollIntoView({ block: 'nearest', inline: 'center' });
  if (!app) {
    set(shell.content, h('h1', {}, 'No application'));
    view = null;
    return;
  }
  const made = found.make(context(), params);
  view = { stop: () => made.poll?.stop(), ...made, id, app: app.id };
  if (made.stop) view.stop = made.stop;
  shell.content.dataset.view = id;
  set(shell.content, made.element);
}

addEventListener('hashchange', () => shell && open());

// Keys

const KEYS = [
  ['1 … 8', 'Go to a view'],
  ['/', 'Search'],
  ['↑ ↓  or  j k', 'Move in a list'],
  ['Enter', 'Open what is selected'],
  ['Esc', 'Close, or leave the search'],
  ['p', 'Pause the log or the listener'],
  ['r', 'Look again now'],
  ['t', 'Light or dark'],
  ['?', 'This help'],
];

function help() {
  const element = dialog('confirm help', 'Keyboard');
  put(
    element,
    h('header', { class: 'help-head' }, h('h2', {}, 'Keyboard'), iconButton('Close', 'close', () => element.close())),
    h('dl', { class: 'keys' }, KEYS.flatMap(([keys, text]) => [h('dt', {}, keys.split('  ').map((key) => (key === 'or' ? ' or ' : h('kbd', {}, key)))), h('dd', {}, text)])),
  );
  element.showModal();
}

addEventListener('keydown', (event) => {
  if (!shell || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  const isWriting = event.target.matches?.('input, textarea, select');
  if (isWriting) {
    if (event.key === 'Escape') event.target.blur();
    return;
  }
  const done = () => event.preventDefault();
  if (/^[1-8]$/.test(event.key)) {
    done();
    go(VIEWS[Number(event.key) - 1].id);
  } else if (event.key === '/') {
    done();
    shell.content.querySelector('[data-search]')?.focus();
  } else if (event.key === 'j' || event.key === 'k' || event.key === 'ArrowDown') {
    if (event.target.closest?.('.row')) return;
    const row = shell.content.querySelector('.spacer .row[tabindex]');
    if (row) {
      done();
      row.focus();
    }
  } else if (event.key === 'p') shell.content.querySelector('[data-pause]')?.click();
  else if (event.key === 'r') {
    heartbeat?.now();
    view?.poll?.now();
  } else if (event.key === 't') switchTheme();
  else if (event.key === '?') help();
});

// Begin

function begin() {
  heartbeat = new Poll(beat, HEARTBEAT, failed);
}

document.addEventListener('visibilitychange', () => !document.hidden && rates.gap());

get('overview').then(
  (answer) => {
    hear(answer);
    start();
    begin();
  },
  (error) => {
    if (error instanceof Refused && error.status === 401) login(session.token ? 'This token is not valid (any more).' : '');
    else if (error instanceof Refused) set(root, h('main', { class: 'login-page', id: 'main' }, h('div', { class: 'login' }, brand(), h('h1', {}, 'Not from here'), h('p', { class: 'dim', role: 'alert' }, error.message))));
    else {
      lost();
      begin();
    }
  },
);
