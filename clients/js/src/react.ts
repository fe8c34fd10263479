'use client';

import { type FunctionComponent, type ReactNode, createContext, createElement, useContext, useEffect, useMemo, useRef, useSyncExternalStore } from 'react';
import { type Held, type Hold, type Lost, hold } from './hold.js';
import type { EchoLike, PusherLike } from './pusher.js';
import { INITIAL, type Snapshot } from './state.js';
import type { Refusal } from './wire.js';

type Client = PusherLike | EchoLike;

const ClientContext = createContext<Client | null>(null);

export interface HoldlineProviderProps {
  /** A client of pusher-js, or a Laravel Echo; null where there is none, as on a server. */
  readonly client: Client | null;
  readonly children?: ReactNode;
}

/** Gives {@link useHold} its client. */
export const HoldlineProvider: FunctionComponent<HoldlineProviderProps> = ({ client, children }) =>
  createElement(ClientContext.Provider, { value: client }, children);

export interface UseHoldOptions {
  /** Instead of the provider's. */
  readonly client?: Client | null;
  /** As in `hold`: asks again by itself when it is free. */
  readonly retry?: boolean;
  readonly onHeld?: (held: Held) => void;
  readonly onLost?: (lost: Lost) => void;
  readonly onFree?: () => void;
  readonly onRefused?: (refusal: Refusal) => void;
}

export interface UseHold extends Snapshot {
  /** Asks again, when it was refused, is free or lost. */
  readonly retry: () => void;
}

/**
 * Holds what the channel holds, for as long as the component is mounted, and draws it again when that changes. With `null` it holds
 * nothing, and is `pending`; so it is on a server.
 *
 * Components that use the same channel share the hold; the last one that goes releases it. A component that is unmounted and mounted again
 * at once, as in strict mode, keeps it.
 */
export function useHold(channel: string | null, options: UseHoldOptions = {}): UseHold {
  const provided = useContext(ClientContext);
  const { client = provided, retry = false } = options;
  const handlers = useRef(options);
  useEffect(() => {
    handlers.current = options;
  });
  const kept = useMemo(() => new Kept(client, channel, retry, handlers), [client, channel, retry]);
  const snapshot = useSyncExternalStore(kept.subscribe, kept.snapshot, initial);
  return useMemo(() => ({ ...snapshot, retry: kept.retry }), [snapshot, kept]);
}

const initial = (): Snapshot => INITIAL;

/** A hold that begins with its first subscriber, and ends a moment after its last. */
class Kept {
  #hold: Hold | undefined;
  #subscribers = 0;

  constructor(
    private readonly client: Client | null,
    private readonly channel: string | null,
    private readonly persistent: boolean,
    private readonly handlers: { readonly current: UseHoldOptions },
  ) {}

  readonly snapshot = (): Snapshot => this.#hold?.snapshot ?? INITIAL;

  readonly retry = (): void => this.#hold?.retry();

  readonly subscribe = (changed: () => void): (() => void) => {
    const held = this.#begin();
    if (!held) return () => {};
    this.#subscribers += 1;
    const unsubscribe = held.onState(changed);
    return () => {
      unsubscribe();
      this.#subscribers -= 1;
      setTimeout(() => {
        if (this.#subscribers > 0 || this.#hold !== held) return;
        this.#hold = undefined;
        void held.release();
      });
    };
  };

  #begin(): Hold | undefined {
    if (this.#hold || this.client === null || this.channel === null) return this.#hold;
    const held = hold(this.client, this.channel, { retry: this.persistent });
    held.onHeld((is) => this.handlers.current.onHeld?.(is));
    held.onLost((was) => this.handlers.current.onLost?.(was));
    held.onFree(() => this.handlers.current.onFree?.());
    held.onRefused((refusal) => this.handlers.current.onRefused?.(refusal));
    this.#hold = held;
    return held;
  }
}
