<?php

declare(strict_types=1);

namespace App\Holdline;

/** A body that is not an entry of the log. */
final class InvalidEntry extends \UnexpectedValueException {}
