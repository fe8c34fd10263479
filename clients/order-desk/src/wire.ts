// What the broker says, on the wire and over HTTP. Nothing here but types.

// As any page knows them.
export type { LockLost, LockState, Locked, Outcome, Refusal } from '../../js/src/wire.ts';

/** An entry of the log. */
export interface Entry {
  position: number;
  shard: number;
  kind: 'locked' | 'unlocked' | 'event' | 'webhook';
  type: string;
  resource: string;
  principal: string | null;
  socket_id: string | null;
  fence: number | null;
  cause: string | null;
  after_grace: boolean;
  at: string;
}

/** A lock that is alive. */
export interface Lock {
  resource: string;
  fence: number;
  state: 'held' | 'grace';
  principal: string;
  acquired_at: string;
  grace_until?: string;
  holders: { socket_id: string }[];
}

export type Stage = 'received' | 'picking' | 'packed' | 'shipped';

export interface Order {
  id: number;
  customer: string;
  items: string;
  total: string;
  stage: Stage;
  note: string;
  saved: { fence: number; by: string; at: string } | null;
}

export interface Person {
  id: string;
  name: string;
}

export interface Config {
  key: string;
  people: Person[];
  pid: number;
  /** How long a connection may be silent before the broker gives it up. */
  silence_ms: number;
  /** How long the holder of an order may be away; null if no rule says that opening one is holding it. */
  grace_ms: number | null;
}

/** How the broker gets to know who opens an order. */
export type Identity = 'signin' | 'channel' | 'plain';
