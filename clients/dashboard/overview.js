// The first view: how much goes on, now and in the last minutes, and whether anything wants attention.

import { badge, bytes, clock, count, duration, exact, facts, h, icon, plural, rate, say, set, svg } from './dom.js';

/** Points that are remembered: five minutes at one look each two seconds. */
const POINTS = 150;
/** What a chart shows of them, in points and in words. */
const SPANS = [[30, '1 min ago', '30 s'], [60, '2 min ago', '1 min'], [POINTS, '5 min ago', '2:30']];
const COUNTED = ['messages_in', 'messages_out', 'bytes_in', 'bytes_out', 'published', 'client_events_relayed', 'delivered', 'opened', 'http_calls'];

/** Makes rates of counts that only grow. */
export class Rates {
  #apps = new Map();

  add(answer) {
    const at = performance.now();
    for (const app of answer.apps) {
      const known = this.#apps.get(app.id) ?? { points: [], last: null, at: 0, pid: answer.pid };
      const { last } = known;
      // Another process counts from the beginning.
      const isSame = last && known.pid === answer.pid && app.messages_out >= last.messages_out;
      const seconds = (at - known.at) / 1000;
      if (isSame && seconds < 0.5) continue;
      if (isSame && seconds < 15) {
        const point = { at: clock.now(), connections: app.connections };
        for (const name of COUNTED) point[name] = (app[name] - last[name]) / seconds;
        point.publishes = point.published + point.client_events_relayed;
        known.points.push(point);
        if (known.points.length > POINTS) known.points.shift();
      }
      this.#apps.set(app.id, { ...known, last: app, at, pid: answer.pid });
    }
  }

