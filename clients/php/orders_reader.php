<?php

/**
 * Reads Holdline's log straight from PostgreSQL and keeps locked_by in a table of orders.
 *
 *     DATABASE_URL=postgres://… php orders_reader.php            until stopped
 *     DATABASE_URL=postgres://… php orders_reader.php --once     to the end of the log, then exit
 *
 *     CREATE TABLE orders (id bigint PRIMARY KEY, …, locked_by text, lock_fence bigint);
 *
 * Each order is written in the transaction that stores how far the log was read: kill this at any moment, and every lock and every
 * unlock still takes effect exactly once, in order. Any number of copies may run; they share the shards. Needs pdo_pgsql.
 */

declare(strict_types=1);

const CONSUMER = 'orders-php';
const LEASE = '10 s';
const RENEW_EVERY = 3.0;
const POLL_EVERY_MS = 1000;
const BATCH = 200;

/** One row per shard, once. A new reader begins with the oldest entry. */
const CREATE = <<<'SQL'
    INSERT INTO holdline.consumer (name, shard, position)
    SELECT :name, shard, first_position - 1 FROM holdline.shard_head
    ON CONFLICT (name, shard) DO NOTHING
    SQL;

/**
 * Shards that nobody else reads. A new epoch makes the claims of whoever read them before worthless. A lease further away than it is
 * long comes from a clock that was set back.
 */
const CLAIM = <<<'SQL'
    UPDATE holdline.consumer c SET owner = :owner, epoch = c.epoch + 1, lease_until = clock_timestamp() + CAST(:lease AS interval)
      FROM (SELECT shard FROM holdline.consumer
             WHERE name = :name AND (owner IS NULL OR owner = :owner OR lease_until < clock_timestamp()
                   OR lease_until > clock_timestamp() + CAST(:lease AS interval))
             ORDER BY shard FOR UPDATE SKIP LOCKED) free
     WHERE c.name = :name AND c.shard = free.shard
    RETURNING c.shard, c.position, c.epoch
    SQL;

const READ = <<<'SQL'
    SELECT position, kind, type, resource, principal, fence FROM holdline.event
     WHERE shard = :shard AND position > :position ORDER BY position LIMIT :batch
    SQL;

/** No row: somebody else has the shard by now. Then nothing of this transaction may stay. */
const ACKNOWLEDGE = <<<'SQL'
    UPDATE holdline.consumer SET position = :upto, attempts = 0, next_try = NULL, last_error = NULL
     WHERE name = :name AND shard = :shard AND epoch = :epoch AND position = :position
    SQL;

const NOTE_FAILURE = <<<'SQL'
    UPDATE holdline.consumer SET attempts = attempts + 1, last_error = :error
     WHERE name = :name AND shard = :shard AND epoch = :epoch AND position = :position
    SQL;

const GIVE_UP = 'UPDATE holdline.consumer SET owner = NULL, lease_until = NULL WHERE name = :name AND owner = :owner';

/**
 * By kind, and not by the name alone: handlers may emit events of any name. The fence keeps an old entry from touching what a newer
 * lock has written.
 */
const STATEMENTS = [
    'locked OrderLocked' => 'UPDATE orders SET locked_by = :principal, lock_fence = :fence WHERE id = :order AND coalesce(lock_fence, 0) < :fence',
    'unlocked OrderUnlocked' => 'UPDATE orders SET locked_by = NULL WHERE id = :order AND lock_fence = :fence',
];

/** The shard is somebody else's. */
final class Lost extends RuntimeException {}

/** An entry that cannot be applied, or is missing. */
final class Stuck extends RuntimeException {}

function connect(string $url): PDO
{
    $parts = parse_url($url);
    parse_str($parts['query'] ?? '', $options);
    $dsn = sprintf(
        'pgsql:host=%s;port=%d;dbname=%s;application_name=%s',
        $options['host'] ?? $parts['host'],
        $parts['port'] ?? 5432,
        ltrim($parts['path'] ?? '', '/'),
        CONSUMER,
    );
    return new PDO($dsn, urldecode($parts['user'] ?? ''), urldecode($parts['pass'] ?? ''), [
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
        PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
        // A name may stand in a statement more than once.
        PDO::ATTR_EMULATE_PREPARES => true,
    ]);
}

function run(PDO $connection, string $sql, array $values): PDOStatement
{
    $statement = $connection->prepare($sql);
    foreach ($values as $name => $value) {
        $statement->bindValue($name, $value, is_int($value) ? PDO::PARAM_INT : PDO::PARAM_STR);
    }
    $statement->execute();
    return $statement;
}

