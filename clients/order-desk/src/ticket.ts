// The card that says where this tab stands with its order.
import { el, h, say, show } from './dom.ts';
import { type Hold, fenceOf } from './hold.ts';
import { nameOf, readable, who } from './people.ts';
import type { Entry, Lock, Outcome } from './wire.ts';

export interface Standing {
  id: number;
  hold: Hold;
  /** The lock that is alive on the order, as far as we know. */
  lock: Lock | undefined;
  /** How the lock we were given ended, if the log says so. */
  end: Entry | undefined;
  /** Nothing answers at the broker's address. */
  away: boolean;
  silenceMs: number;
  /** How long a holder may be away. */
  graceMs: number;
  /** Whether the broker knows who this tab is: nobody waits for a socket without a name. */
  named: boolean;
  eager: boolean;
  now: number;
}

interface Words {
  headline: string;
  detail: string;
  /** Whose colour the card has. */
  principal?: string | undefined;
  tags?: string[];
  /** What the main button does. */
  act?: string;
  tone?: 'good' | 'bad' | 'wait';
}

const CAUSES: Record<string, string> = {
  unsubscribed: 'it was closed',
  released: 'it was given back',
  force_released: 'an operator released it',
  client_closed: 'the tab went away',
  gone: 'the connection broke',
  idle: 'no sign of life',
  slow_consumer: 'the client did not keep up',
  kicked: 'the connection was closed',
  taken_over: 'somebody took it over',
  shutdown: 'the broker was stopped',
  superseded: 'the broker was restarted',
  node_death: 'the broker died',
};

export const because = (cause: string): string => CAUSES[cause] ?? cause.replaceAll('_', ' ');

const OUTCOMES: Record<Outcome, [tag: string, detail: string]> = {
  granted: ['new lock', 'OrderLocked stood in the log before you were told.'],
  attached: ['one more connection', 'Another tab of yours holds it, too: one lock, one fence, for as long as one of you is there.'],
  resumed: ['resumed', 'You were away, and came back in time: the same lock, the same fence.'],
};

export const seconds = (ms: number): string => `${Math.max(0, Math.ceil(ms / 1000))} s`;

/** How long the holder may still be away; undefined while nobody is. */
export function graceLeft(lock: Lock | undefined, now: number): number | undefined {
  if (lock?.state !== 'grace' || !lock.grace_until) return undefined;
  return Math.max(0, Date.parse(lock.grace_until) - now);
}

function words(standing: Standing): Words {
  const { id, hold, lock, now } = standing;
  const order = `order ${id}`;
  switch (hold.is) {
    case 'closed':
      return { headline: '', detail: '' };
    case 'opening':
      return { headline: `Opening ${order}…`, detail: 'Asking the broker for a hold.' };
    case 'held': {
      const { principal } = hold;
      if (!hold.certain) {
        return {
          headline: `You hold ${order}, perhaps`,
          detail: 'The broker has lost touch with its database. Do not rely on this lock until it says that it is yours again.',
          principal,
          tags: [principal, 'uncertain'],
          tone: 'bad',
        };
      }
      const [tag, detail] = OUTCOMES[hold.outcome];
      return { headline: `You hold ${order}`, detail, principal, tags: [principal, tag], tone: 'good' };
    }
    case 'unlocked':
      return {
        headline: `${capital(order)} is open, without a lock`,
        detail: hold.degraded
          ? 'The database does not answer, and the rule goes on without it. Nobody is kept out.'
          : `No lock came with the subscription to private-order.${id}: no rule asks for one, or there is no store. Nobody is kept out.`,
        tone: 'bad',
      };
    case 'waiting': {
      const principal = lock?.principal ?? hold.holder;
      const name = principal ? nameOf(principal) : 'Somebody else';
      const left = graceLeft(lock, now);
      const detail =
        left === undefined
          ? 'Waiting — we will tell you when it is free.'
          : `Waiting — ${name} has left without a goodbye, and has ${seconds(left)} to come back.`;
      return { headline: `${name} holds ${order}`, detail, principal, tags: principal ? [principal] : [], tone: 'wait' };
    }
    case 'free':
      if (lock) {
        const principal = lock.principal;
        return { headline: `${nameOf(principal)} was faster`, detail: `${capital(order)} was free, and is held again.`, principal, act: 'Wait for it', tone: 'wait' };
      }
      return { headline: `Free: open it`, detail: `Nobody holds ${order} now. Whoever opens it first has it.`, act: `Open ${order}`, tone: 'good' };
    case 'lost':
      return {
        headline: `You no longer hold ${order}`,
        detail: `Fence ${hold.fence} is over: ${because(hold.cause)}. What you save with it now is refused.`,
        tags: [hold.cause],
        act: 'Open it again',
        tone: 'bad',
      };
    case 'refused': {
      const { type, error, status } = hold.refusal;
      if (type === 'LockUnavailable') {
        const detail = 'The broker cannot reach its database, and promises nothing that it cannot keep. This tab asks again every few seconds.';
        return { headline: 'No lock to be had now', detail, tags: [`${type} ${status ?? ''}`.trim()], act: 'Try again', tone: 'bad' };
      }
      return { headline: `${capital(order)} was not opened`, detail: readable(error), tags: [type], act: 'Try again', tone: 'bad' };
    }
    case 'offline':
      return hold.why === 'unplugged' ? unplugged(standing) : broken(standing);
  }
}

