// Who is told: listeners of the log, endpoints of webhooks, dead letters. And the nodes that do it.

import { Poll, get, post } from './api.js';
import { Cursors, Table } from './table.js';
import { badge, button, clock, code, confirm, count, drawer, duration, empty, facts, h, plural, pretty, say, select, set, toast, when } from './dom.js';
import { off } from './locks.js';

const EVERY = 3000;

const KINDS = { http: 'HTTP', orders: 'table', broadcast: 'broadcast' };

function state(row) {
  if (row.last_error && row.lag > 0) return badge('failing', 'bad');
  if (row.dead) return badge(plural(row.dead, 'dead letter'), 'bad');
  if (row.parked || row.aside) return badge('some put aside', 'warn');
  if (row.lag > 0) return badge('behind', 'info');
  return badge('up to date', 'good');
}

function card(title, kind, status, pairs, error, ...actions) {
  return h(
    'article', { class: 'card' },
    h('header', {}, h('h3', { class: 'clip', title }, title), kind && h('span', { class: 'dim' }, kind), status),
    facts(pairs),
    error && h('p', { class: 'error-line', title: error }, error),
    actions.some(Boolean) && h('div', { class: 'actions start' }, ...actions),
  );
}

/** Cards are made anew only when they say something else, so that nobody's button goes away under the hand. */
function cards(element, rows, make, nothing) {
  const says = JSON.stringify(rows);
  if (element.dataset.says === says) return;
  element.dataset.says = says;
  set(element, rows.length === 0 ? nothing : rows.map(make));
}

async function parked(name) {
  const sheet = drawer(name, 'Put aside');
  try {
    const { rows } = await get('parked', { name });
    set(sheet.body, 
      h('p', { class: 'dim' }, 'These could not be applied. They are tried again, in the order of their resource; everything else goes on. holdline consumers skip leaves one out.'),
      rows.length === 0 ? h('p', {}, 'Nothing any more.') : rows.map((row) => h('article', { class: 'card flat' },
        h('header', {}, h('h3', { class: 'clip' }, row.event.type), badge(row.reason, 'warn')),
        facts([['Resource', code(row.event.resource)], ['Place', `position ${row.event.position} of shard ${row.event.shard}`], ['Tried', plural(row.attempts, 'time')], ['Since', when(row.parked_at)]]),
        row.last_error && h('p', { class: 'error-line' }, row.last_error),
        h('pre', { class: 'data' }, pretty(row.event.context)))),
    );
  } catch (error) {
    set(sheet.body, h('p', { class: 'trouble' }, error.message));
  }
}

