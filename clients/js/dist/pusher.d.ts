type Handler = (data?: any) => void;
export interface Emitter {
    bind(event: string, handler: Handler): unknown;
    unbind(event?: string, handler?: Handler): unknown;
}
export type Answer = (error: Error | null, data: any) => void;
/** A channel of pusher-js. */
export interface ChannelLike extends Emitter {
    readonly name: string;
    subscribed: boolean;
    authorize(socketId: string, answer: Answer): void;
    unsubscribe(): void;
    cancelSubscription(): void;
    disconnect(): void;
}
/** A client of pusher-js. */
export interface PusherLike extends Emitter {
    connection: Emitter & {
        state: string;
        socket_id: string;
        send(frame: string): unknown;
    };
    channels: {
        add(name: string, pusher: any): any;
    };
    user: {
        signin_requested: boolean;
        signinDonePromise: Promise<unknown>;
        user_data: unknown;
    };
    channel(name: string): any;
    subscribe(name: string): any;
    unsubscribe(name: string): void;
    send_event(event: string, data: any, channel?: string): boolean;
}
/** A Laravel Echo with `broadcaster: 'pusher'` or `'reverb'`. */
export interface EchoLike {
    connector: {
        pusher: PusherLike;
    };
    private(channel: string): unknown;
    join(channel: string): unknown;
    leaveChannel(channel: string): void;
}
export declare const isEcho: (client: PusherLike | EchoLike) => client is EchoLike;
/** Resolves with true when the broker has read, and answered, all that was sent to it; with false when there is no connection any more. */
export declare function settled(pusher: PusherLike): Promise<boolean>;
export {};
