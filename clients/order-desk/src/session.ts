// What a tab remembers: a reload is the same person at the same order, and another tab can be somebody else.
import type { Identity, Person } from './wire.ts';

const IDENTITIES: readonly Identity[] = ['signin', 'channel', 'plain'];

export class Session {
  person: string;
  identity: Identity;
  order: number | undefined;
  eager: boolean;

  private constructor(person: string) {
    const identity = sessionStorage.getItem('identity') as Identity | null;
    this.person = person;
    this.identity = IDENTITIES.find((known) => known === identity) ?? 'signin';
    this.order = Number(sessionStorage.getItem('order')) || undefined;
    this.eager = sessionStorage.getItem('eager') === 'yes';
  }

  /** Who this tab was, or is asked to be (`?as=grace`), or the first whom no other tab is. */
  static async start(people: Person[]): Promise<Session> {
    const known = (id: string | null): string | undefined => people.find((person) => person.id === id)?.id;
    const asked = known(new URLSearchParams(location.search).get('as'));
    if (location.search) history.replaceState(null, '', location.pathname);
    const others = new Others();
    const person = asked ?? known(sessionStorage.getItem('person')) ?? (await others.free(people));
    const session = new Session(person);
    others.here = () => session.person;
    session.keep();
    return session;
  }

  keep(): void {
    sessionStorage.setItem('person', this.person);
    sessionStorage.setItem('identity', this.identity);
    sessionStorage.setItem('eager', this.eager ? 'yes' : 'no');
    if (this.order === undefined) sessionStorage.removeItem('order');
    else sessionStorage.setItem('order', String(this.order));
  }
}

/** The other tabs of this browser. */
class Others {
  here: () => string | undefined = () => undefined;
  readonly #channel = new BroadcastChannel('holdline-order-desk');
  readonly #taken = new Set<string>();

  constructor() {
    this.#channel.addEventListener('message', ({ data }: MessageEvent<{ ask?: true; taken?: string }>) => {
      if (data.taken) this.#taken.add(data.taken);
      const person = this.here();
      if (data.ask && person) this.#channel.postMessage({ taken: person });
    });
  }

  async free(people: Person[]): Promise<string> {
    this.#channel.postMessage({ ask: true });
    await new Promise((resolve) => setTimeout(resolve, 80));
    return people.find(({ id }) => !this.#taken.has(id))?.id ?? people[0]?.id ?? '';
  }
}
