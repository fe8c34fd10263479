<?php

use App\Http\Controllers\HoldlineController;
use Illuminate\Support\Facades\Route;

// Outside the group "web", without session and CSRF: it is the signature that counts.
Route::post('/holdline', HoldlineController::class);
