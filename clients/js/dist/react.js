'use client';
import { createContext, createElement, useContext, useEffect, useMemo, useRef, useSyncExternalStore } from 'react';
import { hold } from './hold.js';
import { INITIAL } from './state.js';
const ClientContext = createContext(null);
/** Gives {@link useHold} its client. */
export const HoldlineProvider = ({ client, children }) => createElement(ClientContext.Provider, { value: client }, children);
/**
 * Holds what the channel holds, for as long as the component is mounted, and draws it again when that changes. With `null` it holds
 * nothing, and is `pending`; so it is on a server.
 *
 * Components that use the same channel share the hold; the last one that goes releases it. A component that is unmounted and mounted again
 * at once, as in strict mode, keeps it.
 */
export function useHold(channel, options = {}) {
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
const initial = () => INITIAL;
/** A hold that begins with its first subscriber, and ends a moment after its last. */
class Kept {
    client;
    channel;
    persistent;
    handlers;
    #hold;
    #subscribers = 0;
    constructor(client, channel, persistent, handlers) {
        this.client = client;
        this.channel = channel;
        this.persistent = persistent;
        this.handlers = handlers;
    }
    snapshot = () => this.#hold?.snapshot ?? INITIAL;
    retry = () => this.#hold?.retry();
    subscribe = (changed) => {
        const held = this.#begin();
        if (!held)
            return () => { };
        this.#subscribers += 1;
        const unsubscribe = held.onState(changed);
        return () => {
            unsubscribe();
            this.#subscribers -= 1;
            setTimeout(() => {
                if (this.#subscribers > 0 || this.#hold !== held)
                    return;
                this.#hold = undefined;
                void held.release();
            });
        };
    };
    #begin() {
        if (this.#hold || this.client === null || this.channel === null)
            return this.#hold;
        const held = hold(this.client, this.channel, { retry: this.persistent });
        held.onHeld((is) => this.handlers.current.onHeld?.(is));
        held.onLost((was) => this.handlers.current.onLost?.(was));
        held.onFree(() => this.handlers.current.onFree?.());
        held.onRefused((refusal) => this.handlers.current.onRefused?.(refusal));
        this.#hold = held;
        return held;
    }
}
