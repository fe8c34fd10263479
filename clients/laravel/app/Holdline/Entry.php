<?php

declare(strict_types=1);

namespace App\Holdline;

/** An entry of the log, as it is delivered. */
final class Entry
{
    /** @param array<string, mixed> $context */
    private function __construct(
        /** Of this entry, in all its deliveries. */
        public readonly string $id,
        /** locked, unlocked or event. */
        public readonly string $kind,
        /** OrderLocked, OrderUnlocked, or what a handler has called its own. */
        public readonly string $type,
        /** order:42 */
        public readonly string $resource,
        /** user:7; null for an event of a handler. */
        public readonly ?string $principal,
        /** Rises with each lock; null for an event of a handler. */
        public readonly ?int $fence,
        /** Why a lock ended. */
        public readonly ?string $cause,
        public readonly array $context,
    ) {}

    /** @throws InvalidEntry */
    public static function fromJson(string $body): self
    {
        $entry = json_decode($body, true);
        if (! is_array($entry)) {
            throw new InvalidEntry('the body is not a JSON object');
        }
        foreach (['id', 'kind', 'type', 'resource'] as $name) {
            if (! is_string($entry[$name] ?? null) || $entry[$name] === '') {
                throw new InvalidEntry("$name must be a text");
            }
        }
        [$principal, $fence, $cause] = [$entry['principal'] ?? null, $entry['fence'] ?? null, $entry['cause'] ?? null];
        $isLock = in_array($entry['kind'], ['locked', 'unlocked'], true);
        if ($isLock ? ! is_int($fence) || $fence < 1 : $fence !== null) {
            throw new InvalidEntry('fence must be a positive number of a lock');
        }
        if (($principal === null ? $isLock : ! is_string($principal)) || ($cause !== null && ! is_string($cause))) {
            throw new InvalidEntry('principal and cause must be texts');
        }
        $context = $entry['context'] ?? [];

        return new self($entry['id'], $entry['kind'], $entry['type'], $entry['resource'], $principal, $fence, $cause, is_array($context) ? $context : []);
    }
}
