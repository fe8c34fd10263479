// The durable log as it grows: newest first, filtered here, paused at will.

import { Poll, get } from './api.js';
import { Rows, Table } from './table.js';
import { badge, button, code, count, drawer, empty, facts, h, icon, pretty, say, searchField, select, set, when } from './dom.js';
import { off } from './locks.js';

const EVERY = 1000;
/** Entries that are kept here. */
const MOST = 5000;
/** Pages that are read at one look, if there are so many. */
const PAGES = 10;

const TONES = { locked: 'good', unlocked: '', event: 'violet', webhook: 'info' };
const KINDS = [['', 'Everything'], ['locked', 'Locked'], ['unlocked', 'Unlocked'], ['event', 'Events'], ['webhook', 'Webhooks']];

export function log({ now, app, failed }, params) {
  if (!now.store.keeps_locks) return { element: off() };
  const asked = { q: (params.q ?? '').toLowerCase(), kind: '' };
  let [all, next, paused, missed, began] = [[], null, false, 0, false];
  const source = new Rows();
  const total = h('span', { class: 'total', role: 'status' });
  const pause = button('Pause', { glyph: 'pause', on: () => turn(!paused), data: { pause: '' }, 'aria-pressed': 'false' });

  const takes = (entry) =>
    (!asked.kind || entry.kind === asked.kind) &&
    (!asked.q || [entry.type, entry.resource, entry.principal, entry.cause, entry.socket_id, entry.fence, JSON.stringify(entry.context)].some((text) => String(text ?? '').toLowerCase().includes(asked.q)));

  const sum = () => {
    const shown = source.count === all.length ? count(all.length) : `${count(source.count)} of ${count(all.length)}`;
    say(total, paused && missed ? `${shown} · ${count(missed)} new` : shown);
  };
  const draw = () => {
    sum();
    table.render({
      known: began,
      empty: all.length === 0
        ? empty('log', 'The log is empty', 'Whatever happens to locks of this application is written here, once and in order: open an order at the desk, or subscribe to a channel with a hold rule.')
        : empty('search', 'No entry matches', 'Among the entries that were read here.'),
    });
  };
  const filter = () => {
    source.rows = all.filter(takes);
    table.toTop();
    draw();
  };
  const turn = (on) => {
    paused = on;
    missed = 0;
    pause.setAttribute('aria-pressed', String(paused));
    set(pause, icon(paused ? 'play' : 'pause'), h('span', {}, paused ? 'Go on' : 'Pause'));
    element.classList.toggle('paused', paused);
    if (!paused) flush();
    sum();
  };
  let held = [];
  const flush = () => {
    const fresh = held.reverse();
    held = [];
    if (fresh.length === 0) return;
    for (const entry of fresh) entry.fresh = began;
    all = [...fresh, ...all].slice(0, MOST);
    const taken = fresh.filter(takes);
    source.rows = [...taken, ...source.rows].slice(0, MOST);
    table.grew(taken.length);
  };

  const table = new Table({
    label: 'Event log', source, key: (entry) => `${entry.shard}/${entry.position}`, height: 40, phoneHeight: 62,
    open: (entry) => {
      const sheet = drawer(entry.type, `Entry ${entry.position} of shard ${entry.shard}`);
      set(sheet.body, 
        facts([
          ['Kind', badge(entry.kind, TONES[entry.kind])],
          ['Written', h('span', {}, when(entry.at), ' ago')],
          ['Resource', code(entry.resource)],
          ['Principal', entry.principal && h('strong', {}, entry.principal)],
          ['Socket', entry.socket_id && code(entry.socket_id)],
          ['Fence', entry.fence && h('code', {}, String(entry.fence))],
          ['Cause', entry.cause && `${entry.cause}${entry.after_grace ? ', after the grace' : ''}`],
        ]),
        h('h3', {}, 'Context'),
        h('pre', { class: 'data' }, pretty(entry.context)),
      );
    },
    columns: [
      { name: 'Time', width: '92px', phone: 'b', cell: (entry) => h('span', { class: 'dim' }, when(entry.at, 'clock')) },
      { name: 'Event', width: 'minmax(130px, 1.4fr)', phone: 'a', cell: (entry) => h('span', { class: `badge ${TONES[entry.kind] ?? ''}`, title: entry.type }, h('span', { class: 'clip' }, entry.type)) },
      { name: 'Resource', width: 'minmax(120px, 1.8fr)', phone: 'c', cell: (entry) => code(entry.resource) },
      { name: 'Principal', width: 'minmax(110px, 1.4fr)', phone: 'd', cell: (entry) => h('span', { class: 'clip', title: entry.principal ?? '' }, entry.principal ?? '') },
      { name: 'Cause', width: 'minmax(100px, 1.1fr)', cell: (entry) => h('span', { class: 'dim clip' }, entry.cause ? `${entry.cause}${entry.after_grace ? ', after grace' : ''}` : '') },
      { name: 'Fence', width: '80px', end: true, cell: (entry) => (entry.fence === null ? '' : h('code', {}, String(entry.fence))) },
    ],
  });

  const poll = new Poll(async (signal) => {
    for (let page = 0; page < PAGES; page += 1) {
      let answer;
      try {
        answer = await get('events', { app: app.id, after: next, limit: 200 }, signal);
      } catch (error) {
        // Another log than before: from its end again.
        if (error.field === 'after') next = null;
        throw error;
      }
      const isLast = next === answer.next || answer.rows.length === 0;
      next = answer.next;
      held.push(...answer.rows);
      if (held.length > MOST) held = held.slice(-MOST);
      if (paused) missed = held.length;
      else flush();
      if (isLast || !began) break;
    }
    began = true;
    draw();
  }, EVERY, failed);

  const search = searchField('Type, resource, principal, cause or context', params.q ?? '', (q) => ((asked.q = q.toLowerCase()), filter()));
  const element = h(
    'div', { class: 'page fixed' },
    h('div', { class: 'title' }, h('h1', {}, 'Event log'), total, h('p', { class: 'scope' }, 'Of all nodes, newest first.')),
    h('div', { class: 'bar' }, search, select('Kind', '', KINDS, (kind) => ((asked.kind = kind), filter())), pause),
    table.element,
  );
  table.render({ known: false });
  return { element, poll };
}
