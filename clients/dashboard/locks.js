// Locks of all nodes: who holds what, since when, and how to end it.

import { Poll, get, post } from './api.js';
import { Cursors, Table } from './table.js';
import { badge, button, code, confirm, count, drawer, empty, facts, h, pretty, say, searchField, select, set, toast, when } from './dom.js';

const EVERY = 2500;

export const off = () => h('div', { class: 'page' }, empty('locks', 'This broker keeps no locks and no log', 'Its store.url is “none”. With sqlite (the default) or PostgreSQL, connections can hold things, and everything that happens to them is in a durable log.'));

const stateOf = (lock) => (lock.state === 'grace' && lock.grace_until ? h('span', { class: 'badge warn' }, 'grace · ', when(lock.grace_until, 'left')) : badge(lock.state, lock.state === 'held' ? 'good' : 'warn'));

export function locks({ now, app, failed, go }, params) {
  if (!now.store.keeps_locks) return { element: off() };
  const asked = { q: params.q ?? '', state: params.state ?? '' };
  const total = h('span', { class: 'total', role: 'status' });
  const source = new Cursors((page, signal) => get('locks', { app: app.id, ...asked, ...page }, signal), () => {
    say(total, `${count(source.loaded)}${source.hasMore ? '+' : ''}`);
    table.render({
      empty: asked.q || asked.state
        ? empty('search', 'No lock matches', 'The search looks for a part of the resource or of the principal.')
        : empty('locks', 'Nothing is held', 'A lock is taken when somebody subscribes to a channel with a hold rule, such as private-order.42, and ends with the connection.'),
    });
  });
  const release = async (lock, after = () => {}) => {
    const meant = await confirm({
      title: `Release ${lock.resource}?`,
      text: [
        h('p', {}, h('strong', {}, lock.principal), ' loses it now, and is told so. The end is in the log with the cause “force_released”, and whoever waits for it is told that it is free.'),
        facts([['Resource', h('code', {}, lock.resource)], ['Fence', h('code', {}, String(lock.fence))], ['Held for', when(lock.acquired_at)]]),
      ],
      action: 'Release the lock',
    });
    if (!meant) return;
    try {
      await post(`locks/${lock.fence}/release`, { app: app.id });
      toast(`Released ${lock.resource}, fence ${lock.fence}`);
      after();
    } catch (error) {
      toast(error.message, 'bad');
    }
    poll.now();
  };
  const releaser = (lock) => button('Release', { kind: 'small', 'aria-label': `Release ${lock.resource}, fence ${lock.fence}`, data: { release: String(lock.fence) }, on: () => release(lock) });
  const table = new Table({
    label: 'Locks', source, key: (lock) => lock.fence, phoneHeight: 92,
    open: (lock) => {
      const sheet = drawer(lock.resource, 'Lock');
      set(sheet.body, 
        facts([
          ['State', stateOf(lock)],
          ['Principal', h('strong', {}, lock.principal)],
          ['Fence', h('code', {}, String(lock.fence))],
          ['Mode', lock.mode],
          ['Event', h('code', {}, `${lock.event}…`)],
          ['Taken', h('span', {}, when(lock.acquired_at), ' ago')],
        ]),
        h('h3', {}, 'Connections', h('span', { class: 'count' }, count(lock.holders.length))),
        lock.holders.length === 0
          ? h('p', { class: 'dim' }, 'None: it waits for its holder to come back, until the grace is over.')
          : h('ul', { class: 'lines' }, lock.holders.map((holder) => h('li', {}, code(holder.socket_id), h('span', { class: 'dim' }, `node ${holder.node} · `, when(holder.since))))),
        h('h3', {}, 'Context'),
        h('pre', { class: 'data' }, pretty(lock.context)),
        h('div', { class: 'actions' },
          button('In the log', { on: () => (sheet.close(), go('log', { q: lock.resource })) }),
          button('Release', { kind: 'danger', on: () => release(lock, sheet.close) })),
      );
    },
    columns: [
      { name: 'Resource', width: 'minmax(140px, 2fr)', phone: 'a', cell: (lock) => code(lock.resource) },
      { name: 'Principal', width: 'minmax(120px, 1.6fr)', phone: 'c', cell: (lock) => h('strong', { class: 'clip', title: lock.principal }, lock.principal) },
      { name: 'State', width: '150px', phone: 'b', cell: stateOf },
      { name: 'Fence', width: '90px', end: true, phone: 'e', cell: (lock) => h('code', {}, String(lock.fence)) },
      { name: 'Connections', wide: true, width: '110px', end: true, cell: (lock) => h('span', { title: lock.holders.map((holder) => holder.socket_id).join('\n') }, count(lock.holders.length)) },
      { name: 'Age', width: '110px', end: true, phone: 'f', cell: (lock) => when(lock.acquired_at) },
      { name: '', width: '96px', end: true, phone: 'd', cell: releaser },
    ],
  });
  const poll = new Poll((signal) => source.refresh(...table.window, signal), EVERY, failed);
  const again = () => {
    source.reset();
    table.toTop();
    poll.now();
  };
  table.render({ known: false });
  const element = h(
    'div', { class: 'page fixed' },
    h('div', { class: 'title' }, h('h1', {}, 'Locks'), total, h('p', { class: 'scope' }, 'Of all nodes, oldest first.')),
    h('div', { class: 'bar' },
      searchField('Resource or principal', asked.q, (q) => ((asked.q = q), again())),
      select('State', asked.state, [['', 'Held and in grace'], ['held', 'Held'], ['grace', 'In grace']], (state) => ((asked.state = state), again()))),
    table.element,
  );
  return { element, poll };
}
