<?php

declare(strict_types=1);

namespace App\Http\Controllers;

use App\Holdline\Entry;
use App\Holdline\Inbox;
use App\Holdline\InvalidEntry;
use App\Holdline\LockColumns;
use App\Holdline\Signature;
use App\Holdline\Table;
use Illuminate\Http\JsonResponse;
use Illuminate\Http\Request;
use Illuminate\Http\Response;
use Illuminate\Support\Facades\DB;

/**
 * Where the broker delivers its log: [[listeners]] kind = "http".
 *
 * Each entry comes at least once, and those of one resource in order. An end of a lock comes until there is a 2xx, so whatever goes wrong
 * here must not be answered with one.
 */
final class HoldlineController
{
    public function __invoke(Request $request): Response|JsonResponse
    {
        $signature = new Signature(config('holdline.secret'), config('holdline.previous_secret'));
        if (! $signature->isValid($request->getContent(), $request->header('X-Pusher-Signature'))) {
            return new JsonResponse(['error' => 'signature_invalid'], 401);
        }
        try {
            // All that counts stands in the body: the headers are not signed.
            $entry = Entry::fromJson($request->getContent());
        } catch (InvalidEntry $error) {
            return new JsonResponse(['error' => 'entry_invalid', 'message' => $error->getMessage()], 400);
        }
        DB::transaction(function () use ($entry) {
            $pdo = DB::connection()->getPdo();
            if ((new Inbox($pdo))->accept($entry)) {
                (new LockColumns($pdo, new Table('orders'), 'order:'))->apply($entry);
                // What else is to happen exactly once: a row of yours, or a job on the database queue.
            }
        });

        return new Response('', 204);
    }
}
