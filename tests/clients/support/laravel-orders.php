<?php
// An application made of clients/laravel, with the router, the requests and the Eloquent that Debian packages of Laravel, for PHP's own
// server. DATABASE is a DSN of PDO. With the argument "migrate" it makes its tables.

declare(strict_types=1);

namespace {
    // Debian's Laravel is older than its PHP.
    error_reporting(E_ALL & ~E_DEPRECATED);
    const RECIPE = __DIR__ . '/../../../clients/laravel/';

    foreach (['Container', 'Database', 'Events', 'Http', 'Routing', 'Support'] as $part) {
        require_once "Illuminate/$part/autoload.php";
    }
    // As Laravel's Composer has it: App\ is app/.
    spl_autoload_register(function (string $class) {
        $file = RECIPE . 'app/' . strtr(substr($class, 4), '\\', '/') . '.php';
        if (str_starts_with($class, 'App\\') && file_exists($file)) {
            require $file;
        }
    });
}

namespace App\Models {
    use App\Models\Concerns\HasLockFence;
    use Illuminate\Database\Eloquent\Model;

    class Order extends Model
    {
        use HasLockFence;

        public $timestamps = false;
        protected $guarded = [];

        /** Says that it was read, to a test that asks for that. */
        public function resolveRouteBinding($value, $field = null)
        {
            $order = parent::resolveRouteBinding($value, $field);
            if (isset($_SERVER['HTTP_X_TELL'])) {
                touch($_SERVER['HTTP_X_TELL']);
            }

            return $order;
        }
    }
}

namespace App\Http\Controllers {
    use App\Models\Order;
    use Illuminate\Http\JsonResponse;
    use Illuminate\Http\Request;

    final class OrderController
    {
        public function update(Request $request, Order $order): JsonResponse
        {
            // Until the test says so: a save that takes its time, and says where it is.
            if ($request->input('wait_for')) {
                touch($request->input('wait_for') . '.reached');
            }
            while ($request->input('wait_for') && ! file_exists($request->input('wait_for'))) {
                usleep(10_000);
            }
            $order->fill($request->only('note'))->save();
            match ($request->input('fail')) {
                'throw' => throw new \RuntimeException('a bug in the application'),
                'refuse' => $status = 422,
                default => $status = 200,
            };

            return new JsonResponse(['note' => $order->note, 'locked_by' => $order->locked_by], $status);
        }

        public function model(Request $request, Order $order): JsonResponse
        {
            $order->fill($request->only('note'))->saveHolding((int) $request->header('X-Holdline-Fence'));

            return new JsonResponse(['locked' => $order->isLocked()]);
        }

        public function scope(Request $request, string $id): JsonResponse
        {
            $saved = Order::whereKey($id)->whereLockFence((int) $request->header('X-Holdline-Fence'))->update($request->only('note'));

            return new JsonResponse(['saved' => $saved]);
        }
    }
}

namespace {
    use App\Http\Controllers\OrderController;
    use App\Http\Middleware\EnsureHoldsLock;
    use Illuminate\Container\Container;
    use Illuminate\Contracts\Debug\ExceptionHandler;
    use Illuminate\Database\Capsule\Manager;
    use Illuminate\Events\Dispatcher;
    use Illuminate\Http\Request;
    use Illuminate\Http\Response;
    use Illuminate\Routing\Middleware\SubstituteBindings;
    use Illuminate\Routing\Router;
    use Illuminate\Support\Facades\Facade;
    use Illuminate\Support\Facades\Route;

    function env(string $name, mixed $default = null): mixed
    {
        return getenv($name) === false ? $default : getenv($name);
    }

    function config(string $key): mixed
    {
        [$file, $name] = explode('.', $key, 2);

        return (require RECIPE . "config/$file.php")[$name];
    }

    $app = Container::getInstance();
    Facade::setFacadeApplication($app);
    $dsn = getenv('DATABASE');
    $capsule = new Manager($app);
    if (str_starts_with($dsn, 'sqlite:')) {
        $capsule->addConnection(['driver' => 'sqlite', 'database' => substr($dsn, 7)]);
        $capsule->getConnection()->statement('PRAGMA busy_timeout = 10000');
    } else {
        ['host' => $host, 'port' => $port, 'path' => $name] = parse_url($dsn);
        $capsule->addConnection(['driver' => 'pgsql', 'host' => $host, 'port' => $port, 'database' => ltrim($name, '/'), 'username' => 'postgres']);
    }
    $capsule->setAsGlobal();
    $capsule->bootEloquent();
    $app->instance('db', $capsule->getDatabaseManager());

    if (($argv[1] ?? '') === 'migrate') {
        $schema = $capsule->schema();
        $schema->create('orders', function ($table) {
            $table->bigIncrements('id');
            $table->string('note')->default('');
        });
        foreach (range(1, 20) as $id) {
            $capsule->table('orders')->insert(['id' => $id]);
        }
        foreach (glob(RECIPE . 'database/migrations/*.php') as $file) {
            (require $file)->up();
        }
        exit;
    }

    $router = new Router(new Dispatcher($app), $app);
    $app->instance('router', $router);
    $app->instance(Illuminate\Contracts\Routing\Registrar::class, $router);
    // Laravel makes an answer of what a controller throws, before any middleware hears of it.
    $app->singleton(ExceptionHandler::class, fn () => new class implements ExceptionHandler {
        public function report(Throwable $e) {}
        public function shouldReport(Throwable $e) { return false; }
        public function renderForConsole($output, Throwable $e) {}
        public function render($request, Throwable $e)
        {
            if (method_exists($e, 'render')) {
                return $e->render();
            }
            $missing = $e instanceof Illuminate\Database\Eloquent\ModelNotFoundException;

            return new Response($e::class . ': ' . $e->getMessage(), $missing ? 404 : 500);
        }
    });
    require RECIPE . 'routes/holdline.php';
    Route::put('/orders/{order}', [OrderController::class, 'update'])->middleware([SubstituteBindings::class, EnsureHoldsLock::class . ':order']);
    Route::put('/model/{order}', [OrderController::class, 'model'])->middleware(SubstituteBindings::class);
    Route::put('/scope/{id}', [OrderController::class, 'scope']);
    Route::put('/unbound/{order}', fn () => 'never')->middleware(EnsureHoldsLock::class . ':order');
    Route::put('/inbox/{order}', function (Request $request, string $order) use ($capsule) {
        $entry = App\Holdline\Entry::fromJson($request->getContent());
        $capsule->getConnection()->transaction(function ($connection) use ($entry, $order, $request) {
            if ((new App\Holdline\Inbox($connection->getPdo()))->accept($entry)) {
                // Something that is not the same when it is done twice.
                $connection->update("UPDATE orders SET note = note || 'x' WHERE id = ?", [$order]);
            }
            if ($request->header('X-Fail')) {
                throw new RuntimeException('after the effect');
            }
        });
    });
    Route::delete('/inbox', fn () => array_map([new App\Holdline\Inbox($capsule->getConnection()->getPdo()), 'forget'], [30, -1]));
    Route::get('/orders/{id}', fn (string $id) => (array) $capsule->table('orders')->find($id));
    Route::get('/inbox', fn () => $capsule->table('holdline_inbox')->orderBy('event_id')->pluck('event_id')->all());

    $request = Request::capture();
    $app->instance(Request::class, $request);
    try {
        $response = $router->dispatch($request);
    } catch (Throwable $error) {
        $response = new Response($error::class . ': ' . $error->getMessage(), 500);
    }
    $response->send();
}
