// Lists of any length: only the rows that can be seen are in the page, and only their pages are asked for.

import { h, set } from './dom.js';
import { isAbort } from './api.js';

/** Rows around what can be seen that are in the page, too. */
const MARGIN = 8;
const PAGE = 100;
const PHONE = matchMedia('(max-width: 760px)');
/** Columns that are `wide` are left out. */
const NARROW = matchMedia('(max-width: 1080px)');

const marks = ({ phone, wide }) => ({ ...(phone && { phone }), ...(wide && { wide: '' }) });

/** Rows that stand here already. */
export class Rows {
  rows = [];
  get count() {
    return this.rows.length;
  }
  at(index) {
    return this.rows[index];
  }
  need() {}
}

/** Rows by their place: the server sorts, counts, and gives any page. */
export class Offsets {
  #load;
  #changed;
  #pages = new Map();
  #turn = 0;
  count = 0;

  constructor(load, changed) {
    this.#load = load;
    this.#changed = changed;
  }

  at(index) {
    return this.#pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  /** Something else is asked for: nothing that is here counts. */
  reset() {
    this.#pages.clear();
    this.#turn += 1;
  }

  need(from, to) {
    for (let page = Math.floor(from / PAGE); page * PAGE < to; page += 1) {
      if (this.#pages.has(page)) continue;
      this.#pages.set(page, undefined);
      this.#fetch(page).catch((error) => {
        this.#pages.delete(page);
        if (!isAbort(error)) console.debug(error);
      });
    }
  }

  async #fetch(page, signal) {
    const turn = this.#turn;
    const answer = await this.#load({ offset: page * PAGE, limit: PAGE }, signal);
    if (turn !== this.#turn) return undefined;
    this.#pages.set(page, answer.rows);
    this.count = answer.matched;
    this.#changed(answer);
    return answer;
  }

  /** Asks again for what can be seen; everything else is forgotten. */
  async refresh(from, to, signal) {
    const [first, last] = [Math.floor(from / PAGE), Math.max(Math.floor(from / PAGE), Math.ceil(to / PAGE) - 1)];
    for (const page of this.#pages.keys()) if (page < first || page > last) this.#pages.delete(page);
    for (let page = first; page <= last; page += 1) await this.#fetch(page, signal);
  }
}

/** Rows by a cursor: the next page is known when the one before it is there. */
export class Cursors {
  #load;
  #changed;
  #pages = [];
  #loading = null;
  #turn = 0;

  constructor(load, changed) {
    this.#load = load;
    this.#changed = changed;
  }

  get loaded() {
    return this.#pages.reduce((sum, page) => sum + page.rows.length, 0);
  }

  get hasMore() {
    return this.#pages.length > 0 && this.#pages.at(-1).next !== null;
  }

  get count() {
    return this.loaded + (this.hasMore ? 1 : 0);
  }

  at(index) {
    let rest = index;
    for (const { rows } of this.#pages) {
      if (rest < rows.length) return rows[rest];
      rest -= rows.length;
    }
    return undefined;
  }

  reset() {
    this.#pages = [];
    this.#turn += 1;
  }

