<?php

declare(strict_types=1);

namespace App\Holdline;

use Illuminate\Http\JsonResponse;

/** A write whose fence is not, or no longer, that of the lock. Laravel answers it as below. */
final class LockLost extends \RuntimeException
{
    public function __construct(public readonly Verdict $verdict, public readonly int $fence)
    {
        parent::__construct($verdict->message());
    }

    public function render(): JsonResponse
    {
        $answer = new JsonResponse([
            'error' => $this->verdict->value,
            'message' => $this->verdict->message(),
            'fence' => $this->fence,
        ], $this->verdict->status());

        return $this->verdict === Verdict::NotYet ? $answer->header('Retry-After', '1') : $answer;
    }
}
