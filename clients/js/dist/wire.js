// What the broker says on the channel. Nothing here but types.
export {};
