<?php
// As much of Laravel as the guides' PHP touches. On the command line: one request to the routes, and what was broadcast as JSON. Under
// PHP's own server: routes, /broadcasting/auth and /broadcasting/user-auth, a SQLite database. Who asks is told by the cookie "user".

namespace Illuminate\Broadcasting {
    class Channel { public function __construct(public string $name) {} }
    class PrivateChannel extends Channel { public function __construct(string $name) { parent::__construct("private-$name"); } }
}

namespace Illuminate\Contracts\Broadcasting {
    interface ShouldBroadcast {}
    interface ShouldBroadcastNow extends ShouldBroadcast {}
}

namespace Illuminate\Foundation\Events {
    trait Dispatchable
    {
        public static function dispatch(...$arguments): void { \Guide::$dispatched[] = new static(...$arguments); }
    }
}

namespace Illuminate\Http {
    class Request
    {
        public function __construct(private array $route = []) {}
        public function __get(string $name): mixed { return $this->route[$name] ?? $_POST[$name] ?? $this->body()[$name] ?? null; }
        public function getContent(): string { return file_get_contents('php://input'); }
        public function header(string $name): ?string { return $_SERVER['HTTP_' . strtoupper(strtr($name, '-', '_'))] ?? null; }
        public function json(?string $key = null): mixed
        {
            return $key === null ? new class($this->body()) {
                public function __construct(private array $body) {}
                public function get(string $key): mixed { return $this->body[$key] ?? null; }
            } : $this->body()[$key] ?? null;
        }
        public function user(): ?\App\Models\User { return \Guide::user(); }
        private function body(): array { return json_decode($this->getContent(), true) ?? []; }
    }
}

namespace App\Models {
    class User
    {
        public function __construct(public string $id, public string $name) {}
        public function can(string $ability, mixed $what = null): bool { return $this->id !== 'mallory'; }
    }
}

namespace Illuminate\Database\Migrations { abstract class Migration {} }

namespace Illuminate\Database\Schema {
    class Blueprint
    {
        public array $columns = [];
        public function __call(string $type, array $arguments): static
        {
            match ($type) {
                'string' => $this->columns[] = "{$arguments[0]} text",
                'unsignedBigInteger' => $this->columns[] = "{$arguments[0]} integer",
                'nullable' => null,
                'default' => $this->columns[array_key_last($this->columns)] .= " not null default {$arguments[0]}",
            };
            return $this;
        }
    }
}

namespace Illuminate\Support { class Str { public static function after(string $text, string $start): string { return explode($start, $text, 2)[1] ?? $text; } } }

namespace Illuminate\Support\Facades {
    class Route
    {
        public static function __callStatic(string $method, array $arguments): void { \Guide::$routes[] = [strtoupper($method), ...$arguments]; }
    }
    class Broadcast
    {
        public static function channel(string $pattern, \Closure $may): void { \Guide::$channels[$pattern] = $may; }
        public static function resolveAuthenticatedUserUsing(\Closure $who): void { \Guide::$who = $who; }
    }
    class DB
    {
        public static function update(string $sql, array $values): int
        {
            $statement = \Guide::database()->prepare($sql);
            $statement->execute($values);
            return $statement->rowCount();
        }
    }
    class Schema
    {
        public static function table(string $table, \Closure $describe): void
        {
            $describe($blueprint = new \Illuminate\Database\Schema\Blueprint());
            foreach ($blueprint->columns as $column) {
                if (!preg_match('/\b' . explode(' ', $column)[0] . '\b/', \Guide::columns($table))) {
                    \Guide::database()->exec("ALTER TABLE $table ADD COLUMN $column");
                }
            }
        }
    }
}

namespace {
    class Aborted extends Exception {}
    class Guide
    {
        public static array $routes = [], $channels = [], $dispatched = [];
        public static ?Closure $who = null;
        private static ?PDO $database = null;

