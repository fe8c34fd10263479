<?php
// What a PHP application does next to a broker, with PHP's own json_encode, http_build_query, hash_hmac and HTTP client, the way
// the PHP server SDK puts them together. One JSON request on standard input, one JSON answer on standard output.

declare(strict_types=1);

const APP = ['key' => 'app-key', 'secret' => 'app-secret', 'id' => 'app-id'];

$in = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
$out = match ($in['do']) {
    'trigger' => trigger($in),
    'get' => request($in['url'], 'GET', '/apps/' . APP['id'] . $in['path'], $in['params'] ?? [], null, $in['base'] ?? ''),
    'channel-auth' => channelAuth($in['socket_id'], $in['channel'], $in['member'] ?? null),
    'user-auth' => userAuth($in['socket_id'], $in['user']),
    'encrypt' => encrypt($in['channel'], $in['data'], base64_decode($in['master_key'])),
};
// What PHP made is handed back as base64, so that nothing on the way can tidy it up.
echo json_encode(array_map(fn ($value) => is_string($value) ? base64_encode($value) : $value, $out), JSON_THROW_ON_ERROR);

/** Laravel's broadcaster: `channel` for one target, `channels` for more; data is JSON text inside JSON text. */
function trigger(array $in): array
{
    $post = ['name' => $in['event'], 'data' => is_string($in['data']) ? $in['data'] : json_encode($in['data'], JSON_THROW_ON_ERROR)];
    count($in['channels']) === 1 ? $post['channel'] = $in['channels'][0] : $post['channels'] = $in['channels'];
    $post += $in['params'] ?? [];
    $body = json_encode($post, JSON_THROW_ON_ERROR);

    return request($in['url'], 'POST', '/apps/' . APP['id'] . '/events', [], $body, $in['base'] ?? '') + ['body' => $body, 'data' => $post['data']];
}

function request(string $url, string $method, string $path, array $params, ?string $body, string $base): array
{
    $params += ['auth_key' => APP['key'], 'auth_timestamp' => (string) time(), 'auth_version' => '1.0'];
    if ($body !== null) {
        $params['body_md5'] = md5($body);
    }
    ksort($params);
    $text = implode('&', array_map(fn ($key, $value) => "$key=$value", array_keys($params), $params));
    $params['auth_signature'] = hash_hmac('sha256', "$method\n$path\n$text", APP['secret'], false);
    $query = http_build_query($params);
    $context = stream_context_create(['http' => [
        'method' => $method,
        'header' => ['Content-Type: application/json', 'X-Pusher-Library: pusher-http-php 7.2.7'],
        'content' => $body ?? '',
        'protocol_version' => 1.1,
        'ignore_errors' => true,
        'timeout' => 10,
    ]]);
    $answer = file_get_contents("$url$base$path?$query", false, $context);
    $status = (int) explode(' ', $http_response_header[0])[1];

    // An SDK decodes to objects, and to arrays on request: an empty map must stay a map for the first.
    $decoded = json_decode($answer);
    $channels = is_object($decoded) && isset($decoded->channels) ? get_debug_type($decoded->channels) : null;

    return ['status' => $status, 'answer' => $answer, 'query' => $query, 'channels_are' => $channels];
}

function channelAuth(string $socketId, string $channel, ?array $member): array
{
    if ($member === null) {
        return ['auth' => signature("$socketId:$channel")];
    }
    $data = json_encode($member, JSON_THROW_ON_ERROR);

    return ['auth' => signature("$socketId:$channel:$data"), 'channel_data' => $data];
}

function userAuth(string $socketId, array $user): array
{
    $data = json_encode($user, JSON_THROW_ON_ERROR);

    return ['auth' => signature("$socketId::user::$data"), 'user_data' => $data];
}

function signature(string $text): string
{
    return APP['key'] . ':' . hash_hmac('sha256', $text, APP['secret'], false);
}

function encrypt(string $channel, mixed $data, string $masterKey): array
{
    $secret = hash('sha256', $channel . $masterKey, true);
    $nonce = random_bytes(SODIUM_CRYPTO_SECRETBOX_NONCEBYTES);
    $cipher = sodium_crypto_secretbox(json_encode($data, JSON_THROW_ON_ERROR), $nonce, $secret);

    return ['data' => json_encode(['nonce' => base64_encode($nonce), 'ciphertext' => base64_encode($cipher)], JSON_THROW_ON_ERROR)];
}
