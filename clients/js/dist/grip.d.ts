import { type PusherLike } from './pusher.js';
import { type Snapshot } from './state.js';
export interface Member {
    /** It wants to have it as soon as it can be had. */
    readonly persistent: boolean;
    tell(snapshot: Snapshot, before: Snapshot): void;
}
export declare class Grip {
    #private;
    snapshot: Snapshot;
    /** The grip on this channel that there is, or a new one. */
    static on(pusher: PusherLike, name: string): Grip;
    private constructor();
    /** Nothing comes of it any more. */
    get ended(): boolean;
    join(member: Member): void;
    /** The last one out gives the lock back. Resolves when the broker has read it. */
    leave(member: Member): Promise<void>;
    retry(): void;
}
