<?php

declare(strict_types=1);

namespace App\Http\Middleware;

use App\Holdline\FenceGuard;
use App\Holdline\LockLost;
use App\Holdline\Table;
use App\Holdline\Verdict;
use Closure;
use Illuminate\Database\Eloquent\Model;
use Illuminate\Http\JsonResponse;
use Illuminate\Http\Request;
use Symfony\Component\HttpFoundation\Response;
use Throwable;

/**
 * Lets a request through only with the fence of the lock that is alive, and keeps it so until the request has been answered: the row is
 * locked, and all that the controller writes on this connection is committed with it, or, if it fails, not at all.
 *
 *     Route::put('/orders/{order}', …)->middleware(EnsureHoldsLock::class.':order');
 */
final class EnsureHoldsLock
{
    /** @param string $parameter The parameter of the route that is bound to a model */
    public function handle(Request $request, Closure $next, string $parameter): Response
    {
        $model = $request->route($parameter);
        if (! $model instanceof Model) {
            throw new \LogicException("the route's {{$parameter}} must be bound to a model");
        }
        $given = $request->header('X-Holdline-Fence') ?? $request->input('holdline_fence');
        if ($given === null || $given === '') {
            return $this->refuse(428, 'fence_required', 'Send the fence of your lock: the header X-Holdline-Fence, or the field holdline_fence.');
        }
        $fence = FenceGuard::parse($given);
        if ($fence === null) {
            return $this->refuse(400, 'fence_invalid', 'X-Holdline-Fence must be a positive whole number.');
        }
        $connection = $model->getConnection();
        $connection->beginTransaction();
        try {
            $guard = new FenceGuard($connection->getPdo(), new Table($model->getTable(), $model->getKeyName()));
            $verdict = $guard->check($model->getKey(), $fence);
            if ($verdict !== Verdict::Held) {
                $connection->rollBack();

                return (new LockLost($verdict, $fence))->render();
            }
            // It was read before it was locked.
            $model->refresh();
            $response = $next($request);
        } catch (Throwable $error) {
            $connection->rollBack();
            throw $error;
        }
        // Laravel has made an answer of whatever the controller has thrown.
        $failed = $response->getStatusCode() >= 400 || ! empty($response->exception);
        $failed ? $connection->rollBack() : $connection->commit();

        return $response;
    }

    private function refuse(int $status, string $error, string $message): JsonResponse
    {
        return new JsonResponse(['error' => $error, 'message' => $message], $status);
    }
}
