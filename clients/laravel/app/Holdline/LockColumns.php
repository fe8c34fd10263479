<?php

declare(strict_types=1);

namespace App\Holdline;

use PDO;

/** Keeps `locked_by` and `lock_fence` of a table as the log has them, whatever comes twice, late, or not at all. */
final class LockColumns
{
    /** @param string $prefix What resources of this table begin with: `order:` of `order:42` */
    public function __construct(private readonly PDO $pdo, private readonly Table $table, private readonly string $prefix) {}

    /** False: it is about something else, or nothing new. */
    public function apply(Entry $entry): bool
    {
        $id = substr($entry->resource, strlen($this->prefix));
        if ($entry->fence === null || ! str_starts_with($entry->resource, $this->prefix) || ! preg_match('/^\d{1,18}$/', $id)) {
            return false;
        }
        ['name' => $table, 'key' => $key] = get_object_vars($this->table);
        // The fence tells old from new. An end moves it on, too: the beginning that belongs to it may have been given up.
        [$sql, $values] = $entry->kind === 'locked'
            ? ["UPDATE $table SET locked_by = ?, lock_fence = ? WHERE $key = ? AND lock_fence < ?", [$entry->principal, $entry->fence]]
            : ["UPDATE $table SET locked_by = NULL, lock_fence = ? WHERE $key = ? AND lock_fence <= ?", [$entry->fence]];
        $statement = $this->pdo->prepare($sql);
        $statement->execute([...$values, $id, $entry->fence]);

        return $statement->rowCount() === 1;
    }
}
