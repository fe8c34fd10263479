<?php
// As much of Laravel as a route in routes/api.php touches, for PHP's own server: LARAVEL_ROUTES names the file.

namespace Illuminate\Http {
    class Request
    {
        public function getContent(): string { return file_get_contents('php://input'); }
        public function header(string $name): ?string { return $_SERVER['HTTP_' . strtoupper(strtr($name, '-', '_'))] ?? null; }
        public function json(string $key): mixed { return json_decode($this->getContent(), true)[$key] ?? null; }
    }
}

namespace Illuminate\Support\Facades {
    class Route
    {
        public static array $posts = [];
        public static function post(string $path, \Closure $action): void { self::$posts["/api$path"] = $action; }
    }
}

namespace App\Jobs {
    class HandleWebhook
    {
        public static function dispatch(array $event): void { error_log(json_encode($event)); }
    }
}

namespace {
    class Aborted extends Exception {}
    function config(string $key): ?string { return $key === 'broadcasting.connections.pusher.secret' ? getenv('PUSHER_APP_SECRET') : null; }
    function abort_unless(bool $so, int $status): void { if (!$so) throw new Aborted('', $status); }
    function response() { return new class { public function noContent(): int { return 204; } }; }

    require getenv('LARAVEL_ROUTES');
    $action = Illuminate\Support\Facades\Route::$posts[$_SERVER['REQUEST_URI']] ?? null;
    try {
        http_response_code($_SERVER['REQUEST_METHOD'] === 'POST' && $action ? $action(new Illuminate\Http\Request()) : 404);
    } catch (Aborted $refused) {
        http_response_code($refused->getCode());
    }
}
