// The page: one line, one order, and what everybody sees.
import * as api from './api.ts';
import { el, h, say, segments, show } from './dom.ts';
import { type Hold, type Signal, fenceOf, next } from './hold.ts';
import { Line, type LineState } from './line.ts';
import { badge, drawOrders } from './list.ts';
import { Log, orderOf } from './log.ts';
import { setPeople } from './people.ts';
import { Session } from './session.ts';
import { Sheet, type Writing } from './sheet.ts';
import { drawTicket, seconds } from './ticket.ts';
import type { Config, Identity, Lock, Order } from './wire.ts';

const POLL = 800;
const REDRAW = 250;
/** After so long an order is asked for again that could not be had because the store did not answer. */
const RETRY = 3000;
const AWAY = 'The broker is away. Reconnecting…';

const IDENTITIES = [
  ['signin', 'Signed in'],
  ['channel', 'Signed channel'],
  ['plain', 'Plain'],
] as const satisfies readonly (readonly [Identity, string])[];

const SAYS: Record<Identity, (name: string, id: string) => string> = {
  signin: (name, id) => `The connection has signed in as ${name}, so the holder is user:${id}: a reload, or another tab, is still ${name}.`,
  channel: (name, id) => `Your auth endpoint has signed ${name}'s name with this one channel (channel_data), so the holder is user:${id}.`,
  plain: () => 'A plain private subscription names nobody, so the holder is the socket itself: a reload is a stranger, and there is no grace.',
};

class Desk {
  #config: Config;
  readonly #session: Session;
  readonly #log = new Log();
  readonly #sheet: Sheet;
  #line!: Line;
  #hold: Hold = { is: 'closed' };
  #orders: Order[] = [];
  #locks: Lock[] = [];
  #cursor: string | undefined;
  #loaded = false;
  /** Nothing answers at the broker's address. */
  #away = false;
  /** What it answers instead. */
  #trouble: string | undefined;
  #poll: ReturnType<typeof setTimeout> | undefined;
  /** The tab let go of an order only to open it as somebody else. */
  #switching = false;
  #setIdentity: (identity: Identity) => void;

