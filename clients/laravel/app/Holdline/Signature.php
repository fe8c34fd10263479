<?php

declare(strict_types=1);

namespace App\Holdline;

/** X-Pusher-Signature: the hexadecimal HMAC-SHA256 of the exact body with the app's secret. No other header is signed. */
final class Signature
{
    /** @var list<string> */
    private array $secrets;

    /** More than one secret: while it is being rotated. Empty ones are left out, so that a missing setting opens nothing. */
    public function __construct(#[\SensitiveParameter] ?string ...$secrets)
    {
        $this->secrets = array_values(array_filter($secrets, fn (?string $secret) => $secret !== null && $secret !== ''));
    }

    public function isValid(string $body, ?string $signature): bool
    {
        $valid = false;
        foreach ($this->secrets as $secret) {
            // All are compared, each in constant time.
            $valid = hash_equals(hash_hmac('sha256', $body, $secret), $signature ?? '') || $valid;
        }

        return $valid;
    }
}
