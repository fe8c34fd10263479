<?php

declare(strict_types=1);

namespace App\Holdline;

/** What a fence is worth. */
enum Verdict: string
{
    /** It is the lock that is alive. */
    case Held = 'held';
    /** The lock is younger than what the table knows: the listener is a moment behind the page. */
    case NotYet = 'lock_not_known_yet';
    /** Somebody else has had it since. */
    case TakenOver = 'lock_taken_over';
    /** The lock has ended; nobody has had it since. */
    case Ended = 'lock_ended';
    /** There is no such row. */
    case Missing = 'not_found';

    public function message(): string
    {
        return match ($this) {
            self::Held => 'You hold it.',
            self::NotYet => 'Your lock has not arrived here yet. Try again in a moment.',
            self::TakenOver => 'Somebody else has held this since. Load it again.',
            self::Ended => 'You do not hold this any more. Open it again.',
            self::Missing => 'There is no such thing.',
        };
    }

    public function status(): int
    {
        return match ($this) {
            self::Held => 200,
            self::Missing => 404,
            default => 409,
        };
    }
}
