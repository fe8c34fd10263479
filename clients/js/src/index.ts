export { hold } from './hold.js';
export type { Held, Hold, HoldOptions, Lost, Unsubscribe } from './hold.js';
export { NotDelivered, sendWithReceipt } from './receipt.js';
export type { ReceiptOptions } from './receipt.js';
export type { EchoLike, PusherLike } from './pusher.js';
export type { Snapshot, State } from './state.js';
export type { Outcome, Refusal } from './wire.js';
