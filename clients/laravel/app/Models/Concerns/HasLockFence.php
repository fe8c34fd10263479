<?php

declare(strict_types=1);

namespace App\Models\Concerns;

use App\Holdline\FenceGuard;
use App\Holdline\LockLost;
use App\Holdline\Table;
use App\Holdline\Verdict;
use Illuminate\Database\Eloquent\Builder;

/**
 * For a model whose table has `locked_by` and `lock_fence`.
 *
 *     Order::whereKey($id)->whereLockFence($fence)->update(['note' => $note]);    // the number of rows says whether it was saved
 *     $order->fill($request->validated())->saveHolding($fence);                   // or throws LockLost, which is answered with 409
 */
trait HasLockFence
{
    public function scopeWhereLockFence(Builder $query, int $fence): void
    {
        $query->where($this->qualifyColumn('lock_fence'), $fence)->whereNotNull($this->qualifyColumn('locked_by'));
    }

    /**
     * Saves, if the fence is that of the lock that is alive.
     *
     * @throws LockLost
     */
    public function saveHolding(int $fence): void
    {
        $connection = $this->getConnection();
        $connection->transaction(function () use ($connection, $fence) {
            $verdict = (new FenceGuard($connection->getPdo(), new Table($this->getTable(), $this->getKeyName())))->check($this->getKey(), $fence);
            if ($verdict !== Verdict::Held) {
                throw new LockLost($verdict, $fence);
            }
            $this->save();
        });
    }

    public function isLocked(): bool
    {
        return $this->getAttribute('locked_by') !== null;
    }
}