  constructor(config: Config, session: Session) {
    this.#config = config;
    this.#session = session;
    this.#sheet = new Sheet((order) => {
      this.#orders = this.#orders.map((old) => (old.id === order.id ? order : old));
      this.draw();
    });
    for (const { id, name } of config.people) {
      const input = h('input', { type: 'radio', name: 'person', value: id, checked: id === session.person });
      input.addEventListener('change', () => this.#become(() => (session.person = id)));
      el('people').append(h('label', { 'data-who': id }, input, h('span', {}, badge(id, name), name)));
    }
    this.#setIdentity = segments(el('identities'), 'identity', IDENTITIES, (identity) => this.#become(() => (session.identity = identity)));
    this.#listen();
    this.#connect();
    if (session.order !== undefined) this.open(session.order);
    void this.refresh();
    setInterval(() => this.draw(), REDRAW);
  }

  #listen(): void {
    const on = (id: string, run: () => void): void => el(id).addEventListener('click', run);
    on('close', () => this.close());
    on('act', () => this.#act());
    on('reload', () => location.reload());
    on('reset', () => void this.#line.reset().catch(() => {}));
    on('unplug', () => void this.#line.unplug().catch(() => {}));
    on('force', () => void this.#force());
    on('kill', () => void copy(this.#kill, el('kill')));
    el<HTMLInputElement>('eager-input').addEventListener('change', ({ target }) => {
      this.#session.eager = (target as HTMLInputElement).checked;
      this.#session.keep();
    });
    el<HTMLInputElement>('only').addEventListener('change', () => this.#filter());
    document.addEventListener('visibilitychange', () => document.hidden || void this.refresh());
  }

  get #kill(): string {
    return `kill -9 ${this.#config.pid}`;
  }

  #connect(): void {
    const { person, identity } = this.#session;
    this.#line = new Line({ key: this.#config.key, person, identity, onState: (state) => this.#onLine(state) });
  }

  #onLine(state: LineState): void {
    if (state === 'connected') this.#tell({ type: 'up' });
    else this.#tell({ type: 'down', why: state === 'unplugged' ? 'unplugged' : 'broken', at: Date.now() });
  }

  /** Somebody else sits down, or the same person with other papers: another connection. */
  #become(change: () => void): void {
    const order = this.#hold.is === 'closed' ? undefined : this.#session.order;
    change();
    this.#session.keep();
    this.#line.end();
    this.#tell({ type: 'close' });
    this.#connect();
    this.#switching = true;
    if (order !== undefined) this.open(order);
  }

  open(id: number): void {
    if (id !== this.#session.order) this.#switching = false;
    this.#session.order = id;
    this.#session.keep();
    this.#line.open(id, (signal) => id === this.#session.order && this.#tell(signal));
    if (this.#line.state === 'unplugged') this.#tell({ type: 'down', why: 'unplugged', at: Date.now() });
    this.#filter();
    this.draw();
  }

  close(): void {
    this.#line.leave();
    this.#session.order = undefined;
    this.#session.keep();
    this.#tell({ type: 'close' });
    this.#filter();
  }

  #tell(signal: Signal): void {
    this.#hold = next(this.#hold, signal);
    if (this.#hold.is === 'held') this.#switching = false;
    // From here on the channel is of no use: the next connection would ask for the order in the name of somebody who did not.
    if (this.#hold.is === 'free' || this.#hold.is === 'lost') this.#line.leave();
    if (this.#hold.is === 'free' && signal.type === 'lock_free' && (this.#session.eager || this.#switching)) {
      this.#again();
      return;
    }
    if (this.#hold.is === 'refused' && this.#hold.refusal.type === 'LockUnavailable') {
      const refused = this.#hold;
      setTimeout(() => this.#hold === refused && this.#again(), RETRY);
    }
    this.draw();
    void this.refresh();
  }

  #again(): void {
    if (this.#session.order !== undefined) this.open(this.#session.order);
  }

  #act(): void {
    if (this.#hold.is === 'offline') this.#line.plugIn();
    else this.#again();
  }

  async #force(): Promise<void> {
    const lock = this.#lockOn(this.#session.order);
    if (lock) await api.release(lock.fence).catch(() => {});
    await this.refresh();
  }

  #filter(): void {
    this.#log.only(el<HTMLInputElement>('only').checked ? this.#session.order : undefined);
  }

  /** Asks for everything that is on the page, soon again when it fails, and after a while when it does not. */
  async refresh(): Promise<void> {
    clearTimeout(this.#poll);
    try {
      this.#orders = await api.orders();
      const [locks, { events, next }] = await Promise.all([api.locks(), api.events(this.#cursor)]);
      this.#locks = locks;
      this.#cursor = next;
      this.#log.add(events, this.#loaded);
      this.#loaded = true;
      if (this.#away) {
        this.#line.wake();
        // Another process.
        this.#config = await api.config();
      }
      this.#away = false;
      this.#trouble = undefined;
    } catch (error) {
      // When all is well again, the log may be another.
      this.#cursor = undefined;
      this.#away = !(error instanceof api.Refused);
      this.#trouble = error instanceof api.Refused ? `${error.message}.` : AWAY;
    }
    clearTimeout(this.#poll);
    this.#poll = setTimeout(() => void this.refresh(), POLL);
    this.draw();
  }

  #lockOn(id: number | undefined): Lock | undefined {
    return this.#locks.find((lock) => orderOf(lock.resource) === id);
  }

  draw(): void {
    const now = Date.now();
    const { person, identity, order: open, eager } = this.#session;
    const name = this.#config.people.find(({ id }) => id === person)?.name ?? person;
    const fence = fenceOf(this.#hold);

    show(el('trouble'), this.#trouble !== undefined);
    say(el('trouble-says'), this.#trouble ?? '');
    document.body.dataset['away'] = String(this.#away);
    const state = this.#away ? 'away' : this.#line.state;
    el('link').dataset['state'] = state;
    say(el('link'), state);
    document.body.dataset['who'] = identity === 'plain' ? 'socket' : person;
    this.#setIdentity(identity);
    say(el('identity-says'), SAYS[identity](name, person));
    const second = this.#config.people.find(({ id }) => id !== person);
    el<HTMLAnchorElement>('second').href = `/desk?as=${second?.id ?? ''}`;
    say(el('second'), `Open a tab as ${second?.name ?? 'another'}`);

    const holding = (id: number) => {
      const lock = this.#lockOn(id);
      return { lock, open: id === open, mine: id === open && this.#hold.is === 'held' && lock?.fence === fence };
    };
    drawOrders(this.#orders, holding, (id) => this.open(id), now);

    const order = this.#orders.find(({ id }) => id === open);
    const visible = order !== undefined && this.#hold.is !== 'closed';
    show(el('empty'), !visible);
    show(el('sheet'), visible);
    document.body.dataset['open'] = String(visible);
    if (!visible) return;

    const { silence_ms: silenceMs } = this.#config;
    const graceMs = this.#config.grace_ms ?? 0;
    const named = identity !== 'plain' && graceMs > 0;
    const end = this.#log.endOf(fence);
    drawTicket({ id: order.id, hold: this.#hold, lock: this.#lockOn(order.id), end, away: this.#away, silenceMs, graceMs, named, eager, now });
    const writing: Writing = fence === undefined ? 'no' : this.#hold.is === 'held' ? 'yes' : 'at own risk';
    this.#sheet.draw(order, writing, fence);
    this.#ways(silenceMs, graceMs, named);
  }

  #ways(silenceMs: number, graceMs: number, named: boolean): void {
    const grace = seconds(graceMs);
    const noticed = `Silence, and nobody is told. The broker notices within ${seconds(silenceMs)}`;
    show(el('ways'), this.#hold.is === 'held');
    say(el('kill-command'), this.#kill);
    for (const [id, withName, withoutName] of [
      ['leave', `It may be a reload, so it has ${grace} to come back. Then the order is free.`, 'Free at once: nobody can come back as this socket.'],
      ['reload', `Back within ${grace}: the same lock, the same fence.`, 'A new socket is a stranger: one lock ends, another begins.'],
      ['reset', 'No close frame, no warning. pusher-js is back a second later, and resumes.', 'No close frame, no warning, and no way back to the lock.'],
      ['unplug', `${noticed}, and waits ${grace} more.`, `${noticed}.`],
      ['kill', `Then start it again. The lock is on its disk: within ${grace} it is yours again, with the same fence.`, 'Then start it again. The lock is on its disk, and is ended before anybody gets in.'],
    ] as const) {
      say(el(`${id}-says`), named ? withName : withoutName);
    }
  }
}

async function copy(text: string, button: HTMLElement): Promise<void> {
  await navigator.clipboard.writeText(text).then(
    () => button.setAttribute('data-copied', ''),
    () => {},
  );
  setTimeout(() => button.removeAttribute('data-copied'), 1500);
}

/** The page may be there before the broker is. */
async function start(): Promise<void> {
  try {
    const config = await api.config();
    setPeople(config.people);
    show(el('trouble'), false);
    new Desk(config, await Session.start(config.people));
  } catch (error) {
    if (error instanceof api.Refused) throw error;
    say(el('trouble-says'), AWAY);
    show(el('trouble'), true);
    setTimeout(() => void start(), POLL);
  }
}

void start();
