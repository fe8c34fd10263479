// A debug console: sends an event, and listens to channels over a WebSocket of its own, as any client does.

import { post, socketAddress } from './api.js';
import { badge, button, code, confirm, count, empty, exact, h, icon, iconButton, pretty, say, searchField, set, toast } from './dom.js';

/** Events that are kept here. */
const MOST = 500;

/** A client of the broker that speaks as much of Pusher's protocol as listening needs. */
class Socket {
  #address;
  #tell;
  #socket = null;
  #timer;
  #silence;
  #attempts = 0;
  #stopped = false;
  id = null;

  constructor(address, tell) {
    this.#address = address;
    this.#tell = tell;
    this.#open();
  }

  #open() {
    this.#tell.state('connecting', 'Connecting…');
    const socket = (this.#socket = new WebSocket(this.#address));
    let refusal = null;
    let activity = 120;
    const heard = () => {
      clearTimeout(this.#silence);
      this.#silence = setTimeout(() => {
        this.send('pusher:ping', {});
        this.#silence = setTimeout(() => socket.close(), 30_000);
      }, activity * 1000);
    };
    socket.addEventListener('message', ({ data }) => {
      heard();
      let frame;
      try {
        frame = JSON.parse(data);
      } catch {
        return;
      }
      if (frame.event === 'pusher:connection_established') {
        const hello = JSON.parse(frame.data);
        this.id = hello.socket_id;
        activity = Number(hello.activity_timeout) || activity;
        this.#attempts = 0;
        this.#tell.state('connected', `Connected as ${this.id}`);
        this.#tell.connected();
      } else if (frame.event === 'pusher:ping') this.send('pusher:pong', {});
      else if (frame.event === 'pusher:error') refusal = frame.data;
      else if (frame.event !== 'pusher:pong') this.#tell.frame(frame);
    });
    socket.addEventListener('close', ({ code: closed, reason }) => {
      clearTimeout(this.#silence);
      this.id = null;
      if (this.#stopped) return;
      const verdict = refusal?.code ?? closed;
      const message = refusal?.message || reason || (closed === 1006 ? 'the broker does not answer' : 'closed');
      if (verdict >= 4000 && verdict < 4100) {
        const hint = /origin/i.test(message) ? ' Add the address of this page to apps[].allowed_origins.' : '';
        this.#tell.state('refused', `Refused: ${verdict} ${message}.${hint}`);
        return;
      }
      this.#attempts += 1;
      this.#tell.state('lost', `Not connected (${message}). Trying again by itself.`);
      this.#timer = setTimeout(() => this.#open(), Math.min(500 * this.#attempts, 5000));
    });
  }

  send(event, data) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ event, data }));
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#socket?.close();
  }
}

function field(label, input, hint) {
  return h('label', { class: 'field' }, h('span', {}, label), input, hint && h('small', {}, hint));
}

function sender(app, channel) {
  const names = h('input', { name: 'channel', value: channel ?? '', placeholder: 'orders', autocomplete: 'off', spellcheck: false, required: true });
  const event = h('input', { name: 'event', value: 'OrderShipped', autocomplete: 'off', spellcheck: false, required: true });
  const data = h('textarea', { name: 'data', rows: 8, spellcheck: false, value: '{\n  "id": 42\n}' });
  const verdict = h('p', { class: 'verdict', role: 'status' });
  const trouble = h('p', { class: 'trouble', role: 'alert' });
  const send = button('Send event', { kind: 'primary', type: 'submit' });
  const check = () => {
    try {
      const size = new TextEncoder().encode(JSON.stringify(JSON.parse(data.value))).length;
      verdict.className = 'verdict good';
      say(verdict, `Valid JSON, ${count(size)} bytes`);
      data.removeAttribute('aria-invalid');
      return true;
    } catch (error) {
      verdict.className = 'verdict bad';
      say(verdict, error.message.replace(/^JSON\.parse: /, ''));
      data.setAttribute('aria-invalid', 'true');
      return false;
    }
  };
  data.addEventListener('input', check);
  const sent = h('ul', { class: 'sent' });
  const form = h(
    'form', { class: 'panel send', 'aria-label': 'Send an event' },
    h('header', {}, h('h2', {}, 'Send an event')),
    field('Channel', names, 'Several with commas between them.'), field('Event', event), field('Data', data),
    h('div', { class: 'form-foot' }, verdict, h('span', { class: 'pair' }, button('Format', { on: () => check() && (data.value = pretty(data.value)) }), send)),
    trouble, sent,
  );
  data.addEventListener('keydown', (key) => {
    if (key.key === 'Enter' && (key.ctrlKey || key.metaKey)) form.requestSubmit();
  });
  form.addEventListener('submit', async (submitted) => {
    submitted.preventDefault();
    say(trouble, '');
    if (!check()) {
      data.focus();
      return;
    }
    const channels = names.value.split(',').map((name) => name.trim()).filter(Boolean);
    send.disabled = true;
    try {
      const answer = await post('publish', { app: app.id, channels, event: event.value, data: JSON.stringify(JSON.parse(data.value)) });
      const line = h('li', {}, icon('check'), code(event.value), h('span', { class: 'dim' }, 'to'), code(channels.join(', ')), h('span', { class: 'dim end' }, `${count(answer.subscribers)} subscribed here`));
      sent.prepend(line);
      while (sent.children.length > 4) sent.lastChild.remove();
    } catch (error) {
      say(trouble, error.message);
    }
    send.disabled = false;
  });
  check();
  return { element: form, names };
}