export function delivery({ now, app, failed }) {
  const hasLog = now.store.keeps_locks;
  const [listeners, endpoints] = [h('div', { class: 'cards', data: { list: 'listeners' } }), h('div', { class: 'cards', data: { list: 'webhooks' } })];
  const total = h('span', { class: 'count' });
  let endpoint = '';
  const source = new Cursors((page, signal) => get('webhooks/dead', { app: app.id, endpoint, ...page }, signal), () => {
    say(total, `${count(source.loaded)}${source.hasMore ? '+' : ''}`);
    all.hidden = source.count === 0;
    table.render({ empty: empty('check', 'No dead letters', 'An event that an endpoint did not take for its retry_for is kept here, to be sent again or dropped.') });
  });
  const act = async (what, path, body, question) => {
    if (question && !(await confirm(question))) return;
    try {
      const { count: n, more } = await post(path, { app: app.id, ...body });
      toast(`${what} ${plural(n, 'dead letter')}${more ? '; there are more' : ''}`);
    } catch (error) {
      toast(error.message, 'bad');
    }
    poll.now();
  };
  const one = (letter, what) => act(what === 'replay' ? 'Sending again:' : 'Dropped', `webhooks/dead/${encodeURIComponent(letter.id)}/${what}`, {}, what === 'drop' && {
    title: `Drop ${letter.name}?`, text: h('p', {}, `${letter.endpoint} is never told of it.`), action: 'Drop it',
  });
  const table = new Table({
    label: 'Dead letters', source, key: (letter) => letter.id, phoneHeight: 84,
    open: (letter) => {
      const sheet = drawer(letter.name, `Dead letter ${letter.id}`);
      set(sheet.body, 
        facts([['Endpoint', letter.endpoint], ['Channel', code(letter.channel)], ['Happened', when(letter.at)], ['Given up', when(letter.given_up_at)], ['Tried', plural(letter.attempts, 'time')]]),
        letter.last_error && h('p', { class: 'error-line' }, letter.last_error),
        h('h3', {}, 'Event'), h('pre', { class: 'data' }, pretty(letter.fields)),
        h('div', { class: 'actions' }, button('Drop', { kind: 'danger', on: () => (sheet.close(), one(letter, 'drop')) }), button('Send again', { kind: 'primary', on: () => (sheet.close(), one(letter, 'replay')) })),
      );
    },
    columns: [
      { name: 'Event', width: 'minmax(130px, 1.2fr)', phone: 'a', cell: (letter) => badge(letter.name, 'bad') },
      { name: 'Channel', width: 'minmax(120px, 1.6fr)', phone: 'c', cell: (letter) => code(letter.channel) },
      { name: 'Endpoint', width: 'minmax(90px, 1fr)', cell: (letter) => h('span', { class: 'clip' }, letter.endpoint) },
      { name: 'Why', wide: true, width: 'minmax(110px, 2fr)', cell: (letter) => h('span', { class: 'dim clip', title: letter.last_error ?? '' }, letter.last_error ?? '') },
      { name: 'Given up', width: '100px', end: true, phone: 'b', cell: (letter) => when(letter.given_up_at) },
      { name: '', width: '170px', end: true, phone: 'd', cell: (letter) => h('span', { class: 'pair' },
        button('Send again', { kind: 'small', data: { replay: letter.id }, on: () => one(letter, 'replay') }), button('Drop', { kind: 'small', data: { drop: letter.id }, on: () => one(letter, 'drop') })) },
    ],
  });
  const all = h('span', { class: 'pair', hidden: true },
    button('Send all again', { on: () => act('Sending again:', 'webhooks/replay', endpoint ? { endpoint } : {}, { title: 'Send all dead letters again?', text: h('p', {}, 'Each is tried anew, for as long as its endpoint’s retry_for.'), action: 'Send again', kind: 'primary' }) }),
    button('Drop all', { on: () => act('Dropped', 'webhooks/drop', endpoint ? { endpoint } : {}, { title: 'Drop all dead letters?', text: h('p', {}, 'The endpoints are never told of them.'), action: 'Drop them' }) }));
  const pick = h('span');

  const poll = new Poll(async (signal) => {
    const [logs, hooks] = await Promise.all([hasLog ? get('listeners', {}, signal) : { rows: [] }, get('webhooks', { app: app.id }, signal).catch((error) => (error.status === 501 ? { rows: [] } : Promise.reject(error)))]);
    cards(listeners, logs.rows, (row) => card(
      row.name, KINDS[row.kind] ?? (row.kind === null ? 'by another program' : row.kind), row.lag === null ? badge('each node by itself', 'good') : state(row),
      row.lag === null ? [['Keeps', 'no place: it tells who is connected now']] : [['Behind', plural(row.lag, 'entry', 'entries')], ['Read', count(row.read)], ['Put aside', count(row.parked)], ['Read by', row.owners.length ? row.owners.join(', ') : 'nobody now']],
      row.last_error && `${row.last_error} (tried ${plural(row.attempts, 'time')})`,
      row.parked > 0 && button('What is put aside', { on: () => parked(row.name) }),
    ), empty('delivery', 'No listeners', 'Who hears of locks and events: your application over HTTP, a table in your database, everybody on a channel. Add one under [[listeners]].'));
    cards(endpoints, hooks.rows, (row) => card(
      row.endpoint, row.batch ? 'in batches' : '', row.configured ? state(row) : badge('not configured here', 'warn'),
      [['URL', row.url && h('code', { class: 'clip', title: row.url }, row.url)], ['Wants', row.events?.join(', ')], ['Owed', row.lag || row.aside ? `${plural(row.lag + row.aside, 'event')}` : 'nothing'], row.oldest_owed && ['Oldest', when(row.oldest_owed)], ['Dead letters', count(row.dead)], ['Sent by', row.owner ?? 'nobody now']],
      row.last_error && `${row.last_error} (tried ${plural(row.attempts, 'time')})`,
    ), empty('delivery', 'No webhooks', 'Your application can be told of channels that are occupied or vacated, of members, client events and more. Add an endpoint under [[apps.webhooks]].'));
    const named = JSON.stringify(hooks.rows.map((row) => row.endpoint));
    if (pick.dataset.named !== named) {
      pick.dataset.named = named;
      set(pick, hooks.rows.length > 1 && select('Endpoint', endpoint, [['', 'All endpoints'], ...hooks.rows.map((row) => [row.endpoint, row.endpoint])], (value) => {
        endpoint = value;
        source.reset();
        poll.now();
      }));
    }
    if (hooks.rows.length > 0) await source.refresh(...table.window, signal);
    dead.hidden = hooks.rows.length === 0;
  }, EVERY, failed);

  const dead = h('section', { class: 'part dead', hidden: true }, h('header', { class: 'part-head' }, h('h2', {}, 'Dead letters'), total, pick, all), table.element);
  const element = h(
    'div', { class: 'page' },
    h('div', { class: 'title' }, h('h1', {}, 'Delivery'), h('p', { class: 'scope' }, 'Of all nodes. Listeners hear of all applications, webhooks are this one’s.')),
    hasLog && h('section', { class: 'part' }, h('header', { class: 'part-head' }, h('h2', {}, 'Listeners')), listeners),
    h('section', { class: 'part' }, h('header', { class: 'part-head' }, h('h2', {}, 'Webhooks')), endpoints),
    dead,
  );
  table.render({ known: false });
  return { element, poll };
}

const TONES = { alive: 'good', draining: 'warn', fenced: 'bad' };

export function nodes({ now, failed }) {
  if (!now.store.keeps_locks) return { element: off() };
  const list = h('div', { class: 'cards', data: { list: 'nodes' } });
  const total = h('span', { class: 'total' });
  const poll = new Poll(async (signal) => {
    const { nodes: rows } = await get('nodes', {}, signal);
    say(total, count(rows.length));
    set(list, rows.map((node) => {
      const silent = clock.now() - Date.parse(node.heartbeat_at);
      return card(
        node.name, node.this ? 'this node' : '', badge(node.state, TONES[node.state]),
        [
          ['Incarnation', count(node.incarnation)], ['Up for', when(node.started_at)], ['Holds', count(node.holds)],
          ['Heartbeat', h('span', {}, when(node.heartbeat_at), ' ago ', silent > node.lease_ms && node.state === 'alive' && badge('silent', 'bad'))],
          ['Declared dead after', duration(node.lease_ms)],
          node.fenced_at && ['Fenced', h('span', {}, when(node.fenced_at), ' ago')], node.cause && ['Ended by', node.cause],
        ],
      );
    }));
  }, EVERY, failed);
  const element = h(
    'div', { class: 'page' },
    h('div', { class: 'title' }, h('h1', {}, 'Nodes'), total, h('p', { class: 'scope' }, 'The brokers that share this store, newest first.')),
    list,
  );
  return { element, poll };
}
