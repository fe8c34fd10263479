// The orders, and who holds which.
import { el, h, say } from './dom.ts';
import { who } from './people.ts';
import { graceLeft } from './ticket.ts';
import type { Lock, Order } from './wire.ts';

interface Row {
  button: HTMLButtonElement;
  badge: HTMLElement;
  state: HTMLElement;
}

const rows = new Map<number, Row>();

/** Whoever it is, in one letter. */
export const badge = (id: string, name: string): HTMLElement =>
  h('span', { class: 'badge', 'data-who': id, 'aria-hidden': 'true' }, id === 'socket' ? '·' : name.charAt(0));

export interface Holding {
  lock: Lock | undefined;
  mine: boolean;
  open: boolean;
}

/** Draws all orders; `holding` says what is known of each. */
export function drawOrders(orders: Order[], holding: (id: number) => Holding, onOpen: (id: number) => void, now: number): void {
  for (const order of orders) {
    const row = rows.get(order.id) ?? add(order, onOpen);
    const { lock, mine, open } = holding(order.id);
    const holder = lock && who(lock.principal);
    const left = graceLeft(lock, now);
    if (open && row.button.getAttribute('aria-current') !== 'true') row.button.scrollIntoView({ block: 'nearest', inline: 'center' });
    row.button.setAttribute('aria-current', String(open));
    row.button.dataset['state'] = !lock ? 'free' : mine ? 'mine' : lock.state;
    row.button.dataset['who'] = holder?.id ?? '';
    row.badge.dataset['who'] = holder?.id ?? '';
    say(row.badge, !holder ? '' : holder.id === 'socket' ? '·' : holder.name.charAt(0));
    say(row.state, !holder ? 'free' : mine ? 'you' : left !== undefined ? `${holder.name} · away ${Math.ceil(left / 1000)} s` : holder.name);
  }
}

function add(order: Order, onOpen: (id: number) => void): Row {
  const row = { badge: h('span', { class: 'badge', 'aria-hidden': 'true' }), state: h('span', { class: 'state' }) };
  const button = h(
    'button',
    { type: 'button', class: 'row', 'data-order': order.id },
    h('span', { class: 'number' }, String(order.id)),
    h('span', { class: 'customer' }, order.customer),
    h('span', { class: 'holder' }, row.badge, row.state),
  );
  button.addEventListener('click', () => onOpen(order.id));
  el('orders').append(h('li', {}, button));
  const made = { ...row, button };
  rows.set(order.id, made);
  return made;
}
