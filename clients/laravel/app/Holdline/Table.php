<?php

declare(strict_types=1);

namespace App\Holdline;

/** Where locks stand: a table with a primary key, `locked_by` and `lock_fence`. */
final class Table
{
    public function __construct(public readonly string $name, public readonly string $key = 'id')
    {
        foreach ([$name, $key] as $identifier) {
            // They become part of statements.
            if (! preg_match('/^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$/', $identifier)) {
                throw new \InvalidArgumentException("$identifier is not the name of a table or a column");
            }
        }
    }
}
