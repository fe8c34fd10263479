// A save that brings the fence of its lock. `order` is a hold of @holdline/client; `send` is a fetch, of whatever kind you have.

/** The answer of a save that was refused, because the lock is somebody else's, or over. */
export class LockLost extends Error {
  constructor({ error, message }) {
    super(message);
    this.name = 'LockLost';
    /** `lock_taken_over` or `lock_ended`. */
    this.code = error;
  }
}

/**
 * Saves, and answers the response. The page may be a moment ahead of the listener; then it tries again.
 * @throws {LockLost}
 */
export async function saveHolding(order, url, fields, { send = fetch, tries = 5 } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await send(url, {
      method: 'PUT',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json', 'X-Holdline-Fence': String(order.fence ?? '') },
      body: JSON.stringify(fields),
    });
    if (response.status !== 409) return response;
    const answer = await response.json();
    if (answer.error !== 'lock_not_known_yet' || attempt === tries) throw new LockLost(answer);
    await new Promise((resolve) => setTimeout(resolve, 1000 * Number(response.headers.get('Retry-After') ?? 1)));
  }
}
