<?php

declare(strict_types=1);

namespace App\Holdline;

use PDO;

/**
 * Which entries have been here: they are delivered at least once. What is done about an entry, in the transaction in which it is
 * accepted, is done exactly once.
 */
final class Inbox
{
    public function __construct(private readonly PDO $pdo) {}

    /** False: it has been here. Call it in the transaction of what you do about the entry. */
    public function accept(Entry $entry): bool
    {
        if (! $this->pdo->inTransaction()) {
            throw new \LogicException('an entry is accepted in the transaction of what is done about it');
        }
        $insert = match ($this->pdo->getAttribute(PDO::ATTR_DRIVER_NAME)) {
            'mysql' => 'INSERT IGNORE INTO holdline_inbox (event_id, received_at) VALUES (?, ?)',
            default => 'INSERT INTO holdline_inbox (event_id, received_at) VALUES (?, ?) ON CONFLICT DO NOTHING',
        };
        $statement = $this->pdo->prepare($insert);
        $statement->execute([$entry->id, gmdate('Y-m-d H:i:s')]);

        return $statement->rowCount() === 1;
    }

    /** Forgets what came longer ago. Locks need no memory at all: their fence tells old from new. */
    public function forget(int $days = 30): int
    {
        $statement = $this->pdo->prepare('DELETE FROM holdline_inbox WHERE received_at < ?');
        $statement->execute([gmdate('Y-m-d H:i:s', time() - $days * 86_400)]);

        return $statement->rowCount();
    }
}