function apply(PDO $connection, array $event): void
{
    [$kind, $order] = explode(':', $event['resource'], 2) + [1 => ''];
    $sql = STATEMENTS["{$event['kind']} {$event['type']}"] ?? null;
    if ($sql === null || $kind !== 'order' || !ctype_digit($order)) {
        return;
    }
    $values = ['fence' => (int) $event['fence'], 'order' => (int) $order];
    run($connection, $sql, $event['kind'] === 'locked' ? $values + ['principal' => $event['principal']] : $values);
}

/** One transaction; how many entries it took. */
function readBatch(PDO $connection, array &$claim, int $limit): int
{
    $connection->beginTransaction();
    try {
        $place = ['shard' => $claim['shard'], 'position' => $claim['position']];
        $events = run($connection, READ, $place + ['batch' => $limit])->fetchAll();
        $position = $claim['position'];
        foreach ($events as $event) {
            if ((int) $event['position'] !== ++$position) {
                // Positions have no holes: what is missing was deleted before this reader existed, or it was rewound too far.
                throw new Stuck("position $position is missing");
            }
            apply($connection, $event);
        }
        if ($events !== []) {
            $moved = run($connection, ACKNOWLEDGE, $place + ['name' => CONSUMER, 'epoch' => $claim['epoch'], 'upto' => $position]);
            if ($moved->rowCount() !== 1) {
                throw new Lost();
            }
        }
        $connection->commit();
        $claim['position'] = $position;
        return count($events);
    } catch (Throwable $error) {
        if ($connection->inTransaction()) {
            $connection->rollBack();
        }
        throw $error;
    }
}

/** Reads to the end, or until it is time to renew the claims. How many entries that were. */
function readShard(PDO $connection, array &$claim, float $deadline): int
{
    $before = $claim['position'];
    $limit = BATCH;
    while (microtime(true) < $deadline) {
        try {
            if (readBatch($connection, $claim, $limit) < $limit) {
                break;
            }
        } catch (Lost) {
            // The next claim says what is left to read here.
            break;
        } catch (PDOException | Stuck $error) {
            if ($error instanceof PDOException && !preg_match('/^2[123]/', (string) $error->getCode())) {
                throw $error;
            }
            if ($limit > 1) {
                // One by one: what stands before the entry that fails is not to fail with it.
                $limit = 1;
                continue;
            }
            // This reader lets a shard wait at what fails; `holdline consumers skip` takes an entry out of the way.
            fwrite(STDERR, "shard {$claim['shard']} after {$claim['position']}: {$error->getMessage()}\n");
            run($connection, NOTE_FAILURE, $claim + ['name' => CONSUMER, 'error' => $error->getMessage()]);
            break;
        }
    }
    return $claim['position'] - $before;
}

function follow(string $url, bool $once): void
{
    $owner = gethostname() . '-' . getmypid();
    [$connection, $bell] = [connect($url), connect($url)];
    run($connection, CREATE, ['name' => CONSUMER]);
    // A ring says "look". It may get lost, so there is a look every second in any case.
    $bell->exec('LISTEN holdline');
    try {
        while (true) {
            $deadline = microtime(true) + RENEW_EVERY;
            $claims = run($connection, CLAIM, ['name' => CONSUMER, 'owner' => $owner, 'lease' => LEASE])->fetchAll();
            do {
                $read = 0;
                foreach ($claims as &$claim) {
                    $read += readShard($connection, $claim, $deadline);
                }
                unset($claim);
                if ($once && $read === 0) {
                    return;
                }
                if ($read === 0) {
                    $bell->pgsqlGetNotify(PDO::FETCH_ASSOC, POLL_EVERY_MS);
                }
            } while (microtime(true) < $deadline);
        }
    } finally {
        try {
            run($connection, GIVE_UP, ['name' => CONSUMER, 'owner' => $owner]);
        } catch (PDOException) {
            // It is away: the lease runs out.
        }
    }
}

$once = in_array('--once', $argv, true);
while (true) {
    try {
        follow(getenv('DATABASE_URL') ?: exit("set DATABASE_URL\n"), $once);
        exit(0);
    } catch (PDOException $error) {
        fwrite(STDERR, "the database does not answer: {$error->getMessage()}\n");
        if ($once) {
            exit(1);
        }
        sleep(1);
    }
}