/** The connection is gone, and pusher-js tries to get another. */
function broken({ hold, away, graceMs, named }: Standing): Words {
  const held = fenceOf(hold) !== undefined;
  if (away) {
    const detail = !held
      ? 'This tab asks again when it is back.'
      : !named
        ? 'Your lock is on its disk. When it is back, it ends it first, and then lets people in.'
        : `Your lock is on its disk. When it is back, you have ${seconds(graceMs)} to return to it.`;
    return { headline: 'The broker is away', detail, tone: 'bad' };
  }
  const grace = !named ? 'Nobody waits for a socket without a name.' : `The broker waits ${seconds(graceMs)} for you.`;
  return { headline: 'The connection is broken', detail: held ? `Reconnecting. ${grace}` : 'Reconnecting.', tone: 'bad' };
}

/** The connection is gone, and the broker has not been told. */
function unplugged({ hold, lock, end, silenceMs, graceMs, named, now }: Standing): Words {
  const words: Words = { headline: 'The plug is pulled', detail: '', act: 'Plug it back in', tone: 'bad' };
  const left = silenceMs - (now - ('since' in hold ? hold.since : now));
  if (end?.cause) {
    return { ...words, detail: `Fence ${end.fence} is over: ${because(end.cause)}. Try to save with it.`, tags: [end.cause] };
  }
  if (fenceOf(hold) === undefined) return { ...words, detail: 'Nothing reaches the broker from here.' };
  if (graceLeft(lock, now) !== undefined) return { ...words, detail: 'The broker has noticed, and waits whether you come back.' };
  if (left <= 0) return { ...words, detail: 'The broker notices the silence any moment now.' };
  const grace = !named ? '' : `, and waits ${seconds(graceMs)} more`;
  return { ...words, detail: `Nobody has told the broker. It notices the silence within ${seconds(left)}${grace}.` };
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** Draws the card. */
export function drawTicket(standing: Standing): void {
  const { hold, lock } = standing;
  const { headline, detail, principal, tags = [], act, tone } = words(standing);
  const ticket = el('ticket');
  ticket.dataset['is'] = hold.is;
  ticket.dataset['tone'] = tone ?? 'none';
  ticket.dataset['who'] = principal ? who(principal).id : '';
  say(el('headline'), headline);
  say(el('detail'), detail);
  drawTags(tags);

  const fence = fenceOf(hold) ?? (hold.is === 'waiting' ? lock?.fence : undefined);
  show(el('stub'), fence !== undefined);
  say(el('fence'), String(fence ?? ''));
  const over = hold.is === 'lost' || (hold.is === 'offline' && standing.end !== undefined);
  el('stub').dataset['over'] = String(over);

  show(el('act'), act !== undefined);
  if (act) say(el('act'), act);
  show(el('eager'), hold.is === 'waiting');
  el<HTMLInputElement>('eager-input').checked = standing.eager;
  show(el('force'), hold.is === 'waiting' && lock !== undefined);
  if (lock) say(el('force'), `Release fence ${lock.fence} as an operator`);

  const share = waited(standing);
  show(el('progress'), share !== undefined);
  const bar = el('progress').firstElementChild as HTMLElement;
  bar.style.inlineSize = `${((share ?? 0) * 100).toFixed(1)}%`;
}

/** How much of the time has passed after which the broker does something by itself. */
function waited({ hold, lock, end, silenceMs, graceMs, named, now }: Standing): number | undefined {
  const left = graceLeft(lock, now);
  if (hold.is === 'waiting' && left !== undefined) return 1 - left / graceMs;
  if (hold.is !== 'offline' || hold.why !== 'unplugged' || hold.fence === undefined || end) return undefined;
  const total = silenceMs + (named ? graceMs : 0);
  return Math.min(1, (now - hold.since) / total);
}

function drawTags(tags: string[]): void {
  const line = el('tags');
  const text = tags.join('\n');
  if (line.dataset['tags'] === text) return;
  line.dataset['tags'] = text;
  line.replaceChildren(...tags.map((tag) => h('code', {}, tag)));
}
