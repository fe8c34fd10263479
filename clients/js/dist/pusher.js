// What is used of pusher-js, as a shape: whichever build of it, and whichever Echo, the application has.
export const isEcho = (client) => 'connector' in client;
/** Pings of ours that are not answered yet. */
const asked = new WeakMap();
/** Resolves with true when the broker has read, and answered, all that was sent to it; with false when there is no connection any more. */
export function settled(pusher) {
    const { connection } = pusher;
    if (connection.state !== 'connected')
        return Promise.resolve(false);
    return new Promise((resolve) => {
        // Answers come in the order of the pings: those of earlier ones say nothing of what was sent since.
        let earlier = asked.get(pusher) ?? 0;
        asked.set(pusher, earlier + 1);
        const finish = (answered) => {
            asked.set(pusher, (asked.get(pusher) ?? 1) - 1);
            pusher.unbind('pusher:pong', answer);
            connection.unbind('state_change', gone);
            connection.unbind('connecting_in', gone);
            resolve(answered);
        };
        const answer = () => {
            if (earlier === 0)
                finish(true);
            earlier -= 1;
        };
        const gone = () => finish(false);
        pusher.bind('pusher:pong', answer);
        connection.bind('state_change', gone);
        // A connection that broke goes on calling itself connected until pusher-js tries again, a second later.
        connection.bind('connecting_in', gone);
        if (!pusher.send_event('pusher:ping', {}))
            gone();
    });
}
