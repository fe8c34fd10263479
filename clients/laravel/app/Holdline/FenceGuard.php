<?php

declare(strict_types=1);

namespace App\Holdline;

use PDO;

/**
 * Compares the fence that a page was given with the one that stands in the row, and keeps the row as it is until the transaction ends:
 * whoever takes the lock over meanwhile waits for that.
 */
final class FenceGuard
{
    public function __construct(private readonly PDO $pdo, private readonly Table $table) {}

    /** A fence as a request brings it; null if it is none. */
    public static function parse(mixed $fence): ?int
    {
        $fence = filter_var($fence, FILTER_VALIDATE_INT, ['options' => ['min_range' => 1]]);

        return $fence === false ? null : $fence;
    }

    public function check(int|string $id, int $fence): Verdict
    {
        if (! $this->pdo->inTransaction()) {
            throw new \LogicException('a fence is checked in the transaction of the write that it protects');
        }
        ['name' => $table, 'key' => $key] = get_object_vars($this->table);
        $lock = ' FOR UPDATE';
        if ($this->pdo->getAttribute(PDO::ATTR_DRIVER_NAME) === 'sqlite') {
            // It knows no locks on rows. Whoever has written is the only one who may, until the end of the transaction.
            $this->pdo->prepare("UPDATE $table SET lock_fence = lock_fence WHERE $key = ?")->execute([$id]);
            $lock = '';
        }
        $row = $this->pdo->prepare("SELECT locked_by, lock_fence FROM $table WHERE $key = ?$lock");
        $row->execute([$id]);
        $found = $row->fetch(PDO::FETCH_NUM);

        return match (true) {
            $found === false => Verdict::Missing,
            (int) $found[1] < $fence => Verdict::NotYet,
            (int) $found[1] > $fence => Verdict::TakenOver,
            $found[0] === null => Verdict::Ended,
            default => Verdict::Held,
        };
    }
}