  need(from, to) {
    if (this.#loading || !this.hasMore || to <= this.loaded) return;
    const turn = this.#turn;
    const after = this.#pages.at(-1).next;
    this.#loading = this.#load({ after, limit: PAGE })
      .then((answer) => {
        if (turn !== this.#turn) return;
        this.#pages.push({ after, rows: answer.rows, next: answer.next });
        this.#changed(answer);
      })
      .catch((error) => console.debug(error))
      .finally(() => (this.#loading = null));
  }

  /** Asks again for the pages that can be seen. */
  async refresh(from, to, signal) {
    const turn = this.#turn;
    let begin = 0;
    for (let n = 0; n < Math.max(1, this.#pages.length); n += 1) {
      const page = this.#pages[n] ?? { after: undefined, rows: [] };
      const end = begin + page.rows.length;
      const isSeen = n === 0 || (begin < to && end > from) || n === this.#pages.length - 1;
      begin = end;
      if (!isSeen) continue;
      const answer = await this.#load({ after: page.after, limit: PAGE }, signal);
      if (turn !== this.#turn) return;
      this.#pages[n] = { after: page.after, rows: answer.rows, next: answer.next };
      // What follows begins elsewhere now.
      if (this.#pages[n + 1] && this.#pages[n + 1].after !== answer.next) this.#pages.length = n + 1;
      this.#changed(answer);
    }
  }
}

/**
 * A table of rows of one height. Columns: `{ name, width, cell(row), end, phone }`; `phone` is the place that the cell has in the card of a
 * phone: a corner (`a` to `d`), or in a third line (`e` and `f`), there with the name of its column. Cells without one are left out, on a
 * tablet those that are `wide`.
 */
export class Table {
  #columns;
  #source;
  #key;
  #open;
  #shown = new Map();
  #height;
  #spacer;
  #body;
  #emptiness;

  constructor({ label, columns, source, key, open, height = 44, phoneHeight = 62, empty }) {
    this.#columns = columns;
    this.#source = source;
    this.#key = key;
    this.#open = open;
    this.heights = [height, phoneHeight];
    this.#spacer = h('div', { class: 'spacer', role: 'rowgroup' });
    this.#emptiness = h('div', { class: 'table-empty', hidden: true }, empty);
    const head = h('div', { class: 'row head', role: 'row' }, columns.map((column) => h('div', { role: 'columnheader', class: `cell ${column.end ? 'end' : ''}`, data: marks(column) }, column.name)));
    this.#body = h('div', { class: 'table-body', tabIndex: -1 }, h('div', { role: 'rowgroup', class: 'head-group' }, head), this.#spacer, this.#emptiness);
    this.element = h('div', { class: `table ${open ? 'opens' : ''}`, role: 'grid', 'aria-label': label, 'aria-rowcount': '0' }, this.#body);
    this.#measure();
    this.#template(head);
    this.#body.addEventListener('scroll', () => requestAnimationFrame(() => this.render()), { passive: true });
    this.#spacer.addEventListener('keydown', (event) => this.#keys(event));
    new ResizeObserver(() => {
      this.#measure();
      for (const line of this.element.querySelectorAll('.row')) this.#template(line);
      this.render();
    }).observe(this.#body);
  }

  #measure() {
    this.#height = PHONE.matches ? this.heights[1] : this.heights[0];
  }

  #template(row) {
    const shown = this.#columns.filter(({ wide }) => !wide || !NARROW.matches);
    row.style.gridTemplateColumns = shown.map(({ width }) => width ?? 'minmax(0, 1fr)').join(' ');
  }

  /** The part that can be seen, as row numbers. */
  get window() {
    const top = Math.max(0, this.#body.scrollTop - this.#spacer.offsetTop);
    const from = Math.max(0, Math.floor(top / this.#height) - MARGIN);
    return [from, Math.min(this.#source.count, Math.ceil((top + this.#body.clientHeight) / this.#height) + MARGIN)];
  }

  /** Rows were put in front of the others: what is looked at stays where it is, unless it is the top. */
  grew(rows) {
    if (this.#body.scrollTop > this.#height) this.#body.scrollTop += rows * this.#height;
  }

  toTop() {
    this.#body.scrollTop = 0;
  }

  /** `emptiness`: what to say when there is no row; nothing while that is not known. */
  render({ empty, known = true } = {}) {
    const { count } = this.#source;
    if (empty) set(this.#emptiness, empty);
    this.#emptiness.hidden = count > 0 || !known;
    this.element.setAttribute('aria-rowcount', String(count + 1));
    this.#spacer.style.height = `${count * this.#height}px`;
    const [from, to] = this.window;
    this.#source.need(from, to);
    const focused = this.#spacer.contains(document.activeElement) ? document.activeElement : null;
    const place = focused?.closest('.row').getAttribute('aria-rowindex');
    const shown = new Map();
    let before = null;
    for (let index = from; index < to; index += 1) {
      const row = this.#source.at(index);
      const key = row === undefined ? `#${index}` : String(this.#key(row));
      // A row that moved from one page to another may be there twice for a moment.
      if (shown.has(key)) continue;
      const line = this.#shown.get(key) ?? { element: h('div', { role: 'row', class: 'row' }), says: '' };
      this.#write(line, row, index);
      shown.set(key, line);
      const next = before ? before.nextSibling : this.#spacer.firstChild;
      if (line.element !== next) this.#spacer.insertBefore(line.element, next);
      before = line.element;
    }
    for (const [key, line] of this.#shown) if (!shown.has(key)) line.element.remove();
    this.#shown = shown;
    if (!focused || document.activeElement === focused) return;
    // A row that has just been loaded is another element, in the same place.
    (focused.isConnected ? focused : this.#at(place))?.focus({ preventScroll: true });
  }

  #write(line, row, index) {
    const { element } = line;
    element.style.transform = `translateY(${index * this.#height}px)`;
    element.style.height = `${this.#height}px`;
    element.setAttribute('aria-rowindex', String(index + 2));
    line.row = row;
    const says = row === undefined ? 'loading' : JSON.stringify(row);
    if (line.says === says) return;
    line.says = says;
    element.classList.toggle('loading', row === undefined);
    this.#template(element);
    if (this.#open && !line.listens) {
      line.listens = true;
      element.tabIndex = 0;
      element.addEventListener('click', (event) => !event.target.closest('button, a') && line.row && this.#open(line.row));
    }
    set(element, this.#columns.map((column) => h('div', { role: 'gridcell', class: `cell ${column.end ? 'end' : ''}`, data: { ...marks(column), name: column.name } }, row === undefined ? h('span', { class: 'bone' }) : column.cell(row))));
  }

  #keys(event) {
    const row = event.target.closest('.row');
    if (!row || event.target !== row) return;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, j: 1, k: -1 }[event.key];
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      const line = [...this.#shown.values()].find(({ element }) => element === row);
      if (line?.row) this.#open?.(line.row);
    } else if (step) {
      event.preventDefault();
      this.#focus(Number(row.getAttribute('aria-rowindex')) - 2 + step);
    } else if (event.key === 'Home' || event.key === 'End') {
      event.preventDefault();
      this.#focus(event.key === 'Home' ? 0 : this.#source.count - 1);
    }
  }

  #focus(index) {
    const at = Math.min(Math.max(0, index), this.#source.count - 1);
    const [top, height] = [this.#spacer.offsetTop + at * this.#height, this.#body.clientHeight];
    if (top - this.#spacer.offsetTop < this.#body.scrollTop) this.#body.scrollTop = at * this.#height;
    else if (top + this.#height > this.#body.scrollTop + height) this.#body.scrollTop = top + this.#height - height;
    this.render();
    this.#at(at + 2)?.focus({ preventScroll: true });
  }

  #at(rowIndex) {
    return this.#spacer.querySelector(`[aria-rowindex="${rowIndex}"]`);
  }
}
