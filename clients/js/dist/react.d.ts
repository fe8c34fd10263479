import { type FunctionComponent, type ReactNode } from 'react';
import { type Held, type Lost } from './hold.js';
import type { EchoLike, PusherLike } from './pusher.js';
import { type Snapshot } from './state.js';
import type { Refusal } from './wire.js';
type Client = PusherLike | EchoLike;
export interface HoldlineProviderProps {
    /** A client of pusher-js, or a Laravel Echo; null where there is none, as on a server. */
    readonly client: Client | null;
    readonly children?: ReactNode;
}
/** Gives {@link useHold} its client. */
export declare const HoldlineProvider: FunctionComponent<HoldlineProviderProps>;
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
export declare function useHold(channel: string | null, options?: UseHoldOptions): UseHold;
export {};
