// Connections and channels of this node.

import { Poll, get, post } from './api.js';
import { Offsets, Table } from './table.js';
import { badge, button, bytes, clock, code, confirm, count, drawer, duration, empty, exact, facts, h, plural, pretty, rate, say, searchField, select, set, toast, when } from './dom.js';

const EVERY = 2500;
const STATES = { active: 'good', connecting: 'info', handshaking: 'info', closing: 'warn' };

/** A searchable, sorted, endless list: what connections and channels have in common. */
function list({ title, scope, path, app, failed, params, searchLabel, filters, columns, key, open, nothing }) {
  const asked = { q: params.q ?? '', ...Object.fromEntries(filters.map(({ name, initial }) => [name, params[name] ?? initial])) };
  const total = h('span', { class: 'total', role: 'status' });
  const source = new Offsets((page, signal) => get(path, { app: app.id, ...asked, ...page }, signal), (answer) => {
    const found = asked.q || answer.matched !== answer.total ? `${count(answer.matched)} of ${count(answer.total)}` : count(answer.total);
    say(total, `${found}${answer.complete ? '' : ' (there are more than can be searched)'}`);
    table.render({ empty: nothing(asked, answer.total) });
  });
  const table = new Table({ label: title, columns, source, key, open });
  const poll = new Poll((signal) => source.refresh(...table.window, signal), EVERY, failed);
  const again = () => {
    source.reset();
    table.toTop();
    poll.now();
  };
  const search = searchField(searchLabel, asked.q, (q) => {
    asked.q = q;
    again();
  });
  const picks = filters.map(({ name, label, options }) => ({ name, element: select(label, asked[name], options, (value) => {
    asked[name] = value;
    again();
  }) }));
  table.render({ known: false });
  const element = h(
    'div', { class: 'page fixed' },
    h('div', { class: 'title' }, h('h1', {}, title), total, h('p', { class: 'scope' }, scope)),
    h('div', { class: 'bar' }, search, ...picks.map((pick) => pick.element)),
    table.element,
  );
  const moved = (next) => {
    asked.q = next.q ?? '';
    search.querySelector('input').value = asked.q;
    for (const { name, element: pick } of picks) {
      asked[name] = next[name] ?? filters.find((filter) => filter.name === name).initial;
      pick.querySelector('select').value = asked[name];
    }
    again();
  };
  return { element, poll, moved };
}

/** Names in a row, and how many more there are. */
function names(some, all, glyph = '') {
  if (all === 0) return h('span', { class: 'dim' }, '–');
  return h('span', { class: 'names', title: some.join('\n') }, ...some.map((name) => h('code', { class: `chip ${glyph}` }, name)), all > some.length && h('span', { class: 'dim' }, `+${count(all - some.length)}`));
}

// Connections

export function connections({ app, failed, go }, params) {
  return list({
    title: 'Connections', scope: 'Of this node.', path: 'connections', app, failed, params,
    searchLabel: 'Socket, user, address or channel',
    filters: [{ name: 'sort', label: 'Order', initial: 'newest', options: [['newest', 'Newest first'], ['oldest', 'Oldest first'], ['sent', 'Most sent to'], ['received', 'Most received'], ['waiting', 'Most waiting']] }],
    key: (row) => row.socket_id,
    open: (row) => connection(row.socket_id, app, go),
    nothing: ({ q }, total) => (q && total > 0
      ? empty('search', 'No connection matches', `Nobody here has “${q}” in socket id, user, address or channel.`)
      : empty('connections', 'Nobody is connected', 'Point pusher-js or Laravel Echo at this broker with the key of this application. Whoever connects appears here.', h('code', { class: 'hint' }, `key: ${app.key}`))),
    columns: [
      { name: 'Socket', width: 'minmax(140px, 2.6fr)', phone: 'a', cell: (row) => h('span', { class: 'with-dot' }, h('span', { class: `dot ${STATES[row.state] ?? ''}`, title: row.state }), code(row.socket_id)) },
      { name: 'User', width: 'minmax(80px, 1fr)', phone: 'b', cell: (row) => (row.user_id === null ? h('span', { class: 'dim' }, '–') : h('strong', { class: 'clip', title: row.user_id }, row.user_id)) },
      { name: 'Address', wide: true, width: 'minmax(90px, .8fr)', cell: (row) => h('span', { class: 'mono' }, row.ip ?? '–') },
      { name: 'Channels', width: 'minmax(120px, 2.4fr)', phone: 'c', cell: (row) => names(row.channels.slice(0, 2), row.channel_count) },
      { name: 'Holds', width: 'minmax(80px, 1fr)', cell: (row) => names(row.holds.slice(0, 1), row.hold_count, 'hold') },
      { name: 'Sent', width: '84px', end: true, cell: (row) => h('span', { title: `${count(row.bytes_out)} bytes sent, ${count(row.bytes_in)} received` }, bytes(row.bytes_out)) },
      { name: 'Waits', wide: true, width: '84px', end: true, cell: (row) => h('span', { class: row.waiting_bytes > 65_536 ? 'bad' : row.waiting_bytes ? '' : 'dim' }, row.waiting_bytes ? bytes(row.waiting_bytes) : '–') },
      { name: 'Age', width: '92px', end: true, phone: 'd', cell: (row) => when(clock.now() - row.connected_for_ms) },
    ],
  });
}