        public static function user(): ?App\Models\User
        {
            $id = $_COOKIE['user'] ?? null;
            return $id === null ? null : new App\Models\User($id, ucfirst($id));
        }
        public static function database(): PDO
        {
            if (self::$database === null) {
                self::$database = new PDO('sqlite:' . getenv('GUIDE_DATABASE'));
                self::$database->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
                self::$database->exec("CREATE TABLE IF NOT EXISTS orders (id integer PRIMARY KEY, note text);
                    INSERT OR IGNORE INTO orders (id, note) VALUES (42, 'as it was');");
            }
            return self::$database;
        }
        public static function columns(string $table): string
        {
            return self::database()->query("SELECT group_concat(name, ' ') FROM pragma_table_info('$table')")->fetchColumn();
        }
        public static function answer(string $method, string $path): mixed
        {
            foreach (self::$routes as [$verb, $pattern, $action]) {
                $regex = '#^/?' . preg_replace('/\{(\w+)\}/', '(?<$1>[^/]+)', ltrim($pattern, '/')) . '$#';
                if ($verb === $method && preg_match($regex, ltrim($path, '/'), $found)) {
                    $captures = array_filter($found, is_string(...), ARRAY_FILTER_USE_KEY);
                    $arguments = array_map(fn (ReflectionParameter $parameter) => match ((string) $parameter->getType()) {
                        Illuminate\Http\Request::class => new Illuminate\Http\Request(),
                        default => $captures[$parameter->getName()],
                    }, (new ReflectionFunction($action))->getParameters());
                    return $action(...$arguments);
                }
            }
            throw new Aborted('', 404);
        }
        /** What Laravel's own two routes sign. */
        public static function signed(string $path): array
        {
            $socket = $_POST['socket_id'];
            $user = self::user() ?? throw new Aborted('', 403);
            [$key, $secret] = [getenv('PUSHER_APP_KEY'), getenv('PUSHER_APP_SECRET')];
            if ($path === '/broadcasting/user-auth') {
                $data = json_encode((self::$who)(new Illuminate\Http\Request()));
                return ['auth' => "$key:" . hash_hmac('sha256', "$socket::user::$data", $secret), 'user_data' => $data];
            }
            $channel = $_POST['channel_name'];
            foreach (self::$channels as $pattern => $may) {
                $regex = '#^private-' . preg_replace('/\\\\\{(\w+)\\\\\}/', '(?<$1>[^.]+)', preg_quote($pattern, '#')) . '$#';
                if (preg_match($regex, $channel, $found) && $may($user, ...array_filter($found, is_string(...), ARRAY_FILTER_USE_KEY))) {
                    return ['auth' => "$key:" . hash_hmac('sha256', "$socket:$channel", $secret)];
                }
            }
            throw new Aborted('', 403);
        }
    }

    function config(string $key): ?string { return $key === 'broadcasting.connections.pusher.secret' ? getenv('PUSHER_APP_SECRET') : null; }
    function abort_unless(bool $so, int $status, string $message = ''): void { if (!$so) throw new Aborted($message, $status); }
    function abort_if(bool $so, int $status, string $message = ''): void { abort_unless(!$so, $status, $message); }
    function response() { return new class { public function noContent(): int { return 204; } }; }
    function request(): Illuminate\Http\Request { return new Illuminate\Http\Request(); }

    // The server's router: files that are there are sent by the server itself.
    if (PHP_SAPI === 'cli-server' && preg_match('#^/(page\.html|vendor/)#', $_SERVER['REQUEST_URI'])) return false;
    foreach (json_decode(getenv('GUIDE_FILES'), true) as $file) {
        $made = require_once $file;
        if ($made instanceof Illuminate\Database\Migrations\Migration) $made->up();
        elseif (is_object($made) && method_exists($made, 'boot')) $made->boot();
    }

    if (PHP_SAPI === 'cli') {
        Guide::answer(...json_decode(getenv('GUIDE_REQUEST'), true));
        $all = array_map(fn ($event) => [
            'event' => $event::class,
            'channel' => $event->broadcastOn()->name,
            'data' => get_object_vars($event),
            'now' => $event instanceof Illuminate\Contracts\Broadcasting\ShouldBroadcastNow,
        ], Guide::$dispatched);
        exit(json_encode($all, JSON_THROW_ON_ERROR));
    }
    $path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
    try {
        $answer = str_starts_with($path, '/broadcasting/') ? Guide::signed($path) : Guide::answer($_SERVER['REQUEST_METHOD'], $path);
        if (is_int($answer)) {
            http_response_code($answer);
        } else {
            header('Content-Type: application/json');
            echo json_encode($answer);
        }
    } catch (Aborted $refused) {
        http_response_code($refused->getCode());
        echo $refused->getMessage();
    }
}
