export const INITIAL = Object.freeze({
    state: 'pending',
    fence: undefined,
    holder: undefined,
    resource: undefined,
    outcome: undefined,
    cause: undefined,
    error: undefined,
});
/** What follows, in order: usually one thing, none if nothing changes, two if a lock was lost unseen and something else came of it. */
export function next(now, signal) {
    const had = now.state === 'held' || now.state === 'uncertain';
    const to = (state, more = {}) => Object.freeze({ ...INITIAL, fence: now.fence, resource: now.resource, state, ...more });
    const lost = (cause) => to('lost', { cause });
    const uncertain = () => to('uncertain', { holder: now.holder, outcome: now.outcome });
    if (now.state === 'released')
        return [];
    switch (signal.type) {
        case 'asking':
            if (had)
                return now.state === 'held' ? [uncertain()] : [];
            return now.state === 'pending' ? [] : [to('pending')];
        case 'locked': {
            const { resource, fence, principal, outcome } = signal.data;
            // A subscription that holds several things is told of each: this is about the first.
            if (now.resource !== undefined && now.resource !== resource)
                return [];
            if (now.state === 'held' && now.fence === fence)
                return [];
            const held = to('held', { resource, fence, holder: principal, outcome });
            return had && now.fence !== fence ? [lost('not_resumed'), held] : [held];
        }
        case 'refused': {
            const { resource = now.resource, holder } = signal.data;
            const refused = to('refused', { resource, holder, error: Object.freeze({ ...signal.data }) });
            return had ? [lost('not_resumed'), refused] : [refused];
        }
        case 'free':
            return now.state === 'refused' ? [to('free')] : [];
        case 'lost':
            return had && now.fence === signal.data.fence ? [lost(signal.data.cause)] : [];
        case 'state':
            if (signal.data.state === 'degraded') {
                const unguarded = to('unguarded', { resource: signal.data.resource });
                return had ? [lost('not_resumed'), unguarded] : [unguarded];
            }
            if (!had || now.fence !== signal.data.fence || now.state === signal.data.state)
                return [];
            return [signal.data.state === 'held' ? to('held', { holder: now.holder, outcome: now.outcome }) : uncertain()];
        case 'no_lock':
            if (now.state === 'pending')
                return [to('unguarded')];
            return now.state === 'uncertain' ? [lost('not_resumed'), to('unguarded')] : [];
        case 'broken':
            return now.state === 'held' ? [uncertain()] : [];
        case 'disconnected':
            return had ? [lost('disconnected')] : [];
        case 'released':
            return [to('released')];
    }
}