export function console_({ now, app }, params) {
  const wanted = new Map();
  let [entries, paused, missed, search, shownOnce] = [[], false, 0, '', false];
  let socket = null;
  const send = sender(app, params.send);

  const state = h('span', { class: 'badge' }, 'Not listening');
  const stateText = h('p', { class: 'dim socket-state', role: 'status' }, 'A WebSocket is opened when you listen to the first channel.');
  const chips = h('ul', { class: 'chips', 'aria-label': 'Channels' });
  const name = h('input', { name: 'listen', 'aria-label': 'Channel to listen to', placeholder: 'orders, private-…, presence-…', autocomplete: 'off', spellcheck: false, required: true });
  const trouble = h('p', { class: 'trouble', role: 'alert' });
  const stream = h('ol', { class: 'stream', 'aria-label': 'Events', tabIndex: 0 });
  const pause = button('Pause', { glyph: 'pause', on: () => turn(!paused), data: { pause: '' }, 'aria-pressed': 'false' });
  const total = h('span', { class: 'count' });

  const matches = (entry) => !search || `${entry.event}\n${entry.channel}\n${entry.text}`.toLowerCase().includes(search);
  const line = (entry) => {
    const details = h('details', { class: `entry ${entry.tone ?? ''}` },
      h('summary', {}, h('time', { dateTime: new Date(entry.at).toISOString(), title: exact(entry.at) }, exact(entry.at).slice(11, 19)), badge(entry.event, entry.tone ?? 'teal'), h('code', { class: 'id' }, entry.channel ?? ''), h('span', { class: 'clip mono dim' }, entry.text)));
    details.addEventListener('toggle', () => {
      if (details.open && !details.querySelector('pre')) details.append(h('pre', { class: 'data' }, pretty(entry.text)));
    });
    return h('li', {}, details);
  };
  const draw = () => {
    const shown = entries.filter(matches);
    say(total, entries.length ? `${count(shown.length)}${paused && missed ? ` · ${count(missed)} new` : ''}` : '');
    set(stream, shown.length ? shown.map(line) : h('li', {}, empty('console', wanted.size ? 'Listening' : 'Nothing to hear yet', wanted.size ? 'Events appear here as they are delivered.' : 'Listen to a channel, and send an event to it.')));
  };
  let waiting = [];
  const add = (entry) => {
    const said = { at: Date.now(), ...entry };
    if (paused) {
      waiting.unshift(said);
      missed += 1;
      waiting.length = Math.min(waiting.length, MOST);
      say(total, `${count(entries.length)} · ${count(missed)} new`);
      return;
    }
    entries.unshift(said);
    entries.length = Math.min(entries.length, MOST);
    if (!matches(said)) return;
    // What is open stays open: only the new one is put in front.
    if (stream.querySelector('.empty')) draw();
    else {
      stream.prepend(line(said));
      while (stream.children.length > MOST) stream.lastChild.remove();
      say(total, count(entries.length));
    }
  };
  const turn = (on) => {
    paused = on;
    if (!paused) {
      entries = [...waiting, ...entries].slice(0, MOST);
      [waiting, missed] = [[], 0];
      draw();
    }
    pause.setAttribute('aria-pressed', String(paused));
    set(pause, icon(paused ? 'play' : 'pause'), h('span', {}, paused ? 'Go on' : 'Pause'));
  };

  const paintChips = () => set(chips, [...wanted].map(([channel, how]) => h('li', { class: `chip-channel ${how}`, data: { channel, how } },
    h('span', { class: `dot ${how === 'on' ? 'good' : how === 'refused' ? 'bad' : 'info'}` }), h('code', { class: 'clip', title: channel }, channel), iconButton(`Stop listening to ${channel}`, 'close', () => forget(channel)))));

  const forget = (channel) => {
    wanted.delete(channel);
    socket?.send('pusher:unsubscribe', { channel });
    paintChips();
    if (entries.length === 0) draw();
  };

  const subscribe = async (channel, { takeLock = false, quietly = false } = {}) => {
    if (!socket?.id) return;
    const refused = (message) => {
      wanted.set(channel, 'refused');
      paintChips();
      say(trouble, `${channel}: ${message}`);
    };
    try {
      const needs = /^(private|presence)-/.test(channel);
      const who = channel.startsWith('presence-') ? { user_id: `dashboard-${socket.id}`, user_info: { name: 'Dashboard' } } : {};
      const signed = needs ? await post('auth', { app: app.id, socket_id: socket.id, channel, take_lock: takeLock, ...who }) : {};
      if (!wanted.has(channel)) return;
      socket.send('pusher:subscribe', { channel, ...(signed.auth && { auth: signed.auth }), ...(signed.channel_data && { channel_data: signed.channel_data }) });
    } catch (error) {
      if (error.status === 409 && !quietly) {
        const meant = await confirm({
          title: 'This subscription takes a lock', action: 'Take it and listen', kind: 'primary',
          text: h('p', {}, 'A hold rule of this application applies to ', h('code', {}, channel), '. Whoever listens holds the resource, or is refused if somebody else does. The lock ends when you stop listening.'),
        });
        if (meant) {
          await subscribe(channel, { takeLock: true });
          return;
        }
        forget(channel);
        return;
      }
      refused(error.message);
    }
  };

  const listen = async (channel) => {
    if (!channel || wanted.has(channel)) return;
    wanted.set(channel, 'asked');
    paintChips();
    if (entries.length === 0) draw();
    socket ??= new Socket(socketAddress(app.key, now.version), {
      state: (tone, text) => {
        state.className = `badge ${{ connected: 'good', connecting: 'info', lost: 'warn', refused: 'bad' }[tone]}`;
        say(state, { connected: 'Connected', connecting: 'Connecting', lost: 'Not connected', refused: 'Refused' }[tone]);
        say(stateText, text);
        if (tone === 'lost' || tone === 'refused') for (const one of wanted.keys()) wanted.set(one, tone === 'refused' ? 'refused' : 'asked');
        paintChips();
      },
      connected: () => {
        for (const one of wanted.keys()) subscribe(one, { quietly: shownOnce });
        shownOnce = true;
      },
      frame: heard,
    });
    await subscribe(channel);
  };

  const heard = ({ event, channel, data, user_id: user }) => {
    const text = typeof data === 'string' ? data : data === undefined ? '' : JSON.stringify(data);
    if (event === 'pusher_internal:subscription_succeeded') {
      if (wanted.has(channel)) wanted.set(channel, 'on');
      paintChips();
      add({ event: 'subscribed', channel, text, tone: 'good' });
    } else if (event === 'pusher:subscription_error') {
      // It may have been given up meanwhile.
      if (wanted.has(channel)) wanted.set(channel, 'refused');
      paintChips();
      say(trouble, `${channel}: ${data?.error ?? 'refused'}`);
      add({ event: 'refused', channel, text, tone: 'bad' });
    } else add({ event: event.replace(/^pusher_internal:/, ''), channel: channel ?? (user ? `user ${user}` : ''), text, tone: event.startsWith('pusher') ? 'info' : event.startsWith('holdline:') ? 'warn' : undefined });
  };

  const form = h('form', { class: 'listen', 'aria-label': 'Listen to a channel' }, name, button('Listen', { kind: 'primary', type: 'submit' }));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    say(trouble, '');
    for (const one of name.value.split(',')) listen(one.trim());
    name.value = '';
  });
  const element = h(
    'div', { class: 'page' },
    h('div', { class: 'title' }, h('h1', {}, 'Console'), h('p', { class: 'scope' }, 'Your browser is a client of this broker here, and counts as one.')),
    h('div', { class: 'halves console' },
      send.element,
      h('section', { class: 'panel hear' },
        h('header', {}, h('h2', {}, 'Listen'), state),
        form, chips, trouble, stateText,
        h('div', { class: 'bar' }, searchField('Event, channel or data', '', (q) => ((search = q.toLowerCase()), draw())), pause, button('Clear', { on: () => ((entries = []), draw()) }), total),
        stream)),
  );
  draw();
  const moved = (next) => {
    if (next.listen) listen(next.listen);
    if (next.send) send.names.value = next.send;
  };
  if (params.listen) listen(params.listen).catch((error) => toast(error.message, 'bad'));
  return { element, moved, stop: () => socket?.stop() };
}
