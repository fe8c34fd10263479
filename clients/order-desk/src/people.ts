import type { Person } from './wire.ts';

/** Everybody is drawn in a colour of their own; a connection without a name is grey. */
export interface Who {
  id: string;
  name: string;
}

let people: Person[] = [];

export function setPeople(all: Person[]): void {
  people = all;
}

/** `user:ada` is Ada; `socket:123.456` is nobody in particular. */
export function who(principal: string): Who {
  const [kind, id = ''] = split(principal);
  if (kind === 'socket') return { id: 'socket', name: `socket ${id.slice(0, 4)}…` };
  return { id, name: people.find((person) => person.id === id)?.name ?? id };
}

export const nameOf = (principal: string): string => who(principal).name;

/** Puts names where a text of the broker has principals. */
export const readable = (text: string): string =>
  text.replace(/\b(user:[\w-]+|socket:[\d.]*\d)/g, (principal) => nameOf(principal)).replace(/\border:(\d+)/g, 'order $1');

function split(principal: string): [string, string?] {
  const colon = principal.indexOf(':');
  return colon < 0 ? [principal] : [principal.slice(0, colon), principal.slice(colon + 1)];
}