async function connection(id, app, go) {
  const sheet = drawer(id, 'Connection');
  const show = async (signal) => {
    const row = await get(`connections/${encodeURIComponent(id)}`, { app: app.id }, signal);
    set(sheet.body, 
      facts([
        ['State', badge(row.state, STATES[row.state])],
        ['User', row.user_id === null ? h('span', { class: 'dim' }, 'not signed in') : h('strong', {}, row.user_id)],
        ['Address', row.ip && h('span', { class: 'mono' }, row.ip)],
        ['Connected', h('span', { title: exact(clock.now() - row.connected_for_ms) }, `${duration(row.connected_for_ms)} ago`)],
        ['Received', bytes(row.bytes_in)],
        ['Sent', bytes(row.bytes_out)],
        ['Waits to be sent', row.waiting_frames ? `${plural(row.waiting_frames, 'frame')}, ${bytes(row.waiting_bytes)}` : 'nothing'],
        ['Worker', count(row.worker)],
      ]),
      h('h3', {}, 'Holds', h('span', { class: 'count' }, count(row.hold_count))),
      row.holds.length === 0
        ? h('p', { class: 'dim' }, 'Nothing.')
        : h('ul', { class: 'lines' }, row.holds.map((hold) => h('li', {}, h('code', { class: 'chip hold' }, hold.resource), h('span', { class: 'dim' }, `fence ${hold.fence}`), hold.channel && h('span', { class: 'dim clip' }, `by ${hold.channel}`)))),
      h('h3', {}, 'Channels', h('span', { class: 'count' }, count(row.channel_count))),
      row.channels.length === 0
        ? h('p', { class: 'dim' }, 'None.')
        : h('ul', { class: 'lines' }, row.channels.map((name) => h('li', {}, h('button', { type: 'button', class: 'link', on: { click: () => (sheet.close(), channel(name, app, go)) } }, code(name))))),
      row.channel_count > row.channels.length && h('p', { class: 'dim' }, `and ${count(row.channel_count - row.channels.length)} more`),
      h('div', { class: 'actions' },
        button('Reconnect it', { on: () => close(true) }),
        button('Close', { kind: 'danger', on: () => close(false), data: { close: '' } })),
    );
  };
  const close = async (reconnect) => {
    const meant = await confirm({
      title: reconnect ? 'Make this client connect again?' : 'Close this connection?',
      text: h('p', {}, reconnect ? 'It is closed with 4200: client libraries come back at once, and subscribe again.' : 'It is closed with 4009: client libraries stay away until the page is loaded again. What it holds is released, after the grace of its user.'),
      action: reconnect ? 'Reconnect' : 'Close it', kind: reconnect ? 'primary' : 'danger',
    });
    if (!meant) return;
    try {
      await post(`connections/${encodeURIComponent(id)}/close`, { app: app.id, reconnect });
      sheet.close();
      toast(`Closed ${id}`);
    } catch (error) {
      toast(error.message, 'bad');
    }
  };
  follow(sheet, show);
}

/** Shows a sheet again and again while it is open, unless somebody is about to press something. */
function follow(sheet, show, every = 3000) {
  const poll = new Poll(async (signal) => {
    if (!sheet.body.contains(document.activeElement) || document.activeElement === sheet.body) await show(signal);
  }, every, (error) => {
    set(sheet.body, h('p', { class: 'trouble', role: 'alert' }, error.message));
    if (error.status === 404) poll.stop();
  });
  sheet.element.addEventListener('close', () => poll.stop());
  return poll;
}

// Channels