  /** Nobody has looked for a while: the next difference is over no known time. */
  gap() {
    for (const known of this.#apps.values()) known.at = performance.now() - 20_000;
  }

  points(app) {
    return this.#apps.get(app.id)?.points ?? [];
  }

  latest(app) {
    return this.points(app).at(-1) ?? {};
  }
}

const nice = (n) => {
  if (n <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 4, 5, 8, 10].map((step) => step * power).find((step) => step >= n);
};

/** Lines over the last five minutes. `series`: `{ name, key, tone }`. */
function chart(title, series, format) {
  const legend = h('div', { class: 'legend' });
  const plot = h('div', { class: 'plot', role: 'img', 'aria-label': `${title}, the last minutes` });
  const tip = h('div', { class: 'tip', hidden: true });
  const element = h('section', { class: 'panel chart' }, h('header', {}, h('h2', {}, title), legend), plot, tip);
  const values = series.map(({ name, tone }) => {
    const value = h('b', {}, '–');
    legend.append(h('span', { class: `key ${tone}` }, h('i'), name, value));
    return value;
  });
  let points = [];
  let geometry = null;
  const draw = () => {
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    if (!width) return;
    const [left, right, top, bottom] = [46, 10, 10, 22];
    const most = nice(Math.max(0, ...points.flatMap((point) => series.map(({ key }) => point[key]))));
    const [span, begin, middle] = SPANS.find(([n]) => points.length <= n) ?? SPANS.at(-1);
    const x = (n) => left + ((width - left - right) * (n + span - points.length)) / (span - 1);
    const y = (value) => top + (height - top - bottom) * (1 - value / most);
    geometry = { x, span, left, width, right };
    const grid = [0, 0.5, 1].map((part) => {
      const at = y(most * part);
      return svg('g', { class: 'grid' }, svg('line', { x1: left, x2: width - right, y1: at, y2: at }), svg('text', { x: left - 8, y: at + 4, 'text-anchor': 'end' }, format(most * part)));
    });
    const times = [[0, begin], [0.5, middle], [1, 'now']].map(([part, text]) =>
      svg('text', { class: 'time', x: left + (width - left - right) * part, y: height - 5, 'text-anchor': part === 0 ? 'start' : part === 1 ? 'end' : 'middle' }, text));
    const lines = points.length < 2 ? [] : series.flatMap(({ key, tone, area }) => {
      const line = points.map((point, n) => `${n ? 'L' : 'M'}${x(n).toFixed(1)},${y(point[key]).toFixed(1)}`).join('');
      const below = `${line}L${x(points.length - 1).toFixed(1)},${y(0)}L${x(0).toFixed(1)},${y(0)}Z`;
      return [area && svg('path', { class: `area ${tone}`, d: below }), svg('path', { class: `line ${tone}`, d: line })].filter(Boolean);
    });
    set(plot, svg('svg', { width, height, 'aria-hidden': 'true' }, ...grid, ...times, ...lines, svg('line', { class: 'cross', y1: top, y2: height - bottom, visibility: 'hidden' })));
  };
  plot.addEventListener('pointermove', (event) => {
    if (!geometry || points.length < 2) return;
    const { left, width, right, span } = geometry;
    const at = event.clientX - plot.getBoundingClientRect().left;
    const n = Math.round(((at - left) / (width - left - right)) * (span - 1)) - (span - points.length);
    const point = points[Math.min(points.length - 1, Math.max(0, n))];
    const place = geometry.x(points.indexOf(point));
    const cross = plot.querySelector('.cross');
    for (const end of ['x1', 'x2']) cross?.setAttribute(end, place);
    cross?.setAttribute('visibility', 'visible');
    set(tip, h('span', { class: 'dim' }, exact(point.at).slice(11, 19)), ...series.map(({ name, key, tone }) => h('span', { class: `key ${tone}` }, h('i'), name, h('b', {}, format(point[key])))));
    tip.hidden = false;
    tip.style.left = `${Math.min(Math.max(place, 90), width - 90)}px`;
  });
  plot.addEventListener('pointerleave', () => {
    tip.hidden = true;
    plot.querySelector('.cross')?.setAttribute('visibility', 'hidden');
  });
  new ResizeObserver(draw).observe(plot);
  const show = (next) => {
    points = next;
    const last = points.at(-1);
    series.forEach(({ key }, n) => say(values[n], last ? format(last[key]) : '–'));
    draw();
  };
  return { element, show };
}

function tile(label, href) {
  const [value, note] = [h('strong'), h('small')];
  const element = h(href ? 'a' : 'div', { class: 'tile', ...(href ? { href } : {}) }, h('span', {}, label), value, note);
  return { element, show: (text, about = '') => (say(value, text), say(note, about)) };
}

/** What somebody should look at, each with what it means. */
function attention(now, app) {
  const { store } = now;
  const found = [];
  const add = (tone, text, href) => found.push({ tone, text, href });
  if (now.draining) add('warn', 'This node is stopping and takes no new connections.');
  if (now.short_of_memory) add('bad', 'So much waits to be written that new connections and publishes are turned away.', '#/connections?sort=waiting');
  if (store.keeps_locks && !store.answers) add('bad', 'The store does not answer. Locks cannot be granted, and the log waits.');
  if (store.in_doubt) add('bad', 'This node may have been declared dead: its locks are in doubt until the store answers.', '#/nodes');
  if (store.dead) add('bad', `${plural(store.dead, 'dead letter')}: given up after many tries, kept for you.`, '#/delivery');
  if (store.parked) add('warn', `${plural(store.parked, 'entry is', 'entries are')} put aside by listeners, and tried again.`, '#/delivery');
  if (store.unwritten > 1000) add('warn', `${plural(store.unwritten, 'end')} of connections wait for the store.`);
  if (!app.enabled) add('warn', 'This application is disabled: everybody is refused with 4003.');
  if (now.max_connections && now.connections > now.max_connections * 0.9) add('warn', `This node has ${count(now.connections)} of at most ${count(now.max_connections)} connections.`, '#/connections');
  return found;
}

/** What was looked at, when nothing wants attention. */
function wells({ store, max_connections: max, connections }) {
  return [
    store.keeps_locks ? 'The store answers, and locks can be granted.' : 'Channels work. There is no store: no locks, no log.',
    store.keeps_locks && 'Listeners and webhooks: nothing is put aside, nothing was given up.',
    'Clients keep up: there is memory for what waits for them.',
    max ? `There is room for ${count(max - connections)} more connections.` : 'There is room for more connections.',
  ].filter(Boolean);
}

export function overview({ now, app, rates }) {
  const tiles = {
    connections: tile('Connections', '#/connections'), out: tile('Messages out'), in: tile('Messages in'),
    publishes: tile('Publishes', '#/channels?sort=rate'), channels: tile('Channels', '#/channels'), users: tile('Users signed in'),
    locks: tile('Locks', '#/locks'), nodes: tile('Nodes', '#/nodes'),
  };
  const messages = chart('Messages per second', [
    { name: 'Out', key: 'messages_out', tone: 'one', area: true }, { name: 'In', key: 'messages_in', tone: 'two' }, { name: 'Published', key: 'publishes', tone: 'three' },
  ], rate);
  const crowd = chart('Connections', [{ name: 'Now', key: 'connections', tone: 'one', area: true }], (n) => (n < 4 && n % 1 ? rate(n) : count(n)));
  const [news, node, table] = [h('ul', { class: 'news' }), h('div'), h('div')];
  const apps = h('section', { class: 'panel', hidden: true }, h('header', {}, h('h2', {}, 'Applications')), table);
  const element = h(
    'div', { class: 'page' },
    h('div', { class: 'title' }, h('h1', {}, 'Overview'), h('p', { class: 'scope' }, 'Live numbers are of this node; locks, dead letters and nodes of all.')),
    h('div', { class: 'tiles' }, Object.values(tiles).map((one) => one.element)),
    h('div', { class: 'charts' }, messages.element, crowd.element),
    h('div', { class: 'halves' }, h('section', { class: 'panel' }, h('header', {}, h('h2', {}, 'Attention')), news), h('section', { class: 'panel' }, h('header', {}, h('h2', {}, 'This node')), node)),
    apps,
  );

  const heard = ({ now, app }) => {
    const last = rates.latest(app);
    const { store } = now;
    tiles.connections.show(count(app.connections), app.max_connections ? `of at most ${count(app.max_connections)}` : last.opened > 0 ? `${rate(last.opened)}/s are new` : `${count(app.opened)} since the start`);
    tiles.out.show(rate(last.messages_out), last.bytes_out === undefined ? 'per second' : `per second · ${bytes(Math.round(last.bytes_out))}/s`);
    tiles.in.show(rate(last.messages_in), last.bytes_in === undefined ? 'per second' : `per second · ${bytes(Math.round(last.bytes_in))}/s`);
    tiles.publishes.show(rate(last.publishes), `per second · ${count(app.published + app.client_events_relayed)} in all`);
    tiles.channels.show(count(app.channels), plural(app.subscriptions, 'subscription'));
    tiles.users.show(count(app.users), app.waiting_bytes ? `${bytes(app.waiting_bytes)} wait to be sent` : 'nothing waits to be sent');
    if (store.keeps_locks) tiles.locks.show(count(store.held), store.grace ? `and ${count(store.grace)} in grace · all nodes` : 'held · all nodes');
    else tiles.locks.show('–', 'the store is off');
    tiles.nodes.show(store.keeps_locks ? count(store.nodes) : '1', !store.keeps_locks ? 'by itself' : `${store.nodes === 1 ? 'shares' : 'share'} the store · ${store.kind}`);
    messages.show(rates.points(app));
    crowd.show(rates.points(app));
    const found = attention(now, app);
    const says = JSON.stringify([found, found.length === 0 && wells(now)]);
    if (news.dataset.says !== says) {
      news.dataset.says = says;
      set(news, found.length === 0
        ? wells(now).map((text) => h('li', { class: 'well' }, icon('check'), h('span', {}, text)))
        : found.map(({ tone, text, href }) => h('li', { class: tone }, icon('warn'), h('span', {}, text), href && h('a', { href }, 'Look'))));
    }
    set(node, facts([
      ['Name', h('code', {}, store.node ?? '–')],
      ['Up for', h('span', { title: `since ${exact(now.now - now.uptime_ms)}` }, duration(now.uptime_ms))],
      ['Version', `${now.version} · process ${now.pid}`],
      ['Connections', `${count(now.connections)}${now.max_connections ? ` of at most ${count(now.max_connections)}` : ''}, all applications`],
      ['Waits to be sent', bytes(now.waiting_memory)],
      ['Store', store.keeps_locks ? h('span', {}, store.kind, ' ', store.locks_available ? badge('locks can be granted', 'good') : badge('no locks now', 'bad')) : 'none: no locks, no log'],
      store.keeps_locks && ['Holds here', `${count(store.holds)}${store.waiters ? `, ${plural(store.waiters, 'client')} waiting` : ''}`],
    ]));
    apps.hidden = now.apps.length < 2;
    if (now.apps.length > 1) {
      set(table, h('table', { class: 'plain' },
        h('thead', {}, h('tr', {}, ['Application', 'Connections', 'Channels', 'Out/s', 'Published/s'].map((name, n) => h('th', { class: n ? 'end' : '', scope: 'col' }, name)))),
        h('tbody', {}, now.apps.map((one) => {
          const of = rates.latest(one);
          return h('tr', { class: one.id === app.id ? 'chosen' : '' }, h('td', {}, h('code', {}, one.id), ' ', !one.enabled && badge('disabled', 'warn')),
            ...[count(one.connections), count(one.channels), rate(of.messages_out), rate(of.publishes)].map((text) => h('td', { class: 'end' }, text)));
        })),
      ));
    }
  };
  heard({ now, app });
  return { element, heard };
}
