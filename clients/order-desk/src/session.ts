// What a tab remembers: a reload is the same person at the same order, and another tab can be somebody else.
import type { Identity, Person } from './wire.ts';

const IDENTITIES: readonly Identity[] = ['signin', 'channel', 'plain'];

export class Session {
  person: string;
  identity: Identity;
  order: number | undefined;
  eager: boolean;

  private constructor(
    person: string,
    private readonly others: Others,
  ) {
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
    await others.be(person);
    const session = new Session(person, others);
    session.keep();
    return session;
  }

  keep(): void {
    void this.others.be(this.person);
    sessionStorage.setItem('person', this.person);
    sessionStorage.setItem('identity', this.identity);
    sessionStorage.setItem('eager', this.eager ? 'yes' : 'no');
    if (this.order === undefined) sessionStorage.removeItem('order');
    else sessionStorage.setItem('order', String(this.order));
  }
}

/** The other tabs of this browser: each has a lock on whom it is, which it loses with the tab. */
class Others {
  #is: string | undefined;
  #turn = 0;
  #leave = (): void => {};

  /** Takes the first whom no other tab is; two that ask at once do so one after the other. */
  async free(people: Person[]): Promise<string> {
    return navigator.locks.request('holdline-order-desk', async () => {
      const { held = [] } = await navigator.locks.query();
      const taken = new Set(held.map(({ name }) => name));
      const person = people.find(({ id }) => !taken.has(lockOf(id)))?.id ?? people[0]?.id ?? '';
      await this.be(person);
      return person;
    });
  }

  /** This tab is this person from now on; so may others be. */
  async be(person: string): Promise<void> {
    if (this.#is === person) return;
    this.#is = person;
    this.#leave();
    const turn = (this.#turn += 1);
    await new Promise<void>((is, failed) => {
      const request = navigator.locks.request(lockOf(person), { mode: 'shared' }, () => {
        is();
        return this.#turn === turn ? new Promise<void>((leave) => (this.#leave = leave)) : undefined;
      });
      request.catch(failed);
    });
  }
}

const lockOf = (person: string): string => `holdline-order-desk/${person}`;
