<?php

use App\Models\Order;
use App\Models\User;
use Illuminate\Support\Facades\Broadcast;

// Who may open an order at all. Who may edit it now is what the broker decides.
Broadcast::channel('order.{order}', fn (User $user, Order $order) => $user->can('update', $order));
