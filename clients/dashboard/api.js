// The API of the dashboard: one place that knows the token, whether the broker answers, and what time it is there.

import { clock } from './dom.js';

const BASE = new URL('./api/', import.meta.url);
const TOKEN = 'holdline.dashboard.token';
/** Longest that an answer may take before the broker counts as unreachable. */
const PATIENCE = 10_000;

/** The broker has refused; its sentence is the message. */
export class Refused extends Error {
  constructor(status, message, field) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

/** No answer came at all. */
export class Unreachable extends Error {
  constructor() {
    super('The broker does not answer');
  }
}

/** Aborted, because nobody looks any more. */
export const isAbort = (error) => error?.name === 'AbortError';

export const session = {
  get token() {
    return sessionStorage.getItem(TOKEN) ?? '';
  },
  set token(token) {
    if (token) sessionStorage.setItem(TOKEN, token);
    else sessionStorage.removeItem(TOKEN);
  },
};

async function ask(method, path, { params = {}, body, signal } = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(params)) if (value !== undefined && value !== null && value !== '') url.searchParams.set(name, value);
  const headers = session.token ? { authorization: `Bearer ${session.token}` } : {};
  if (body !== undefined) headers['content-type'] = 'application/json';
  const timeout = AbortSignal.timeout(PATIENCE);
  let response;
  let answer;
  try {
    response = await fetch(url, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store',
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    answer = await response.json();
  } catch (error) {
    if (signal?.aborted) throw Object.assign(new Error('Nobody looks any more'), { name: 'AbortError' });
    // No answer, or one of somebody in between who has none either.
    if (!response || response.status >= 500 || error.name === 'TimeoutError') throw new Unreachable();
    throw new Refused(response.status, `The broker answered ${response.status}, and not with JSON`);
  }
  if (typeof answer?.now === 'number') clock.offset = answer.now - Date.now();
  if (!response.ok) throw new Refused(response.status, answer?.error ?? `The broker answered ${response.status}`, answer?.field);
  return answer;
}

export const get = (path, params, signal) => ask('GET', path, { params, signal });
export const post = (path, body) => ask('POST', path, { body });

/** Where the broker's WebSocket is, for an application's key. */
export function socketAddress(key, version) {
  const url = new URL(`../app/${encodeURIComponent(key)}`, import.meta.url);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = new URLSearchParams({ protocol: '7', client: 'holdline-dashboard', version }).toString();
  return url.href;
}

/**
 * Does something again and again while the tab is visible, never twice at a time. `work` gets a signal; a failure goes to `failed`, and is
 * followed by a longer pause.
 */
export class Poll {
  #work;
  #failed;
  #every;
  #timer;
  #abort;
  #failures = 0;

  constructor(work, every, failed = () => {}) {
    this.#work = work;
    this.#every = every;
    this.#failed = failed;
    document.addEventListener('visibilitychange', this.#seen);
    this.now();
  }

  #seen = () => {
    if (document.hidden) clearTimeout(this.#timer);
    else this.now();
  };

  /** At once, and what is under way is forgotten. */
  now() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    this.#turn(abort.signal);
  }

  async #turn(signal) {
    try {
      await this.#work(signal);
      this.#failures = 0;
    } catch (error) {
      if (signal.aborted || isAbort(error)) return;
      this.#failures += 1;
      this.#failed(error);
    }
    if (signal.aborted || document.hidden) return;
    const pause = this.#failures ? Math.min(1000 * this.#failures, 5000) : this.#every;
    this.#timer = setTimeout(() => this.#turn(signal), pause);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    document.removeEventListener('visibilitychange', this.#seen);
  }
}
