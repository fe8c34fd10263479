import type { Config, Entry, Lock, Order, Stage } from './wire.ts';

/** The desk answered, and said no. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    text: string,
  ) {
    super(text);
  }
}

async function answer<T>(path: string, init?: RequestInit): Promise<T> {
  const response = await fetch(`/desk/${path}`, { ...init, cache: 'no-store' });
  if (!response.ok) throw new Refused(response.status, (await response.text()) || response.statusText);
  return response.json() as Promise<T>;
}

const post = <T>(path: string, body: unknown): Promise<T> =>
  answer(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });

export const config = () => answer<Config>('config');
export const locks = () => answer<{ locks: Lock[] }>('locks').then(({ locks }) => locks);
export const orders = () => answer<{ orders: Order[] }>('orders').then(({ orders }) => orders);
/** Without a cursor: the last entries of the log. */
export const events = (after?: string) =>
  answer<{ events: Entry[]; next: string }>(after ? `events?after=${encodeURIComponent(after)}` : 'events');

export const save = (id: number, change: { fence: number; stage: Stage; note: string }) =>
  post<{ order: Order }>(`orders/${id}`, change).then(({ order }) => order);
export const release = (fence: number) => post<object>(`locks/${fence}/release`, {});
export const cut = (wire: string, how: 'reset' | 'silence') => post<object>(`wire/${wire}/cut`, { how });

export const authorize = (socket_id: string, channel_name: string, user: string) =>
  post<{ auth: string; channel_data?: string }>('auth', { socket_id, channel_name, user });
export const authenticate = (socket_id: string, user: string) =>
  post<{ auth: string; user_data: string }>('user-auth', { socket_id, user });
