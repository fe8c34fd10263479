<?php

return [
    // What deliveries of the broker are signed with: the app's secret.
    'secret' => env('PUSHER_APP_SECRET'),

    // The one before, while it is being rotated.
    'previous_secret' => env('PUSHER_APP_PREVIOUS_SECRET'),
];
