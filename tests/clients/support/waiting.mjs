// Waiting without sleeping: poll for what should come, watch what must not.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { inspect } from 'node:util';

/** How long is waited for what must come: long enough for a busy machine, because only a failure ever takes so long. */
export const PATIENCE = 30_000;

/** Polls `probe` until it answers something truthy, and answers that. Fails at the deadline with the last reason. */
export async function eventually(what, probe, { within = PATIENCE, every = 10 } = {}) {
  const deadline = Date.now() + within;
  for (;;) {
    let reason;
    try {
      const value = await probe();
      if (value) return value;
      reason = `last answer: ${inspect(value)}`;
    } catch (error) {
      reason = error.message;
    }
    if (Date.now() > deadline) assert.fail(`not within ${within} ms: ${what}\n${reason}`);
    await pause(every);
  }
}

/** Polls until `probe` answers exactly `expected`; the failure shows the difference. */
export async function eventuallyEqual(what, probe, expected, options) {
  await eventually(what, async () => {
    assert.deepEqual(await probe(), expected);
    return true;
  }, options);
}

/** Watches that `probe` stays true for a whole window: only for things that must never come back. */
export async function always(what, probe, { during = 1500, every = 25 } = {}) {
  const end = Date.now() + during;
  while (Date.now() < end) {
    assert.ok(await probe(), `no longer true: ${what}`);
    await pause(every);
  }
}

/** Resolves with the next `event` of an emitter that has bind and unbind (pusher-js and its parts); rejects when `unless` comes first. */
export function next(emitter, event, { unless, within = PATIENCE } = {}) {
  return new Promise((resolve, reject) => {
    const finish = (settle, value) => {
      clearTimeout(timer);
      emitter.unbind(event, arrived);
      if (unless) emitter.unbind(unless, refused);
      settle(value);
    };
    const arrived = (data) => finish(resolve, data);
    const refused = (data) => finish(reject, new Error(`${unless} instead of ${event}: ${JSON.stringify(data)}`));
    const timer = setTimeout(() => finish(reject, new Error(`no ${event} within ${within} ms`)), within);
    emitter.bind(event, arrived);
    if (unless) emitter.bind(unless, refused);
  });
}

/** Everything that `emitter` says under `event` from now on, in order. */
export function collect(emitter, event) {
  const seen = [];
  emitter.bind(event, (data) => seen.push(data));
  return seen;
}
