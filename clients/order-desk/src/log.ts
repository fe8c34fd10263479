// The log: what the broker has written down, newest first.
import { el, h, show } from './dom.ts';
import { who } from './people.ts';
import { because } from './ticket.ts';
import type { Entry } from './wire.ts';

/** Entries that are kept in the page. */
const MOST = 200;

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });

export const orderOf = (resource: string): number => Number(resource.replace(/^order:/, ''));

export class Log {
  #entries: Entry[] = [];
  #seen = new Set<string>();
  #only: number | undefined;

  /** Takes entries in the order of the log. Those that came with the page are not news. */
  add(entries: Entry[], news: boolean): void {
    const list = el('log');
    for (const entry of entries) {
      // The time, too: a log in memory begins anew when the broker does.
      const key = `${entry.shard}/${entry.position}/${entry.at}`;
      if (this.#seen.has(key)) continue;
      this.#seen.add(key);
      this.#entries.push(entry);
      const line = draw(entry, news);
      line.hidden = !this.#shows(entry);
      list.prepend(line);
    }
    while (this.#entries.length > MOST) {
      this.#entries.shift();
      list.lastElementChild?.remove();
    }
    this.#hint();
  }

  /** How the lock with this fence ended, if it did. */
  endOf(fence: number | undefined): Entry | undefined {
    return fence === undefined ? undefined : this.#entries.findLast((entry) => entry.kind === 'unlocked' && entry.fence === fence);
  }

  /** Shows one order's entries only, or all. */
  only(id: number | undefined): void {
    this.#only = id;
    const lines = [...el('log').children].reverse() as HTMLElement[];
    this.#entries.forEach((entry, n) => {
      const line = lines[n];
      if (line) line.hidden = !this.#shows(entry);
    });
    this.#hint();
  }

  #shows(entry: Entry): boolean {
    return this.#only === undefined || orderOf(entry.resource) === this.#only;
  }

  #hint(): void {
    show(el('log-empty'), !this.#entries.some((entry) => this.#shows(entry)));
  }
}

function draw(entry: Entry, news: boolean): HTMLElement {
  const holder = entry.principal ? who(entry.principal) : undefined;
  const at = new Date(entry.at);
  return h(
    'li',
    { 'data-kind': entry.kind, 'data-who': holder?.id ?? '', 'data-fence': entry.fence ?? '', class: news ? 'news' : '' },
    h(
      'details',
      {},
      h(
        'summary',
        {},
        h('span', { class: 'dot', 'aria-hidden': 'true' }),
        h('span', { class: 'what' }, h('b', {}, entry.type), ` ${orderOf(entry.resource) || entry.resource}`),
        entry.fence !== null && h('span', { class: 'fence' }, 'fence ', h('b', {}, String(entry.fence))),
        h(
          'span',
          { class: 'how' },
          holder && h('span', { class: 'name', title: entry.principal ?? '' }, holder.name),
          entry.cause !== null && h('code', { title: because(entry.cause) }, entry.cause),
          entry.after_grace && h('span', { class: 'grace' }, 'after grace'),
        ),
        h('time', { datetime: entry.at, title: at.toLocaleString() }, clock.format(at)),
      ),
      h('pre', {}, JSON.stringify(entry, null, 1)),
    ),
  );
}