const KINDS = ['public', 'private', 'presence', 'private-encrypted', 'cache', 'private-cache', 'presence-cache', 'private-encrypted-cache'];

const kindOf = (kind) => badge(kind, { public: '', private: 'violet', presence: 'teal', 'private-encrypted': 'violet' }[kind.replace(/-?cache$/, '') || 'public'] ?? '');

export function channels({ app, failed, go }, params) {
  return list({
    title: 'Channels', scope: 'Occupied channels of this node.', path: 'channels', app, failed, params,
    searchLabel: 'Channel name',
    filters: [
      { name: 'kind', label: 'Kind', initial: '', options: [['', 'All kinds'], ...KINDS.map((kind) => [kind, kind])] },
      { name: 'sort', label: 'Order', initial: 'subscribers', options: [['subscribers', 'Most subscribers'], ['rate', 'Most messages'], ['events', 'Most events so far'], ['name', 'By name']] },
    ],
    key: (row) => row.name,
    open: (row) => channel(row.name, app, go),
    nothing: ({ q, kind }, total) => ((q || kind) && total > 0
      ? empty('search', 'No channel matches', 'Try fewer letters, or all kinds.')
      : empty('channels', 'No channel is occupied', 'A channel is there as long as somebody is subscribed to it.')),
    columns: [
      { name: 'Channel', width: 'minmax(180px, 3fr)', phone: 'a', cell: (row) => code(row.name) },
      { name: 'Kind', width: '180px', phone: 'c', cell: (row) => kindOf(row.kind) },
      { name: 'Subscribers', width: '110px', end: true, phone: 'b', cell: (row) => count(row.subscriptions) },
      { name: 'Members', width: '100px', end: true, cell: (row) => (row.members === null ? h('span', { class: 'dim' }, '–') : count(row.members)) },
      { name: 'Messages/s', width: '110px', end: true, phone: 'd', cell: (row) => h('span', { class: row.per_second > 0 ? 'lively' : 'dim' }, row.per_second === null ? '–' : `${rate(row.per_second)}/s`) },
      { name: 'Events', wide: true, width: '110px', end: true, cell: (row) => count(row.events) },
    ],
  });
}

function channel(name, app, go) {
  const sheet = drawer(name, 'Channel');
  let last = null;
  follow(sheet, async (signal) => {
    const row = await get('channel', { app: app.id, name }, signal);
    const seconds = last && (row.now - last.now) / 1000;
    const speed = last && seconds > 0.2 && row.events >= last.events ? (row.events - last.events) / seconds : null;
    last = row;
    const leave = (id, params) => {
      sheet.close();
      go(id, params);
    };
    set(sheet.body, 
      facts([
        ['Kind', kindOf(row.kind)],
        ['Subscribers', count(row.subscriptions)],
        row.member_count !== null && ['Members', count(row.member_count)],
        ['Messages', speed === null ? `${count(row.events)} so far` : `${rate(speed)}/s, ${count(row.events)} so far`],
      ]),
      h('div', { class: 'actions start' },
        button('Listen', { glyph: 'console', on: () => leave('console', { listen: name }) }),
        button('Send an event', { on: () => leave('console', { send: name }) }),
        button('Its connections', { on: () => leave('connections', { q: name }) })),
      row.cached && h('h3', {}, 'Last event', h('span', { class: 'dim' }, `kept for ${duration(row.cached.expires_in_ms)} more`)),
      row.cached && h('pre', { class: 'data' }, pretty(row.cached.data), row.cached.cut && '\n… and more'),
      row.member_count !== null && h('h3', {}, 'Members', h('span', { class: 'count' }, count(row.member_count))),
      row.member_count !== null && h('ul', { class: 'lines' }, row.members.map(({ id, info }) => h('li', {}, h('strong', { class: 'clip' }, id), info !== null && h('span', { class: 'dim mono clip' }, JSON.stringify(info))))),
      h('h3', {}, 'Connections', h('span', { class: 'count' }, count(row.subscriptions))),
      row.sockets.length === 0
        ? h('p', { class: 'dim' }, 'Nobody of this node is subscribed.')
        : h('ul', { class: 'lines' }, row.sockets.map((id) => h('li', {}, h('button', { type: 'button', class: 'link', on: { click: () => (sheet.close(), connection(id, app, go)) } }, code(id))))),
      row.subscriptions > row.sockets.length && row.sockets.length > 0 && h('p', { class: 'dim' }, `and ${count(row.subscriptions - row.sockets.length)} more`),
    );
  });
}
