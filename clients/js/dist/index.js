export { hold } from './hold.js';
export { NotDelivered, sendWithReceipt } from './receipt.js';
